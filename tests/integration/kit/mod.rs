//! The kits for CI servers, run as their users run them: actions and example repositories by a real runner, what `init` writes, the
//! tool's image, and the project's own releases.

mod gitea;
mod image;
mod init;
mod release;
mod runner;
