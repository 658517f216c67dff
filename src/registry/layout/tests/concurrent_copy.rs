//! A copy into a layout that is swept at the same time.

use super::sweep::*;
use super::*;
use crate::registry::ImageStores;
use crate::registry::SweepKeep;
use crate::registry::layout::sweep;
use crate::registry::memory::{MemoryStore, SparseIndexes, StoreOperation};
use crate::transfer::{Attachments, CopyRequest, ExpectedTag, PlatformFilter, Transfer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_into_a_layout_that_is_swept_is_complete() {
    let from: Repository = "registry/app".parse().expect("a repository");
    let parsed = |text: Value| {
        Manifest::parse(Bytes::from(text.to_string()), None, Algorithm::Sha256).expect("a manifest")
    };
    let image = |layer: &Descriptor| {
        parsed(
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "layers": [layer] }),
        )
    };
    let index = |children: &[&Manifest]| {
        let children: Vec<Descriptor> = children.iter().map(|child| child.descriptor()).collect();
        parsed(
            json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children }),
        )
    };
    for _ in 0..4 {
        let (source, layout) = (
            Arc::new(MemoryStore::new(SparseIndexes::Allowed)),
            SweptLayout::new(),
        );
        // Old content of the target without a name: an image, and the layer of another image.
        let mut layers = Vec::new();
        for content in ["whole", "layer only", "last"] {
            let layer = Descriptor::new(
                "x",
                Digest::sha256(content.as_bytes()),
                content.len() as u64,
            );
            source
                .put_blob(&from, &layer, &InMemory(Bytes::from(content)), None)
                .await
                .expect("to write");
            layers.push(layer);
        }
        let [whole, other, last] = [0, 1, 2].map(|number| image(&layers[number]));
        for content in ["whole", "layer only"] {
            layout.blob(content).await;
        }
        layout
            .layouts
            .put_manifest(&layout.repository, &whole.digest.clone().into(), &whole)
            .await
            .expect("to write");
        layout.age();

        let nested = index(&[&last]);
        let root = index(&[&whole, &other, &nested]);
        for manifest in [&whole, &other, &last, &nested] {
            source
                .put_manifest(&from, &manifest.digest.clone().into(), manifest)
                .await
                .expect("to write");
        }
        source
            .put_manifest(&from, &tag("1").into(), &root)
            .await
            .expect("to write");
        let operation = LayoutOperation::new(&layout.repository, "sweep").expect("a layout");
        let moment = last.digest.to_string();
        source.fail_when(move |call| {
            // The copy has already found the existing content, which is not referenced yet.
            if call.operation == StoreOperation::Manifest && call.subject == moment {
                std::thread::sleep(Duration::from_millis(50));
                sweep::sweep(&operation, &SweepKeep::default()).expect("to sweep");
            }
            None
        });
        let transfer = Transfer::new(
            source.stores(),
            ImageStores::single(Arc::new(layout.layouts.clone())),
            crate::progress::silent(),
        );
        let (filter, name) = (PlatformFilter::All, tag("1"));
        let (reference, attachments) = (name.clone().into(), Attachments::Skip);
        let request = CopyRequest {
            item: "1",
            from: &from,
            reference,
            to: &layout.repository,
            tag: &name,
            expected: ExpectedTag::Absent,
            filter: &filter,
            attachments,
        };
        transfer.copy(request).await.expect("a copy");
        let left: Vec<&Digest> = layers
            .iter()
            .map(|layer| &layer.digest)
            .chain([&whole, &other, &last, &nested, &root].map(|manifest| &manifest.digest))
            .collect();
        assert!(left.into_iter().all(|digest| layout.file(digest).exists()));
    }
}
