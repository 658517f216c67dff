//! GitLab's components: what they say of themselves, what they are made into, and whole pipelines by gitlab-ci-local.

mod init;
mod pipelines;
mod site;
mod template;
mod templates;
