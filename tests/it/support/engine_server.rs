//! An engine elsewhere for tests: an HTTP server on loopback that speaks chat completions as it is told to,
//! and misbehaves likewise.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// What the server does with a question.
#[derive(Clone)]
pub enum Act {
    /// Answers with this text, and with probabilities.
    Answer(String),
    /// Answers with this status, these headers and this body.
    Say(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Says that a body of this length comes, sends so much of it, and hangs up.
    Cut(Vec<u8>, usize),
    /// Sends a body without end.
    Endless,
    /// Sends one byte after another of a body, slowly, without end.
    Drip,
    /// Takes the question and says nothing.
    Hang,
    /// Hangs up without a word.
    Close,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    /// The headers, with names in small letters.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Asked {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Which question it is: the schema's name.
    pub fn question(&self) -> String {
        let name = &self.json()["response_format"]["json_schema"]["name"];
        name.as_str().unwrap_or_default().to_owned()
    }
}

type Script = dyn Fn(&Asked, usize) -> Act + Send + Sync;

struct Inside {
    script: Box<Script>,
    asked: Mutex<Vec<Asked>>,
    tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether those that hang are let go.
    is_over: Mutex<bool>,
    ended: Condvar,
}

/// A running server; dropping it closes its port and every connection.
pub struct EngineServer {
    port: u16,
    inside: Arc<Inside>,
    thread: Option<JoinHandle<()>>,
}

/// A body as servers of this interface send it: `content` in two tokens, the first of probability 0.9.
pub fn completion(content: &str) -> Value {
    let middle = (content.len() / 2..).find(|&at| content.is_char_boundary(at)).unwrap_or(0);
    let (one, two) = content.split_at(middle);
    let token = |text: &str, share: f64| json!({ "token": text, "bytes": text.as_bytes(), "logprob": share.ln(), "top_logprobs": [] });
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "tiny-vl",
        "system_fingerprint": "b1-test",
        "choices": [{
            "index": 0,
            "message": { "role": "assistant", "content": content },
            "logprobs": { "content": [token(one, 0.9), token(two, 0.95)] },
            "finish_reason": "stop",
        }],
        "usage": { "prompt_tokens": 400, "completion_tokens": 2, "total_tokens": 402 },
    })
}

/// [`Act::Say`] of a completion that was changed.
pub fn say(change: impl FnOnce(&mut Value)) -> Act {
    let mut body = completion("{}");
    change(&mut body);
    Act::Say(200, vec![("Content-Type", "application/json".into())], body.to_string().into())
}

/// An error as servers of this interface send it.
pub fn error(status: u16, message: &str) -> Act {
    let body = json!({ "error": { "message": message, "type": "x", "code": status } });
    Act::Say(status, vec![("Content-Type", "application/json".into())], body.to_string().into())
}

/// The answer of a good model about a good part, to either question of the demo station.
pub fn right(asked: &Asked) -> Act {
    let answer = match asked.question().as_str() {
        "serial" => r#"{"legible":true,"serial":"A7K2M9PX"}"#,
        _ => r#"{"inspectable":true,"defects":[]}"#,
    };
    Act::Answer(answer.to_owned())
}

impl EngineServer {
    /// Starts on a free port. `script` is given each request and how many came before it.
    pub fn start(script: impl Fn(&Asked, usize) -> Act + Send + Sync + 'static) -> EngineServer {
        EngineServer::start_on(0, None, script)
    }

