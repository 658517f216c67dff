//! Registries that the tools copy between, and the traffic that their access logs show.
//!
//! Each is Debian's `docker-registry` on a free port of the loopback interface, with its storage in
//! a directory of the run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::BenchResult;
use crate::corpus::{Corpus, stored_path};
use crate::measure::processor_time_of;

/// Time that a registry may need to start.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Time without growth after which an access log is considered complete.
const LOG_QUIET_TIME: Duration = Duration::from_millis(60);

/// CA and server certificates for registries with TLS, stored in a directory.
pub(crate) struct Certificates {
    directory: PathBuf,
}

impl Certificates {
    pub(crate) fn make(directory: &Path) -> BenchResult<Certificates> {
        let mut parameters = CertificateParams::default();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "benchmark CA");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let authority = parameters.self_signed(&key)?;
        let server_key = KeyPair::generate()?;
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let server =
            CertificateParams::new(names)?.signed_by(&server_key, &Issuer::new(parameters, key))?;
        let certificates = Certificates {
            directory: directory.to_owned(),
        };
        for (path, text) in [
            (certificates.authority(), authority.pem()),
            (certificates.server(), server.pem()),
            (certificates.key(), server_key.serialize_pem()),
        ] {
            fs::write(path, text)?;
        }
        Ok(certificates)
    }

    /// Returns the path of the CA certificate.
    pub(crate) fn authority(&self) -> PathBuf {
        self.directory.join("authority.pem")
    }

    fn server(&self) -> PathBuf {
        self.directory.join("server.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.join("server.key")
    }
}

/// Running registry. Dropping it ends the process and deletes its storage.
pub(crate) struct Registry {
    address: SocketAddr,
    directory: tempfile::TempDir,
    process: Child,
}

