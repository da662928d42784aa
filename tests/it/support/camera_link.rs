//! A way to a network camera that breaks as it is told to. It reads RTSP's interleaved packets, so
//! that it can spoil pictures and leave the conversation whole.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// How the way breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Not at all.
    None,
    /// Connections end, and new ones are closed at once.
    Cut,
    /// Connections stay, and nothing more comes through.
    Frozen,
    /// Packets come with other bytes in them.
    Garbled,
    /// A few bytes a second.
    Slow,
}

/// The first byte of a packet of pictures between the sentences of RTSP.
const PACKET: u8 = b'$';

/// The way.
pub struct CameraLink {
    port: u16,
    state: watch::Sender<Break>,
    _runtime: Runtime,
}

impl CameraLink {
    /// A sound way to the camera on port `to`.
    pub fn start(to: u16) -> CameraLink {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a free port on loopback");
        let port = listener.local_addr().expect("an address").port();
        let (state, wanted) = watch::channel(Break::None);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, to, wanted.clone()));
            }
        });
        CameraLink { port, state, _runtime: runtime }
    }

    /// Where the camera seems to be.
    pub fn uri(&self) -> String {
        format!("rtsp://127.0.0.1:{}/line", self.port)
    }

    /// Breaks from now on as `how` says. When it is mended, connections that were broken end.
    pub fn set(&self, how: Break) {
        self.state.send_replace(how);
    }
}

/// Carries one connection. A break strikes those that are open; mending ends those that were struck.
async fn carry(client: TcpStream, to: u16, mut wanted: watch::Receiver<Break>) {
    if *wanted.borrow() == Break::Cut {
        return;
    }
    let Ok(camera) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    let ((from_client, to_client), (from_camera, to_camera)) =
        (client.into_split(), camera.into_split());
    let watched = wanted.clone();
    let ending = async {
        let mut was_broken = *wanted.borrow() != Break::None;
        while wanted.changed().await.is_ok() {
            let now = *wanted.borrow();
            if now == Break::Cut || (was_broken && now == Break::None) {
                return;
            }
            was_broken = now != Break::None;
        }
    };
    tokio::select! {
        () = ask(from_client, to_camera) => {}
        () = answer(from_camera, to_client, watched) => {}
        () = ending => {}
    }
}

async fn ask(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    // A broken connection is an end like any other.
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, wanted: watch::Receiver<Break>) {
    let mut dice = 0x9e37_79b9_u32;
    while let Some(mut said) = read(&mut from).await {
        let how = *wanted.borrow();
        match how {
            Break::Frozen => std::future::pending::<()>().await,
            Break::Garbled if said[0] == PACKET => {
                for byte in &mut said[4..] {
                    dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (dice >> 24) as u8;
                }
            }
            Break::Slow => {
                for byte in said {
                    if to.write_u8(byte).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                continue;
            }
            _ => {}
        }
        if to.write_all(&said).await.is_err() {
            return;
        }
    }
}

/// A packet, or a sentence of RTSP with its body.
async fn read(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut said = vec![from.read_u8().await.ok()?];
    if said[0] == PACKET {
        said.resize(4, 0);
        from.read_exact(&mut said[1..]).await.ok()?;
        let length = usize::from(u16::from_be_bytes([said[2], said[3]]));
        said.resize(4 + length, 0);
        from.read_exact(&mut said[4..]).await.ok()?;
        return Some(said);
    }
    while !said.ends_with(b"\r\n\r\n") {
        said.push(from.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&said).to_ascii_lowercase();
    let body =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let at = said.len();
    said.resize(at + body.unwrap_or(0), 0);
    from.read_exact(&mut said[at..]).await.ok()?;
    Some(said)
}
