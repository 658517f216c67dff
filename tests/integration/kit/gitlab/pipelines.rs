//! The examples and the components' own project, run by gitlab-ci-local.
