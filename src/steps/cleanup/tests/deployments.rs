//! Images of deployed commits.

use super::*;
use crate::forge::Deployment;

const COMMIT: &str = "4f2a00000000000000000000000000000000abcd";

fn deployed(rules: &str) -> Config {
    config(&format!(
        "registry: {{ provider: gitlab, url: 'https://gitlab.example', project_id: 7 }}\n{MIRROR}\
         retention: {{ {rules}, foreign_bases: ['r.example/b/*'], keep_deployed: {{ environments: ['*'] }} }}\n"
    ))
}

/// Returns the record of a commit of a project.
fn built(image: &str, base: &str, project: &str, revision: &str) -> BuildRecord {
    BuildRecord {
        project: project.to_owned(),
        revision: revision.to_owned(),
        ..record(image, Some(base), None)
    }
}

fn deployments(project: &str, commits: &[&str]) -> ProjectDeployments {
    let deployed = commits.iter().map(|commit| Deployment {
        environment: "production".to_owned(),
        commit: (*commit).to_owned(),
    });
    ProjectDeployments {
        project: project.to_owned(),
        deployed: Ok(deployed.collect()),
    }
}

async fn world_with(
    sample: &SampleRepository,
    config: &Config,
    records: ObservedRecords,
    deployments: Option<&[ProjectDeployments]>,
) -> World {
    let (cache, progress) = (crate::transfer::no_cache(), crate::progress::silent());
    let stores = sample.store.stores();
    let observer = Observer {
        limits: ReadingLimits::default(),
        stores: &stores,
        cache: &*cache,
        progress: &*progress,
        now: now(),
    };
    let outside = OutsideFacts {
        deployments,
        ..OutsideFacts::default()
    };
    observe_with(config, &CleanupScope::default(), records, outside, observer).await
}

#[tokio::test]
async fn images_of_deployed_commits_are_needed_with_their_bases() {
    let sample = SampleRepository::mirror(&["1.0", "9"]).await;
    let config = deployed("keep_last: 1");
    let own = Digest::sha256(b"own");
    let base = Digest::sha256(b"base");
    for (revision, is_needed) in [
        (COMMIT, true),
        ("4F2A000000", true),
        ("4f2a000", true),
        ("4f2a00", false),
        ("", false),
        ("5f2a00000000000000000000000000000000abcd", false),
        ("4f2a00000000000000000000000000000000abcde", false),
    ] {
        let mut image = built("r.example/web:1", "r.example/b/a:1", "team/web", revision);
        image.digest = Some(own.clone());
        image.base_digest = Some(base.clone());
        // Another commit of the project was deployed too, so that each has a record.
        let other = built("r.example/web:2", "r.example/b/a:2", "team/web", "aaaaaaa");
        let elsewhere = built("r.example/api:1", "r.example/b/a:3", "team/api", COMMIT);
        let commits = if is_needed {
            vec![COMMIT]
        } else {
            vec!["aaaaaaaaaa"]
        };
        let world = world_with(
            &sample,
            &config,
            records(vec![image, other, elsewhere]),
            Some(&[
                deployments("team/web", &commits),
                deployments("team/api", &[]),
            ]),
        )
        .await;
        assert!(world.needed.error.is_none(), "{:?}", world.needed.error);
        let need = |at: &str, name: &str, digests: &[Digest]| {
            let need = world
                .needed
                .need(&repository(at), &tag(name), digests.iter());
            need.is_some_and(|need| {
                *need
                    == ImageNeed::Deployed {
                        project: "team/web".to_owned(),
                        environment: "production".to_owned(),
                    }
            })
        };
        for (at, name, digests) in [
            ("r.example/web", "1", &[][..]),
            ("r.example/b/a", "1", &[]),
            ("r.example/x", "x", std::slice::from_ref(&own)),
            ("r.example/x", "x", std::slice::from_ref(&base)),
        ] {
            assert_eq!(need(at, name, digests), is_needed, "{revision} {at}:{name}");
        }
        assert_eq!(need("r.example/web", "2", &[]), !is_needed, "{revision}");
        assert!(!need("r.example/api", "1", &[]) && !need("r.example/b/a", "3", &[]));
        let kept = world.needed.digests_in.get(&repository("r.example/b/a"));
        assert_eq!(kept.is_some_and(|kept| kept.contains(&base)), is_needed);
    }
}

#[tokio::test]
async fn deployment_without_a_record_keeps_all_images_of_the_project() {
    let sample = SampleRepository::mirror(&["1.0", "2.0", "9"]).await;
    let config = deployed("keep_last: 1");
    let known = || {
        records(vec![built(
            "r.example/m/a:9",
            "r.example/b/a:1",
            "team/web",
            COMMIT,
        )])
    };
    for (project, commits, is_kept, is_base_needed) in [
        ("team/web", &[COMMIT][..], false, true),
        ("team/web", &[], false, false),
        ("team/other", &["0000000000"], false, false),
        ("team/web", &["0000000000"], true, true),
        ("team/web", &[COMMIT, "0000000000"], true, true),
    ] {
        let world = world_with(
            &sample,
            &config,
            known(),
            Some(&[deployments(project, commits)]),
        )
        .await;
        let plan = plan(&world, &policy());
        let expected = is_kept.then(|| KeepReason::DeployedWithoutRecord {
            project: "team/web".to_owned(),
            environment: "production".to_owned(),
        });
        for name in ["1.0", "2.0"] {
            assert_eq!(
                reason(&plan, &sample.at, name),
                expected,
                "{project} {commits:?} {name}"
            );
        }
        let base = repository("r.example/b/a");
        let need = world.needed.need(&base, &tag("1"), std::iter::empty());
        assert_eq!(need.is_some(), is_base_needed, "{project} {commits:?}");
    }
}

#[tokio::test]
async fn unreadable_deployments_stop_the_run_also_with_force() {
    let sample = SampleRepository::mirror(&["1.0", "9"]).await;
    let config = deployed("keep_last: 1");
    let forced = CleanupPolicy {
        is_forced: true,
        ..policy()
    };
    let known = || {
        records(vec![built(
            "r.example/web:1",
            "r.example/m/a:9",
            "team/web",
            COMMIT,
        )])
    };
    let good = deployments("team/web", &[COMMIT]);
    let bad = ProjectDeployments {
        project: "team/api".to_owned(),
        deployed: Err(ItemError::other("404 Not Found").with_hint("a token")),
    };
    let failed = ObservedRecords::Failed(ItemError::other("no route"));
    for (records, given, cause) in [
        (
            known(),
            Some(vec![good.clone(), bad]),
            "deployments of team/api cannot be read: 404 Not Found",
        ),
        (known(), None, "the deployed images are unknown"),
        (failed, Some(Vec::new()), "the deployed images are unknown"),
    ] {
        let world = world_with(&sample, &config, records, given.as_deref()).await;
        let plan = plan(&world, &forced);
        let error = plan.safety_error.as_ref().expect("an error").to_string();
        assert!(error.contains(cause), "{error}");
        assert_eq!(
            reason(&plan, &sample.at, "1.0"),
            Some(KeepReason::SafetyCheckFailed)
        );
    }
    let world = world_with(&sample, &config, known(), Some(&[good])).await;
    assert_eq!(reason(&plan(&world, &forced), &sample.at, "1.0"), None);
}
