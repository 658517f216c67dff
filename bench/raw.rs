//! Direct requests over plain HTTP, to measure the time that a registry itself needs.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use imglife::model::{Algorithm, Digest, Hasher};

use crate::BenchResult;

/// Size of a read, in bytes.
const BUFFER_SIZE: usize = 256 * 1024;

/// Sends a GET for `path`, reads the response and returns the duration.
pub(crate) fn get(registry: SocketAddr, path: &str) -> BenchResult<Duration> {
    let began = Instant::now();
    let mut connection = TcpStream::connect(registry)?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: {registry}\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = BufReader::with_capacity(BUFFER_SIZE, connection);
    let mut status = String::new();
    response.read_line(&mut status)?;
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(format!("GET {path}: {status}").into());
    }
    let mut piece = vec![0; BUFFER_SIZE];
    while response.read(&mut piece)? > 0 {}
    Ok(began.elapsed())
}

/// Uploads `file` as a blob to a repository and returns the duration.
pub(crate) fn put(
    registry: SocketAddr,
    repository: &str,
    file: &Path,
    digest: &Digest,
) -> BenchResult<Duration> {
    let began = Instant::now();
    let mut connection = TcpStream::connect(registry)?;
    write!(
        connection,
        "POST /v2/{repository}/blobs/uploads/ HTTP/1.1\r\nHost: {registry}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    connection.read_to_string(&mut response)?;
    let upload = response
        .lines()
        .find_map(|line| line.strip_prefix("Location: ")?.split_once("/v2/"));
    let (_, upload) = upload.ok_or("the response to the POST has no Location header")?;
    let mut file = File::open(file)?;
    let mut connection = TcpStream::connect(registry)?;
    let length = file.metadata()?.len();
    write!(
        connection,
        "PUT /v2/{upload}&digest={digest} HTTP/1.1\r\nHost: {registry}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    io::copy(&mut file, &mut connection)?;
    let mut response = String::new();
    connection.read_to_string(&mut response)?;
    if !response.starts_with("HTTP/1.1 201 ") {
        return Err(format!("PUT: {response}").into());
    }
    Ok(began.elapsed())
}

/// Returns the time in which one core computes the SHA-256 of `length` bytes.
pub(crate) fn hash(length: u64) -> Duration {
    let piece = vec![7; BUFFER_SIZE];
    let began = Instant::now();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for _ in 0..length / BUFFER_SIZE as u64 {
        hasher.update(&piece);
    }
    // Keeps the compiler from removing the computation as unused.
    std::hint::black_box(hasher.finish());
    began.elapsed()
}
