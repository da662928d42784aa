//! A hub for tests: an HTTP server on loopback with a repository's files, which can cut
//! connections, redirect, forget its list, or serve other bytes than it says.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use inspectd::vlm::Digest;

/// How the hub behaves.
#[derive(Clone, Default)]
pub struct Manner {
    /// Files of the repository.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Gives no list.
    pub no_list: bool,
    /// Cuts each connection that gives a file after so many bytes of it.
    pub cut_after: Option<usize>,
    /// Takes no notice of a wish for a later part of a file.
    pub whole_only: bool,
    /// Sends for files to an address below /cdn.
    pub redirects: bool,
    /// What the list says of a file's SHA-256, in place of the truth.
    pub lies: BTreeMap<String, Digest>,
    /// Answers everything with this status.
    pub status: Option<u16>,
}

/// One request: the path and the wish for a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What was asked for.
    pub path: String,
    /// The header Range.
    pub range: Option<String>,
}

/// A running hub; dropping it closes its port.
pub struct Hub {
    port: u16,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<Mutex<Vec<Asked>>>,
    thread: Option<JoinHandle<()>>,
}

impl Hub {
    /// Starts on a free port.
    pub fn start(manner: Manner) -> Hub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let manner = Arc::new(Mutex::new(manner));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (thread_manner, thread_asked) = (Arc::clone(&manner), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if answer(stream, &thread_manner, &thread_asked).is_none() {
                    break;
                }
            }
        });
        Hub { port, manner, asked, thread: Some(thread) }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes its manner.
    pub fn change(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().unwrap());
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let _ = stream.write_all(b"QUIT / HTTP/1.1\r\n\r\n");
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the hub's thread does not panic");
        }
    }
}

/// Answers one request and closes the connection. `None`: it was asked to end.
fn answer(stream: TcpStream, manner: &Mutex<Manner>, asked: &Mutex<Vec<Asked>>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().expect("a second handle")).lines();
    let first = lines.next().and_then(Result::ok).unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut range = None;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            range = Some(value.trim().to_owned());
        }
    }
    if first.starts_with("QUIT") {
        return None;
    }
    asked.lock().unwrap().push(Asked { path: path.clone(), range: range.clone() });
    let manner = manner.lock().unwrap().clone();
    // Whoever hung up has what it wanted.
    let _ = respond(stream, &manner, &path, range.as_deref());
    Some(())
}

fn respond(
    mut out: TcpStream,
    manner: &Manner,
    path: &str,
    range: Option<&str>,
) -> std::io::Result<()> {
    let status = |out: &mut TcpStream, status: u16| {
        write!(out, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    if let Some(code) = manner.status {
        return status(&mut out, code);
    }
    if path.starts_with("/api/models/") {
        if manner.no_list {
            return status(&mut out, 404);
        }
        let list = list(manner);
        return write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{list}",
            list.len()
        );
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some(bytes) = manner.files.get(name) else { return status(&mut out, 404) };
    if manner.redirects && !path.starts_with("/cdn/") {
        return write!(
            out,
            "HTTP/1.1 302 Found\r\nLocation: /cdn/{name}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }
    let from = range
        .filter(|_| !manner.whole_only)
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    if from.is_some_and(|from| from >= bytes.len()) {
        return status(&mut out, 416);
    }
    let body = &bytes[from.unwrap_or(0)..];
    let head = match from {
        None => "200 OK".to_owned(),
        Some(from) => format!(
            "206 Partial\r\nContent-Range: bytes {from}-{}/{}",
            bytes.len() - 1,
            bytes.len()
        ),
    };
    let etag = Digest::of(bytes);
    write!(
        out,
        "HTTP/1.1 {head}\r\nETag: \"{etag}\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    out.write_all(&body[..manner.cut_after.unwrap_or(usize::MAX).min(body.len())])
}

fn list(manner: &Manner) -> String {
    let one = |(name, bytes): (&String, &Vec<u8>)| {
        let digest = manner.lies.get(name).copied().unwrap_or(Digest::of(bytes));
        let mut file = serde_json::json!({"rfilename": name, "size": bytes.len()});
        if name.ends_with(".safetensors") || name.ends_with(".gguf") {
            file["lfs"] = serde_json::json!({"sha256": digest.to_string(), "size": bytes.len()});
        }
        file
    };
    let files: Vec<_> = manner.files.iter().map(one).collect();
    serde_json::json!({"sha": "0123456789abcdef", "siblings": files}).to_string()
}
