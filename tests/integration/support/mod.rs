//! Support for tests: an isolated environment to run programs in, real registries, fake servers,
//! unusual images, a real root file system.

pub(crate) mod attachments;
pub(crate) mod containers;
pub(crate) mod endoflife;
pub(crate) mod engines;
pub(crate) mod fake_server;
pub(crate) mod git;
pub(crate) mod gitea;
pub(crate) mod gitea_server;
pub(crate) mod gitlab;
pub(crate) mod images;
pub(crate) mod internet;
pub(crate) mod kit;
pub(crate) mod loopback_server;
pub(crate) mod proxy;
pub(crate) mod registry;
pub(crate) mod rootfs;
pub(crate) mod seaweed;
pub(crate) mod servers;
pub(crate) mod site;
pub(crate) mod tokens;
pub(crate) mod world;
