//! Check that paths of the configuration stay in its repository.

use std::path::Path;

use super::reader::{CheckContext, KeyLocation};
use crate::files::{leads_out, link_out_of};
use crate::model::Repository;

impl CheckContext<'_> {
    /// Reports an OCI layout that an untrusted job must not use, because it is outside of the
    /// repository, or that a symbolic link of the repository leads to.
    pub(super) fn check_layout(&self, repository: &Repository, at: &KeyLocation) {
        if let Repository::Layout { directory } = repository {
            self.check_store(directory, at);
        }
    }

    /// Reports a directory of images or records like [`check_layout`](Self::check_layout).
    pub(super) fn check_store(&self, directory: &Path, at: &KeyLocation) {
        let Some(root) = &self.root else { return };
        let is_outside = if self.variables.permissions().is_untrusted() {
            leads_out(root, directory)
        } else {
            link_out_of(root, directory).is_some()
        };
        if is_outside {
            self.report_outside(at);
        }
    }

    /// Reports a path that leads out of the repository of the configuration.
    pub(super) fn check_inside(&self, path: &Path, at: &KeyLocation) {
        if self.is_outside(path) {
            self.report_outside(at);
        }
    }

    /// Returns true if a path leads out of the repository of the configuration.
    pub(super) fn is_outside(&self, path: &Path) -> bool {
        self.root.as_ref().is_some_and(|root| leads_out(root, path))
    }

    fn report_outside(&self, at: &KeyLocation) {
        self.error(
            at,
            "the path leads out of the repository of the configuration",
            "set a path in the repository, or pass `--allow-outside`",
        );
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use crate::config::{SourceText, load};
    use crate::model::{JobTrust, Permissions, UntrustedReason, Variables};

    const UNTRUSTED: Permissions = Permissions {
        trust: JobTrust::Untrusted(UntrustedReason::MergeRequest),
        commands: false,
        outside: false,
    };

    /// Returns the keys of a configuration whose paths are rejected. `FIELDS` of an image, `TOP`
    /// and `PATH` are those of the configuration.
    fn rejected(text: &str, permissions: Permissions) -> Vec<String> {
        let world = tempfile::tempdir().expect("a directory");
        let root = world.path().join("checkout");
        fs::create_dir_all(root.join("images")).expect("a directory");
        fs::create_dir(root.join(".git")).expect("a directory");
        fs::create_dir(world.path().join("other")).expect("a directory");
        symlink("../other", root.join("link")).expect("a link");
        let source = SourceText {
            name: "imglife.yaml".to_owned(),
            text: text.to_owned(),
        };
        let variables = Variables::default().with_permissions(permissions);
        match load(&source, &root, &variables) {
            Ok(_) => Vec::new(),
            Err(errors) => errors
                .findings
                .iter()
                .inspect(|found| {
                    assert_eq!(
                        found.message, "the path leads out of the repository of the configuration",
                        "{text}"
                    );
                })
                .map(|found| found.path.clone())
                .collect(),
        }
    }

    fn image(fields: &str) -> String {
        format!(
            "build: {{ core_version: 1.0.0, registry: r.example/bases, images: [{{ name: a, type: core, mirror_image: r.example/m, mirror_tag: '1', {fields} }}] }}"
        )
    }

    #[test]
    fn paths_out_of_the_repository_are_rejected() {
        for (text, key) in [
            (image("folder: .."), "build.images[0].folder"),
            (image("folder: /etc"), "build.images[0].folder"),
            (image("folder: link"), "build.images[0].folder"),
            (
                image("folder: images/../../other"),
                "build.images[0].folder",
            ),
            (
                image("folder: ., tmpl: link/x.tmpl"),
                "build.images[0].tmpl",
            ),
            (
                "lifecycle: { eol_data_file: ../eol.yaml }".to_owned(),
                "lifecycle.eol_data_file",
            ),
            (
                "lifecycle: { eol_data_file: link/eol.yaml }".to_owned(),
                "lifecycle.eol_data_file",
            ),
            (
                "retention: { keep_last: 1, keep_from: [/etc/images] }".to_owned(),
                "retention.keep_from[0]",
            ),
        ] {
            let allowed = Permissions {
                outside: true,
                ..Permissions::default()
            };
            assert_eq!(rejected(&text, Permissions::default()), [key], "{text}");
            assert_eq!(rejected(&text, UNTRUSTED), [key], "{text}");
            assert_eq!(rejected(&text, allowed), Vec::<String>::new(), "{text}");
        }
        assert_eq!(
            rejected(&image("folder: images"), UNTRUSTED),
            Vec::<String>::new()
        );
    }

    #[test]
    fn stores_outside_are_for_trusted_jobs() {
        let outside = "registry: { provider: file, path: /srv/records }
sync: { entries: [{ source: 'ocidir://../up', target: 'ocidir:///srv/mirror', tag: '1' }] }
retention: { keep_last: 1, archive: { enabled: true, registry: 'ocidir://../archive' } }";
        assert_eq!(
            rejected(outside, Permissions::default()),
            Vec::<String>::new()
        );
        assert_eq!(
            rejected(outside, UNTRUSTED),
            [
                "registry.path",
                "sync.entries[0].source",
                "sync.entries[0].target",
                "retention.archive.registry"
            ]
        );
        let linked =
            "sync: { entries: [{ source: 'ocidir://up', target: 'ocidir://link/m', tag: '1' }] }";
        assert_eq!(
            rejected(linked, Permissions::default()),
            ["sync.entries[0].target"]
        );
    }
}