    /// On this port, encrypted by a certificate and its key if they are given.
    pub fn start_on(
        port: u16,
        certificate: Option<(&Path, &Path)>,
        script: impl Fn(&Asked, usize) -> Act + Send + Sync + 'static,
    ) -> EngineServer {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let inside = Arc::new(Inside {
            script: Box::new(script),
            asked: Mutex::default(),
            tls: certificate.map(|(crt, key)| tls(crt, key)),
            is_over: Mutex::new(false),
            ended: Condvar::new(),
        });
        let shared = Arc::clone(&inside);
        let thread = std::thread::spawn(move || {
            let mut served: Vec<JoinHandle<()>> = Vec::new();
            for stream in listener.incoming().flatten() {
                if *shared.is_over.lock().unwrap() {
                    break;
                }
                let shared = Arc::clone(&shared);
                // Whoever hangs up early has what it wanted.
                served.push(std::thread::spawn(move || drop(serve(stream, &shared))));
            }
            drop(listener);
            served.into_iter().for_each(|one| one.join().expect("no panic"));
        });
        EngineServer { port, inside, thread: Some(thread) }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address, as configurations name it.
    pub fn url(&self) -> String {
        let scheme = if self.inside.tls.is_some() { "https" } else { "http" };
        let host = if self.inside.tls.is_some() { "localhost" } else { "127.0.0.1" };
        format!("{scheme}://{host}:{}/v1", self.port)
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.inside.asked.lock().unwrap().clone()
    }
}

impl Drop for EngineServer {
    fn drop(&mut self) {
        *self.inside.is_over.lock().unwrap() = true;
        self.inside.ended.notify_all();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server's thread does not panic");
        }
    }
}

fn tls(crt: &Path, key: &Path) -> Arc<rustls::ServerConfig> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(crt).expect("PEM").collect();
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let config = builder.with_no_client_auth().with_single_cert(chain.expect("certificates"), key);
    Arc::new(config.expect("they fit"))
}

fn serve(stream: TcpStream, inside: &Inside) -> std::io::Result<()> {
    match &inside.tls {
        None => answer(stream, inside),
        Some(config) => {
            let connection = rustls::ServerConnection::new(Arc::clone(config));
            let connection = connection.map_err(std::io::Error::other)?;
            answer(rustls::StreamOwned::new(connection, stream), inside)
        }
    }
}

/// Answers one request and closes the connection.
fn answer(stream: impl Read + Write, inside: &Inside) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let asked = Asked { line: line.trim_end().to_owned(), headers, body };
    let before = {
        let mut all = inside.asked.lock().unwrap();
        all.push(asked.clone());
        all.len() - 1
    };
    let act = (inside.script)(&asked, before);
    let out = stream.get_mut();
    act_out(out, act, inside)?;
    out.flush()
}

fn act_out(out: &mut impl Write, act: Act, inside: &Inside) -> std::io::Result<()> {
    let kind = ("Content-Type", "application/json".to_owned());
    match act {
        Act::Answer(content) => {
            let body = completion(&content).to_string();
            respond(out, 200, &[kind], body.as_bytes(), body.len())
        }
        Act::Say(status, headers, body) => respond(out, status, &headers, &body, body.len()),
        Act::Cut(body, after) => respond(out, 200, &[kind], &body[..after], body.len()),
        Act::Endless => {
            write!(out, "HTTP/1.1 200 x\r\n{}: {}\r\n\r\n", kind.0, kind.1)?;
            loop {
                out.write_all(&[b' '; 65_536])?;
            }
        }
        Act::Drip => {
            write!(out, "HTTP/1.1 200 x\r\n{}: {}\r\n\r\n", kind.0, kind.1)?;
            while !is_over(inside, std::time::Duration::from_millis(20)) {
                out.write_all(b" ")?;
                out.flush()?;
            }
            Ok(())
        }
        Act::Hang => {
            while !is_over(inside, std::time::Duration::from_secs(60)) {}
            Ok(())
        }
        Act::Close => Ok(()),
    }
}

/// Waits for the end of the server, for `time` at most.
fn is_over(inside: &Inside, time: std::time::Duration) -> bool {
    let over = inside.is_over.lock().unwrap();
    *inside.ended.wait_timeout_while(over, time, |over| !*over).unwrap().0
}

fn respond(
    out: &mut impl Write,
    status: u16,
    headers: &[(&'static str, String)],
    body: &[u8],
    length: usize,
) -> std::io::Result<()> {
    write!(out, "HTTP/1.1 {status} x\r\nContent-Length: {length}\r\nConnection: close\r\n")?;
    for (name, value) in headers {
        write!(out, "{name}: {value}\r\n")?;
    }
    out.write_all(b"\r\n")?;
    out.write_all(body)
}
