//! GitLab's components: what they say of themselves, what they are made into, and whole pipelines
//! by gitlab-ci-local.

mod init;
mod modes;
mod pipelines;
mod site;
pub(super) mod template;
mod templates;
