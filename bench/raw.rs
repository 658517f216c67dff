//! Requests without any client in between, over plain HTTP: what a registry itself takes.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use imglife::model::{Algorithm, Digest, Hasher};

use crate::Outcome;

/// How much of a body is moved at a time, in bytes.
const PIECE: usize = 256 * 1024;

/// Reads `path` and returns how long that took.
pub(crate) fn get(registry: SocketAddr, path: &str) -> Outcome<Duration> {
    let began = Instant::now();
    let mut connection = TcpStream::connect(registry)?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: {registry}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = BufReader::with_capacity(PIECE, connection);
    let mut status = String::new();
    answer.read_line(&mut status)?;
    if !status.starts_with("HTTP/1.1 200 ") {
        return Err(format!("GET {path}: {status}").into());
    }
    let mut piece = vec![0; PIECE];
    while answer.read(&mut piece)? > 0 {}
    Ok(began.elapsed())
}

/// Sends the content of `file` to a repository and returns how long that took.
pub(crate) fn put(
    registry: SocketAddr,
    repository: &str,
    file: &Path,
    digest: &Digest,
) -> Outcome<Duration> {
    let began = Instant::now();
    let mut connection = TcpStream::connect(registry)?;
    write!(
        connection,
        "POST /v2/{repository}/blobs/uploads/ HTTP/1.1\r\nHost: {registry}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let upload = answer
        .lines()
        .find_map(|line| line.strip_prefix("Location: ")?.split_once("/v2/"));
    let (_, upload) = upload.ok_or("the registry says no place for an upload")?;
    let mut file = File::open(file)?;
    let mut connection = TcpStream::connect(registry)?;
    let length = file.metadata()?.len();
    write!(
        connection,
        "PUT /v2/{upload}&digest={digest} HTTP/1.1\r\nHost: {registry}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    io::copy(&mut file, &mut connection)?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    if !answer.starts_with("HTTP/1.1 201 ") {
        return Err(format!("PUT: {answer}").into());
    }
    Ok(began.elapsed())
}

/// Returns how long one core takes to hash so many bytes.
pub(crate) fn hash(length: u64) -> Duration {
    let piece = vec![7; PIECE];
    let began = Instant::now();
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for _ in 0..length / PIECE as u64 {
        hasher.update(&piece);
    }
    // What nobody asks for need not be done.
    std::hint::black_box(hasher.finish());
    began.elapsed()
}
