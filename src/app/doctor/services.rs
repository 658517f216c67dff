//! Checks of the configured services: registries, the record store, the source of end-of-life data,
//! webhooks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};

use super::task::DoctorTask;
use crate::app::configuration::has_record_store;
use crate::app::eol::{data_store, products, webhook};
use crate::app::forge::base_repository;
use crate::app::host_rules::credential_host;
use crate::app::image_stores::{client, service_client, settings};
use crate::app::job_credentials::standard_credentials;
use crate::app::job_limits::limited;
use crate::app::records::{records, token_variable};
use crate::app::{CommandContext, Mode};
use crate::config::{Config, DEFAULT_NAME, EolProvider, EolTarget, RegistryProvider};
use crate::credentials::{CredentialError, Credentials, check_collisions};
use crate::error::{Failure, ItemErrorKind, chain};
use crate::http::{self, Settings, Url};
use crate::model::{Host, Repository, RepositoryPath};
use crate::packages::{DataFileKind, Records};
use crate::probe::{ProbeCredential, ProbeFinding, ProbeReport, ProbeState, RequiredAccess};
use crate::registry::layout::Layouts;
use crate::registry::remote::RemoteRegistries;
use crate::steps::doctor::{Needs, needs};
use crate::steps::eol::{self, ReadError};

/// Time limit for a host to send data.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Age from which end-of-life data and an inventory are reported as old, in days.
const MAX_DATA_AGE: i64 = 14;

/// Maximum number of products to request in parallel.
const MAX_PRODUCTS_IN_PARALLEL: usize = 4;

/// Host of the tag service of Docker Hub.
const HUB: &str = "hub.docker.com";

/// Returns the checks.
pub(super) fn tasks<'a>(config: &'a Config, context: &'a CommandContext) -> Vec<DoctorTask<'a>> {
    let process = &context.process;
    let Needs {
        hosts,
        layouts,
        dated,
    } = needs(config);
    let mut tasks = Vec::new();
    let credential_hosts: BTreeSet<Host> = hosts
        .keys()
        .map(|host| credential_host(config, host))
        .collect();
    if let Err(error) = check_collisions(&credential_hosts, &process.variables) {
        let finding = of_credential_error("oci.credential", &error);
        tasks.push(DoctorTask::new(
            "Configuration",
            "oci.credential",
            async move { vec![finding].into() },
        ));
    }
    let settings = Settings {
        stall: STALL_TIMEOUT,
        ..settings(config, context)
    };
    let credentials: Arc<dyn Credentials> = Arc::new(standard_credentials(config, process));
    let credentials = limited(credentials, &settings, &process.variables);
    let http = Arc::new(client(settings, config, process));
    let registries = Arc::new(RemoteRegistries::new(Arc::clone(&http)));
    for (host, wanted) in hosts {
        let (registries, credentials) = (Arc::clone(&registries), Arc::clone(&credentials));
        let credential_host = credential_host(config, &host);
        let name = host.to_string();
        tasks.push(DoctorTask::new(name, "oci.reachable", async move {
            image_host(&host, &credential_host, &wanted, &registries, &*credentials).await
        }));
    }
    if !dated.is_empty() {
        tasks.push(DoctorTask::new(HUB, "oci.dates", async move {
            dates(&http, &dated).await
        }));
    }
    for (repository, wanted) in layouts {
        tasks.push(DoctorTask::new(
            "Directories of images",
            "layout.read",
            async move { layout(&repository, wanted).await },
        ));
    }
    if has_record_store(config) || config.registry.is_some() {
        tasks.push(DoctorTask::new(
            "Package Registry",
            "packages.reachable",
            packages(config, context),
        ));
    }
    if !eol::products(config).is_empty() {
        tasks.push(DoctorTask::new(
            "End-of-life data",
            "eol.api",
            end_of_life(config, context),
        ));
        tasks.push(DoctorTask::new(
            "End-of-life data",
            "eol.file",
            end_of_life_file(config, context),
        ));
    }
    let lifecycle = &config.lifecycle;
    for variable in [
        &lifecycle.slack_webhook_variable,
        &lifecycle.webhook_variable,
    ]
    .into_iter()
    .flatten()
    {
        tasks.push(DoctorTask::new("Webhooks", "webhook.address", async move {
            let is_set = process.variables.get_filled(variable).is_some();
            if !process.variables.permissions().may_run_commands() {
                let detail = "not called in an untrusted job";
                return vec![ProbeFinding::ok("webhook.address", variable, detail)].into();
            }
            vec![match webhook(variable, config, process) {
                Ok(url) => ProbeFinding::ok(
                    "webhook.address",
                    variable,
                    format!(
                        "set, with the host {}; not called",
                        url.host_str().unwrap_or_default()
                    ),
                ),
                Err(failure) => ProbeFinding {
                    state: if is_set {
                        ProbeState::Wrong
                    } else {
                        ProbeState::Missing
                    },
                    ..of_failure("webhook.address", variable, &failure)
                },
            }]
            .into()
        }));
    }
    tasks
}

