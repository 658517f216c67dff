pub fn human_bytes(bytes: u64) -> String { format!("{bytes} B") }
