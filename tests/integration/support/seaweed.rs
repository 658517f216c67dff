//! A real S3-compatible server: SeaweedFS, installed by `tests/setup.sh`.

use std::fs::File;
use std::io::ErrorKind;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use url::Url;

use super::servers::{installed, stop};

/// Time limit for the start of the server.
const START_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) const ACCESS_KEY: &str = "imglife";
pub(crate) const SECRET_KEY: &str = "hunter2hunter2";

/// A running server. It stops when it is dropped.
pub(crate) struct Seaweed {
    process: Child,
    port: u16,
    filer: u16,
    _directory: TempDir,
}

impl Seaweed {
    /// Starts an empty server and waits until it responds.
    pub(crate) fn start() -> Seaweed {
        let directory = tempfile::Builder::new()
            .prefix("imglife-seaweed-")
            .tempdir()
            .expect("a temporary directory");
        let identities = serde_json::json!({ "identities": [{
            "name": "imglife",
            "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
            "actions": ["Admin", "Read", "Write", "List"],
        }] });
        let settings = directory.path().join("s3.json");
        std::fs::write(&settings, identities.to_string()).expect("a file");
        let ports = free_ports();
        let [
            master,
            master_inside,
            volume,
            volume_inside,
            filer,
            filer_inside,
            s3,
            s3_inside,
        ] = ports;
        let log = directory.path().join("weed.log");
        let log_file = File::create(&log).expect("a file");
        let started = Command::new(installed("weed"))
            .args([
                "server",
                "-s3",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-master.telemetry=false",
            ])
            .args([
                "-volume.max=20",
                "-master.volumeSizeLimitMB=16",
                "-s3.port.iceberg=0",
                "-s3.port.lance=0",
            ])
            .args([
                format!("-dir={}", directory.path().display()),
                format!("-s3.config={}", settings.display()),
            ])
            .args([
                format!("-master.port={master}"),
                format!("-master.port.grpc={master_inside}"),
            ])
            .args([
                format!("-volume.port={volume}"),
                format!("-volume.port.grpc={volume_inside}"),
            ])
            .args([
                format!("-filer.port={filer}"),
                format!("-filer.port.grpc={filer_inside}"),
            ])
            .args([
                format!("-s3.port={s3}"),
                format!("-s3.port.grpc={s3_inside}"),
            ])
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().expect("a file"))
            .stderr(log_file)
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("SeaweedFS is not installed: run `make setup`")
            }
            Err(error) => panic!("SeaweedFS cannot be started: {error}"),
        };
        let mut seaweed = Seaweed {
            process,
            port: s3,
            filer,
            _directory: directory,
        };
        assert!(
            seaweed.responds(),
            "SeaweedFS did not start:\n{}",
            std::fs::read_to_string(&log).unwrap_or_default()
        );
        seaweed
    }

    /// Creates a bucket, as a directory in the server's file system.
    pub(crate) fn make_bucket(&self, name: &str) {
        let since = Instant::now();
        loop {
            let mut stream =
                TcpStream::connect((Ipv4Addr::LOCALHOST, self.filer)).expect("a connection");
            let request = format!(
                "POST /buckets/{name}/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).expect("a request");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer");
            if answer.starts_with("HTTP/1.1 201") {
                return;
            }
            assert!(
                since.elapsed() < START_TIMEOUT,
                "the bucket was not created: {answer}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn responds(&mut self) -> bool {
        let since = Instant::now();
        while since.elapsed() < START_TIMEOUT
            && self
                .process
                .try_wait()
                .expect("a child to wait for")
                .is_none()
        {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://127.0.0.1:{}", self.port)
            .parse()
            .expect("a URL")
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners =
        [(); N].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}