async fn image_host(
    host: &Host,
    credential_host: &Host,
    wanted: &BTreeMap<RepositoryPath, RequiredAccess>,
    registries: &RemoteRegistries,
    credentials: &dyn Credentials,
) -> ProbeReport {
    const CHECK: &str = "oci.credential";
    let mut origins = BTreeSet::new();
    let mut problem = None;
    for path in wanted.keys() {
        match credentials.source(credential_host, Some(path)).await {
            Ok(origin) => origins.extend(origin),
            Err(error) => problem = Some(error),
        }
    }
    let about = if credential_host == host {
        String::new()
    } else {
        format!("for {credential_host}")
    };
    let credential = match &problem {
        Some(error) => ProbeFinding {
            about,
            ..of_credential_error(CHECK, error)
        },
        None if origins.is_empty() => ProbeFinding::ok(CHECK, about, "none is set"),
        None => ProbeFinding::ok(
            CHECK,
            about,
            format!(
                "from {}",
                origins
                    .iter()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join("; ")
            ),
        ),
    };
    // Without usable credentials, every request would fail for the same reason.
    let mut report = match problem {
        Some(_) => ProbeReport::default(),
        None => registries.probe(host, wanted, !origins.is_empty()).await,
    };
    let position = report.findings.len().min(1);
    report.findings.insert(position, credential);
    report
}

/// Checks the tag service of Docker Hub, which has the push dates of tags.
async fn dates(http: &http::Client, paths: &BTreeSet<RepositoryPath>) -> ProbeReport {
    let Ok(host) = HUB.parse::<Host>() else {
        return ProbeReport::default();
    };
    let mut findings = Vec::new();
    let mut clock_offset = None;
    for path in paths {
        let (namespace, name) = path
            .as_str()
            .split_once('/')
            .unwrap_or(("library", path.as_str()));
        let address = format!(
            "/v2/namespaces/{namespace}/repositories/{}/tags?page_size=1&page=1",
            name.replace('/', "%2F")
        );
        findings.push(match http.inspect(&host, &address).await {
            Ok(answer) => {
                clock_offset = http.clock_offset(&answer);
                if answer.status.is_success() { ProbeFinding::ok("oci.dates", path.as_str(), "available") } else { ProbeFinding::wrong("oci.dates", path.as_str(), format!("the tag service answers with {}", answer.status)).fix(
                    "the tag service covers public repositories only and limits requests; run less often, or remove `sort: date` and `min_age`",
                ) }
            }
            Err(error) => ProbeFinding::failed("oci.dates", path.as_str(), &error, error.hint()),
        });
    }
    ProbeReport {
        findings,
        clock_offset,
    }
}

async fn layout(repository: &Repository, wanted: RequiredAccess) -> ProbeReport {
    Layouts::default().probe(repository, wanted).await
}

