//! A way to the broker that breaks where it is told to: it reads the frames of MQTT, so it can cut
//! just before a message, just after it, or just before its acknowledgement.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How the way breaks. Messages are counted from each connection's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not at all.
    None,
    /// Connections are taken and closed.
    Refuses,
    /// Connections are taken, and nothing goes through.
    HalfOpen,
    /// The way is so slow that nothing is acknowledged in time.
    Slow,
    /// The third message does not reach the broker.
    BeforeSend,
    /// The third message reaches the broker, and nothing comes back.
    AfterSend,
    /// The third acknowledgement does not come back.
    BeforePuback,
}

impl Fault {
    /// Those that break something.
    pub const ALL: [Fault; 6] = [
        Fault::Refuses,
        Fault::HalfOpen,
        Fault::Slow,
        Fault::BeforeSend,
        Fault::AfterSend,
        Fault::BeforePuback,
    ];
}

/// Which message breaks.
const BREAKS_AT: usize = 3;
/// The kinds of packet, as the first four bits have them.
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;

/// The way.
pub struct FaultyLink {
    port: u16,
    fault: watch::Sender<Fault>,
    struck: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl FaultyLink {
    /// A sound way to the broker on `to`.
    pub async fn start(to: u16) -> FaultyLink {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (fault, wanted) = watch::channel(Fault::None);
        let struck = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&struck);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, to, wanted.clone(), Arc::clone(&count)));
            }
        });
        FaultyLink { port, fault, struck, task }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Breaks from now on as `fault` says. Connections made under another fault end.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How often a fault has struck.
    pub fn struck(&self) -> usize {
        self.struck.load(Ordering::SeqCst)
    }
}

impl Drop for FaultyLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection until a fault ends it, an end does, or another fault is wanted.
async fn serve(
    client: TcpStream,
    to: u16,
    mut wanted: watch::Receiver<Fault>,
    struck: Arc<AtomicUsize>,
) {
    let fault = *wanted.borrow_and_update();
    match fault {
        Fault::Refuses => {
            struck.fetch_add(1, Ordering::SeqCst);
            return;
        }
        Fault::HalfOpen => {
            struck.fetch_add(1, Ordering::SeqCst);
            // Held open, unread, until the fault is over.
            let _ = wanted.changed().await;
            return;
        }
        _ => {}
    }
    let Ok(broker) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else { return };
    let ((from_client, to_client), (from_broker, to_broker)) =
        (client.into_split(), broker.into_split());
    tokio::select! {
        () = forward(from_client, to_broker, fault, true, &struck) => {}
        () = forward(from_broker, to_client, fault, false, &struck) => {}
        _ = wanted.changed() => {}
    }
}

/// Forwards frames until the connection ends or the fault strikes, which is counted.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    fault: Fault,
    to_broker: bool,
    struck: &AtomicUsize,
) {
    let strike = || {
        struck.fetch_add(1, Ordering::SeqCst);
    };
    let mut counted = 0;
    while let Some(frame) = read_frame(&mut from).await {
        let kind = frame[0] >> 4;
        counted += usize::from(kind == if to_broker { PUBLISH } else { PUBACK });
        let strikes = counted == BREAKS_AT && (to_broker || kind == PUBACK);
        match fault {
            Fault::BeforeSend if strikes && to_broker => return strike(),
            Fault::BeforePuback if strikes && !to_broker => return strike(),
            // Whatever comes back of the message that went out is held back for good.
            Fault::AfterSend if !to_broker && counted + 1 >= BREAKS_AT => {
                std::future::pending::<()>().await;
            }
            Fault::Slow if to_broker && kind == PUBLISH => {
                strike();
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            _ => {}
        }
        if to.write_all(&frame).await.is_err() {
            return;
        }
        if fault == Fault::AfterSend && strikes && to_broker {
            // Its bytes must be at the broker before the connection ends.
            let _ = to.flush().await;
            return strike();
        }
    }
}

/// One whole packet: a byte of kind and flags, the length in seven bits a byte, and so many bytes.
async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut frame = vec![from.read_u8().await.ok()?];
    let mut length = 0usize;
    for at in 0..4 {
        let byte = from.read_u8().await.ok()?;
        frame.push(byte);
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            break;
        }
    }
    let head = frame.len();
    frame.resize(head + length, 0);
    from.read_exact(&mut frame[head..]).await.ok()?;
    Some(frame)
}
