//! An image with every kind of attachment.

use std::collections::BTreeMap;

use imglife::model::media_type;
use imglife::model::{Descriptor, Digest, Tag};
use serde_json::{Value, json};

use super::images::{Flavour, Graph, attested};

/// An image for two platforms with attestations of BuildKit, tagged `1.0`, and its attachments.
pub(crate) struct Attached {
    /// Image and attachments. Some attachments have tags.
    pub(crate) graph: Graph,
    /// Referrers of each subject, as the referrers API of the distribution specification lists
    /// them.
    pub(crate) referrers: BTreeMap<Digest, Vec<Value>>,
    cosign_tags: usize,
}

impl Attached {
    pub(crate) fn new() -> Attached {
        let mut graph = Graph::default();
        let index = attested(&mut graph);
        graph.tag("1.0", &index);
        let children = graph
            .manifests
            .last()
            .and_then(|content| content.manifest().children().map(<[Descriptor]>::to_vec));
        let child = children.expect("an index")[0].clone();
        let mut attached = Attached {
            graph,
            referrers: BTreeMap::new(),
            cosign_tags: 0,
        };

        attached.refer(
            &index,
            Some("application/vnd.example.signature"),
            "a signature",
        );
        let sbom = attached.refer(&index, None, "an SBOM");
        attached.refer(
            &child,
            Some("application/vnd.example.signature"),
            "a signature of one platform",
        );
        attached.refer(
            &sbom,
            Some("application/vnd.example.signature"),
            "a signature of the SBOM",
        );

        let [signature, attestation, _] = Tag::of_cosign(&index.digest);
        let [.., sbom_of_child] = Tag::of_cosign(&child.digest);
        attached.tagged(&signature, "cosign's signature");
        attached.tagged(&attestation, "cosign's attestation");
        let sbom = attached.tagged(&sbom_of_child, "cosign's SBOM");
        let [signature_of_sbom, ..] = Tag::of_cosign(&sbom.digest);
        attached.tagged(&signature_of_sbom, "cosign's signature of the SBOM");
        attached
    }

    /// Adds another signature of the image.
    pub(crate) fn add_signature(&mut self, text: &str) {
        let index = self.graph.tags[0].1.clone();
        self.refer(&index, Some("application/vnd.example.signature"), text);
    }

    /// Adds an artifact with the subject `subject`. Without an artifact type, the media type of its
    /// configuration counts.
    fn refer(
        &mut self,
        subject: &Descriptor,
        artifact_type: Option<&str>,
        text: &str,
    ) -> Descriptor {
        let config_type = "application/vnd.example.config.v1+json";
        let config = self.graph.blob(config_type, "{}");
        let layer = self
            .graph
            .blob("application/vnd.example.thing", text.to_owned());
        let annotations = json!({ "org.example.what": text, "größe": "1 < 2" });
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": config, "layers": [layer],
            "subject": { "mediaType": subject.media_type, "digest": subject.digest, "size": subject.size },
            "annotations": annotations,
        });
        if let Some(artifact_type) = artifact_type {
            manifest["artifactType"] = json!(artifact_type);
        }
        let descriptor = self.graph.manifest(media_type::OCI_MANIFEST, &manifest);
        let mut entry = json!(descriptor);
        entry["artifactType"] = json!(artifact_type.unwrap_or(config_type));
        entry["annotations"] = annotations;
        self.referrers
            .entry(subject.digest.clone())
            .or_default()
            .push(entry);
        descriptor
    }

    fn tagged(&mut self, tag: &Tag, text: &str) -> Descriptor {
        let image = self
            .graph
            .small_image(Flavour::Oci, "unknown/unknown", text);
        self.graph.tag(tag.as_str(), &image);
        self.cosign_tags += 1;
        image
    }

    /// Returns the number of attachments.
    pub(crate) fn count(&self) -> usize {
        self.referrers.values().map(Vec::len).sum::<usize>() + self.cosign_tags
    }

    /// Returns the referrers lists that clients maintain on registries without a referrers API. The
    /// entries have only the required fields, as some clients write them.
    pub(crate) fn lists(&self) -> Graph {
        let mut lists = self.graph.clone();
        lists.tags.clear();
        for (subject, referrers) in &self.referrers {
            let entries: Vec<Value> = referrers
                .iter()
                .map(|referrer| json!({ "mediaType": referrer["mediaType"], "digest": referrer["digest"], "size": referrer["size"] }))
                .collect();
            let list = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
            let list = lists.manifest(media_type::OCI_INDEX, &list);
            lists.tag(Tag::of_referrers(subject).as_str(), &list);
        }
        lists
    }
}
