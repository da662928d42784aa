//! Modbus TCP: the boards of all stations as registers, to be read. Nothing can be written.

mod bank;
pub mod server;

use std::net::{Ipv4Addr, SocketAddr};

pub use bank::{Bank, Block, Overlap};

/// Where registers are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// The unit that this device is, 1 to 247. 0 and 255, by which a client says that a connection has
    /// one unit only, are answered as well.
    pub unit_id: u8,
}

impl Default for Options {
    /// Loopback, as Modbus has no password: whoever opens it to the plant says so. And no port below
    /// 1024, as 502 would want a privilege that nothing else of the daemon needs.
    fn default() -> Options {
        Options { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 5020)), unit_id: 1 }
    }
}
