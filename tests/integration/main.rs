#[cfg(test)]
mod contract;
