//! Configuration for buildah in an isolated environment: storage, registries over plain HTTP, trust
//! policy.

use std::fs;

use super::world::World;

/// Adds buildah's configuration to `world`, independent of the configuration of this machine.
pub(crate) fn prepared(world: World, plain_host: &str) -> World {
    let (storage, own) = (
        world.home().join("storage.conf"),
        world.home().join(".config/containers"),
    );
    fs::create_dir_all(&own).expect("new directories");
    let storage_root = world.home().join("containers");
    let text = format!(
        "[storage]\ndriver = \"vfs\"\nrunroot = \"{0}/run\"\ngraphroot = \"{0}/graph\"\n",
        storage_root.display()
    );
    fs::write(&storage, text).expect("a written file");
    fs::write(
        own.join("registries.conf"),
        format!("[[registry]]\nlocation = \"{plain_host}\"\ninsecure = true\n"),
    )
    .expect("a written file");
    fs::write(
        own.join("policy.json"),
        r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
    )
    .expect("a written file");
    world.variable("CONTAINERS_STORAGE_CONF", storage)
}