/// Checks the record store, the inventory, and the base repository.
async fn packages(config: &Config, context: &CommandContext) -> ProbeReport {
    const CHECK: &str = "packages.credential";
    let process = &context.process;
    let records = match records(config, process, Mode::DryRun) {
        Ok(records) => records,
        Err(failure) => return vec![of_failure("packages.configuration", "", &failure)].into(),
    };
    let store = ProbeFinding::ok("packages.place", "", records.store_name());
    let variable = match token_variable(config, process) {
        Ok(variable) => variable,
        Err(failure) => return vec![store, of_failure(CHECK, "", &failure)].into(),
    };
    let provider = config.registry.as_ref().map(|registry| &registry.provider);
    let credential = match (provider, variable) {
        (_, Some(variable)) => Some(ProbeFinding::ok(CHECK, "", format!("from {variable}"))),
        (Some(RegistryProvider::S3 { .. }), None) => Some(ProbeFinding::ok(
            CHECK,
            "",
            "AWS_ACCESS_KEY_ID is not set; the AWS SDK searches its other sources",
        )),
        (Some(RegistryProvider::File { .. }) | None, None) => None,
        (Some(_), None) => Some(ProbeFinding::ok(CHECK, "", "none is set")),
    };
    let mut report = records.probe(ProbeCredential { variable }).await;
    let is_readable = !report
        .findings
        .iter()
        .any(|finding| finding.is_problem() && finding.check != "packages.write");
    report
        .findings
        .splice(0..0, [Some(store), credential].into_iter().flatten());
    if is_readable
        && config
            .build
            .as_ref()
            .is_some_and(|build| !build.images.is_empty())
    {
        report
            .findings
            .push(inventory(&records, process.clock.now()).await);
    }
    if is_readable && let Ok(Some(base)) = base_repository(config, process) {
        let about = format!("{DEFAULT_NAME} at {}", base.reference);
        report.findings.push(match base.forge.file(DEFAULT_NAME, &base.reference).await {
            Ok(Some(_)) => ProbeFinding::ok("forge.file", about, "readable; `imglife check` uses it if there is no inventory"),
            Ok(None) => ProbeFinding::missing("forge.file", about, format!("not in {}", base.forge.name()))
                .fix("push the file, or correct `registry.config_ref`; `imglife check` uses it if there is no inventory")
                .optional(),
            Err(error) => ProbeFinding::failed("forge.file", about, &error, error.hint()).optional(),
        });
    }
    report
}

/// Checks the age of the inventory.
async fn inventory(records: &Records, now: DateTime<Utc>) -> ProbeFinding {
    const CHECK: &str = "packages.inventory";
    match records.read_data(DataFileKind::Inventory).await {
        Ok(Some(data)) => {
            let days = (now - data.written_at).num_days();
            let finding = format!("{} days old", days.max(0));
            if days > MAX_DATA_AGE {
                ProbeFinding::wrong(CHECK, "", finding)
                    .fix("run `imglife status --publish` daily in a pipeline")
                    .optional()
            } else {
                ProbeFinding::ok(CHECK, "", finding)
            }
        }
        Ok(None) => ProbeFinding::missing(
            CHECK,
            "",
            "not published yet: `imglife check` cannot find the newest bases",
        )
        .fix("run `imglife status --publish`")
        .optional(),
        Err(error) => ProbeFinding::failed(CHECK, "", &error, error.hint()).optional(),
    }
}

