//! What buildah needs to work in a world of its own: where it keeps images, which registries speak plain HTTP, and whom it trusts.

use std::fs;

use super::world::World;

/// Returns the world with what buildah reads, and nothing of this machine's.
pub(crate) fn prepared(world: World, plain_host: &str) -> World {
    let (storage, registries) = (world.home().join("storage.conf"), world.home().join("registries.conf"));
    let kept = world.home().join("containers");
    let text = format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/graph\"\n", kept.display());
    fs::write(&storage, text).expect("a written file");
    fs::write(&registries, format!("[[registry]]\nlocation = \"{plain_host}\"\ninsecure = true\n")).expect("a written file");
    let policy = world.home().join(".config/containers");
    fs::create_dir_all(&policy).expect("new directories");
    fs::write(policy.join("policy.json"), r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).expect("a written file");
    world.variable("CONTAINERS_STORAGE_CONF", storage).variable("CONTAINERS_REGISTRIES_CONF", registries)
}