impl Registry {
    /// Starts a registry with its storage in a new directory below `directory`.
    pub(crate) fn start(
        directory: &Path,
        certificates: Option<&Certificates>,
    ) -> BenchResult<Registry> {
        let directory = tempfile::Builder::new()
            .prefix("registry-")
            .tempdir_in(directory)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let storage = directory.path().join("storage");
        fs::create_dir(&storage)?;
        let tls = certificates.map_or_else(String::new, |certificates| {
            format!(
                "  tls: {{certificate: '{}', key: '{}'}}\n",
                certificates.server().display(),
                certificates.key().display()
            )
        });
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: json, accesslog: {{disabled: false}}}}\n\
             storage:\n  filesystem: {{rootdirectory: '{}', maxthreads: 100}}\n  delete: {{enabled: true}}\n\
             \x20 maintenance: {{uploadpurging: {{enabled: false}}}}\n\
             http:\n  addr: '{address}'\n  secret: benchmark\n{tls}",
            storage.display()
        );
        let configuration = directory.path().join("config.yml");
        fs::write(&configuration, text)?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(configuration)
            .stdin(Stdio::null())
            .stdout(File::create(directory.path().join("access.log"))?)
            .stderr(File::create(directory.path().join("registry.log"))?)
            .spawn()
            .map_err(|error| {
                format!("`docker-registry` cannot be started: {error}; `make setup` installs it")
            })?;
        let mut registry = Registry {
            address,
            directory,
            process,
        };
        let since = Instant::now();
        while TcpStream::connect(address).is_err() {
            if registry.process.try_wait()?.is_some() || since.elapsed() > START_TIMEOUT {
                let log = fs::read_to_string(registry.directory.path().join("registry.log"))?;
                return Err(format!("docker-registry did not start:\n{log}").into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(registry)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    fn root(&self) -> PathBuf {
        self.storage().join("docker/registry/v2")
    }

    /// Deletes a repository, or all content if `path` is empty. Blobs of a single repository stay
    /// in the storage without references.
    pub(crate) fn forget(&self, path: &str) -> BenchResult<()> {
        let directory = if path.is_empty() {
            self.root()
        } else {
            self.root().join("repositories").join(path)
        };
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Returns the CPU time that the registry has used so far.
    pub(crate) fn processor(&self) -> BenchResult<Duration> {
        processor_time_of(self.process.id())
    }

    /// Returns the current end of the access log, for [`Registry::requests_since`].
    pub(crate) fn mark(&self) -> BenchResult<u64> {
        let path = self.directory.path().join("access.log");
        let mut length = fs::metadata(&path)?.len();
        loop {
            // A response can arrive before its line is written.
            thread::sleep(LOG_QUIET_TIME);
            let now = fs::metadata(&path)?.len();
            if now == length {
                return Ok(now);
            }
            length = now;
        }
    }

    /// Returns the requests that the registry answered since `mark`.
    pub(crate) fn requests_since(&self, mark: u64) -> BenchResult<Vec<Request>> {
        self.mark()?;
        let mut file = File::open(self.directory.path().join("access.log"))?;
        file.seek(SeekFrom::Start(mark))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(text.lines().filter_map(Request::parse).collect())
    }

    /// Checks that the registry has exactly the tags of `corpus`, with all manifests and blobs in
    /// full length.
    pub(crate) fn check(&self, corpus: &Corpus) -> BenchResult<()> {
        let root = self.root();
        for repository in &corpus.repositories {
            let directory = root.join("repositories").join(&repository.path);
            let tags = directory.join("_manifests/tags");
            for image in &repository.images {
                let name = format!("{}:{}", repository.path, image.tag);
                let link = fs::read_to_string(tags.join(&image.tag).join("current/link"))
                    .map_err(|_| format!("{name} is missing"))?;
                if link != image.top().digest.as_str() {
                    return Err(format!("{name} is {link}, not {}", image.top().digest).into());
                }
            }
            if fs::read_dir(&tags)?.count() != repository.images.len() {
                return Err(format!("{} has unexpected tags", repository.path).into());
            }
            let linked = |kind: &str, digest: &imglife::model::Digest| {
                directory
                    .join(kind)
                    .join("sha256")
                    .join(digest.hex())
                    .join("link")
                    .exists()
            };
            for (kind, contents) in [
                ("_layers", repository.blobs()),
                ("_manifests/revisions", repository.manifests()),
            ] {
                for content in contents {
                    let file = fs::metadata(stored_path(&root, &content.digest));
                    if !linked(kind, &content.digest)
                        || !file.is_ok_and(|file| file.len() == content.size)
                    {
                        return Err(format!("{} lacks {}", repository.path, content.digest).into());
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // Fails if the process has already exited.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Request from the access log.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path with the query.
    path: String,
    status: u16,
    /// Length of the response body, in bytes.
    bytes: u64,
}

impl Request {
    /// Parses a line in Apache's combined format: `127.0.0.1 - - [time] "GET /v2/ HTTP/1.1" 200 2
    /// "referrer" "agent"`. The registry writes a second line for each request in another
    /// format; for that one the result is `None`.
    fn parse(line: &str) -> Option<Request> {
        let (_, rest) = line.split_once("] \"")?;
        let (request, rest) = rest.split_once("\" ")?;
        let (mut words, mut numbers) = (request.split(' '), rest.split(' '));
        let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
        Some(Request {
            method,
            path,
            status: numbers.next()?.parse().ok()?,
            bytes: numbers.next()?.parse().ok()?,
        })
    }

    /// Returns a label for the kind of request: method, kind of resource, status.
    pub(crate) fn kind(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let about = ["tags/list", "manifests", "uploads", "blobs", "referrers"]
            .into_iter()
            .find(|part| path.contains(&format!("/{part}")));
        let mount = if self.path.contains("mount=") {
            " mount"
        } else {
            ""
        };
        format!(
            "{} {}{mount} {}",
            self.method,
            about.unwrap_or(path),
            self.status
        )
    }

    /// Returns the number of bytes that the request stored, looked up in `sizes` by digest or tag.
    fn stored(&self, sizes: &BTreeMap<String, u64>) -> u64 {
        if self.method != "PUT" || self.status != 201 {
            return 0;
        }
        let path = self.path.replace("%3A", ":").replace("%3a", ":");
        let key = if let Some((repository, reference)) = path
            .strip_prefix("/v2/")
            .and_then(|path| path.split_once("/manifests/"))
        {
            if reference.contains(':') {
                reference.to_owned()
            } else {
                format!("{repository}:{reference}")
            }
        } else {
            path.split(['?', '&'])
                .find_map(|word| word.strip_prefix("digest="))
                .unwrap_or_default()
                .to_owned()
        };
        sizes.get(&key).copied().unwrap_or(0)
    }
}

/// Traffic according to the access logs of the registries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) requests: usize,
    /// Bytes of the response bodies that were read.
    pub(crate) read: u64,
    /// Bytes that were stored. Uploads that were not stored are not included.
    pub(crate) written: u64,
    pub(crate) kinds: BTreeMap<String, usize>,
}

impl Traffic {
    /// Returns the traffic of the given requests; `sizes` comes from [`Corpus::sizes`].
    pub(crate) fn of<'a>(
        requests: impl Iterator<Item = &'a Request>,
        sizes: &BTreeMap<String, u64>,
    ) -> Traffic {
        let mut traffic = Traffic::default();
        for request in requests {
            traffic.requests += 1;
            if request.method == "GET" && request.status < 300 {
                traffic.read += request.bytes;
            }
            traffic.written += request.stored(sizes);
            *traffic.kinds.entry(request.kind()).or_default() += 1;
        }
        traffic
    }
}