/// Checks the end-of-life API.
async fn end_of_life(config: &Config, context: &CommandContext) -> ProbeReport {
    const CHECK: &str = "eol.api";
    let api = match products(config, context, Mode::DryRun) {
        Ok(Some(api)) => api,
        Ok(None) => return ProbeReport::default(),
        Err(failure) => return vec![of_failure(CHECK, "", &failure)].into(),
    };
    let address: &Url = &config.lifecycle.api_url;
    let Some(host) = http::host_of(address) else {
        return ProbeReport::default();
    };
    let http = service_client(config, context, &host, address);
    let mut report = match http
        .inspect(
            &host,
            &format!("{}/v1/", address.path().trim_end_matches('/')),
        )
        .await
    {
        Ok(answer) => ProbeReport {
            findings: vec![ProbeFinding::ok(CHECK, host.as_str(), "reachable")],
            clock_offset: http.clock_offset(&answer),
        },
        Err(error) => {
            let other = "set a mirror of the API with `lifecycle.api_url`, or maintain the data file by hand with `eol_provider: local`";
            let fix = error
                .hint()
                .map_or_else(|| other.to_owned(), |hint| format!("{hint}; or {other}"));
            return vec![ProbeFinding::wrong(CHECK, host.as_str(), chain(&error)).fix(fix)].into();
        }
    };
    let api = &api;
    let products = eol::products(config)
        .into_iter()
        .map(|product| async move { (product, api.cycles(product).await) });
    let answers: Vec<_> = stream::iter(products)
        .buffered(MAX_PRODUCTS_IN_PARALLEL)
        .collect()
        .await;
    for (product, answer) in answers {
        report.findings.push(match answer {
            Ok(_) => ProbeFinding::ok("eol.product", product.to_string(), "available"),
            Err(error) if error.kind == ItemErrorKind::Untracked => ProbeFinding {
                fix: error.hint(),
                ..ProbeFinding::missing("eol.product", product.to_string(), chain(&error))
            }
            .optional(),
            Err(error) => {
                ProbeFinding::failed("eol.product", product.to_string(), &error, error.hint())
            }
        });
    }
    report
}

/// Checks the local end-of-life data.
async fn end_of_life_file(config: &Config, context: &CommandContext) -> ProbeReport {
    const CHECK: &str = "eol.file";
    let process = &context.process;
    let store = match data_store(config, None, process, Mode::DryRun) {
        Ok(store) => store,
        Err(failure) => return vec![of_failure(CHECK, "", &failure)].into(),
    };
    let written: Option<DateTime<Utc>> = match config.lifecycle.target {
        EolTarget::Git => std::fs::metadata(&config.lifecycle.data_file)
            .and_then(|file| file.modified())
            .ok()
            .map(DateTime::from),
        EolTarget::PackageRegistry => None,
    };
    let age = written.map(|written| (process.clock.now() - written).num_days().max(0));
    vec![match eol::read(store.as_ref()).await {
        Ok(table) => {
            let content = format!("{}: {} products", store.name(), table.products().count());
            match age {
                Some(days) if days > MAX_DATA_AGE => ProbeFinding::wrong(CHECK, "", format!("{content}, written {days} days ago"))
                    .fix("run `imglife eol update` daily in a pipeline")
                    .optional(),
                Some(days) => ProbeFinding::ok(CHECK, "", format!("{content}, written {days} days ago")),
                None => ProbeFinding::ok(CHECK, "", content),
            }
        }
        Err(error @ ReadError::Missing { .. }) => {
            let finding = ProbeFinding::missing(CHECK, "", chain(&error));
            match config.lifecycle.provider {
                EolProvider::Endoflife => finding.fix("run `imglife eol update`").optional(),
                EolProvider::Local => finding.fix("create it by hand, with the cycles of each product and their `eol` dates (docs/eol.md)"),
            }
        }
        Err(error @ ReadError::Data { .. }) => {
            ProbeFinding::wrong(CHECK, "", chain(&error)).fix("repair it, or delete it and run `imglife eol update`")
        }
        Err(error @ ReadError::Item(_)) => {
            ProbeFinding::failed(CHECK, "", &error, Some("make it readable for this user, or correct `lifecycle.eol_data_file`".to_owned()))
        }
    }]
    .into()
}

fn of_credential_error(check: &'static str, error: &CredentialError) -> ProbeFinding {
    ProbeFinding {
        fix: error.hint.clone(),
        ..ProbeFinding::wrong(check, "", chain(error))
    }
}

/// Returns the failure of a command as a finding.
pub(super) fn of_failure(check: &'static str, about: &str, failure: &Failure) -> ProbeFinding {
    let finding = ProbeFinding::wrong(check, about, chain(&*failure.error));
    if failure.hints.is_empty() {
        finding
    } else {
        finding.fix(failure.hints.join("; "))
    }
}
