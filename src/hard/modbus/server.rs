//! The socket: few connections, short requests, bounded waits.
//!
//! It runs on a thread of its own: a broker in trouble, which another thread deals with, must not make a
//! controller wait for its verdict.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::bank::{Bank, PDU_MAX_BYTES};
use crate::clock::Clock;
use crate::plc::rate::Bucket;

/// Connections at once; one more is closed at once.
pub const CONNECTIONS_MAX: usize = 16;

/// A connection that asks nothing for so long is closed: a controller that was switched off says no
/// goodbye, and asks again from another port.
const IDLE: Duration = Duration::from_secs(30);

/// Time for the rest of a request, and for an answer to be taken.
const TRANSFER: Duration = Duration::from_secs(5);

/// Requests a second of one connection, for ever and at once; more wait.
const REQUESTS_PER_S: u32 = 500;
const REQUESTS_AT_ONCE: u32 = 100;

/// Bytes of the header: transaction, protocol, length, unit.
const HEADER_BYTES: usize = 7;

/// Listens on `listen`.
///
/// # Errors
/// The address is taken, not ours, or below 1024 without the right to it.
pub fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers requests from `bank` until `stop` becomes true.
///
/// # Errors
/// What the system says when no thread of I/O can be had.
pub fn serve(
    listener: TcpListener,
    bank: &Arc<Bank>,
    clock: &Arc<dyn Clock>,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(accept(listener, bank, clock, stop))
}

async fn accept(
    listener: TcpListener,
    bank: &Arc<Bank>,
    clock: &Arc<dyn Clock>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    // Dropped with all its connections when this ends.
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            // An error: whoever could stop us is gone.
            _ = stop.wait_for(|is_set| *is_set) => return Ok(()),
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if open.len() < CONNECTIONS_MAX => {
                    open.spawn(converse(stream, Arc::clone(bank), Arc::clone(clock)));
                }
                Ok(_) => {}
                // Out of descriptors, perhaps: that passes.
                Err(_) => sleep(Duration::from_millis(100)).await,
            },
        }
    }
}

/// Answers one connection, one request after the other, until it ends or says what is no Modbus.
async fn converse(mut stream: TcpStream, bank: Arc<Bank>, clock: Arc<dyn Clock>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bucket = Bucket::new(REQUESTS_PER_S, REQUESTS_AT_ONCE);
    loop {
        let mut header = [0; HEADER_BYTES];
        timeout(IDLE, stream.read_exact(&mut header[..1])).await??;
        timeout(TRANSFER, stream.read_exact(&mut header[1..])).await??;
        let [_, _, protocol_high, protocol_low, length_high, length_low, unit] = header;
        // The unit counts in the length.
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        if (protocol_high, protocol_low) != (0, 0) || !(2..=PDU_MAX_BYTES + 1).contains(&length) {
            // Where the next request would begin is not known.
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut pdu = [0; PDU_MAX_BYTES];
        let pdu = &mut pdu[..length - 1];
        timeout(TRANSFER, stream.read_exact(pdu)).await??;
        while !bucket.take(clock.now().monotonic_ns) {
            sleep(Duration::from_millis(2)).await;
        }
        let mut answer = [0; PDU_MAX_BYTES];
        let bytes = bank.answer(unit, pdu, clock.now().monotonic_ns, &mut answer);
        let [length_high, length_low] = (bytes as u16 + 1).to_be_bytes();
        let mut whole = Vec::with_capacity(HEADER_BYTES + bytes);
        whole.extend([header[0], header[1], 0, 0, length_high, length_low, unit]);
        whole.extend(&answer[..bytes]);
        timeout(TRANSFER, stream.write_all(&whole)).await??;
    }
}
