//! The kits for CI servers, run as their users run them: components, actions and example
//! repositories by real runners, what `init` writes, the tool's image, and the project's own
//! releases.

mod gitea;
mod gitlab;
mod image;
mod init;
mod inputs;
mod release;
mod runner;
