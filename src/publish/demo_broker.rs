//! A broker inside this process, for the demo: nothing to install before the first result is seen.
//!
//! It speaks MQTT 3.1.1, listens on loopback only, keeps nothing on the disk, lets everyone in, and cannot be stopped:
//! its threads end with the process. Never for production.

use std::time::Duration;

/// Why the demo broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoBrokerError {
    /// This build has none.
    #[error(
        "the demo broker is not compiled in: build with `--features demo-broker`, or name a broker \
         such as mosquitto in the configuration"
    )]
    NotCompiledIn,
    /// No port, or no thread.
    #[error("cannot start the demo broker: {0}")]
    System(#[from] std::io::Error),
    /// It does not answer.
    #[error("the demo broker did not answer on port {port} within {} s", READY_TIMEOUT.as_secs())]
    Silent {
        /// Its port.
        port: u16,
    },
}

/// How long the broker may take to listen.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// The broker of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DemoBroker {
    port: u16,
}

impl DemoBroker {
    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it on a free port and waits, blocking, until it listens.
    #[cfg(not(feature = "demo-broker"))]
    pub fn start() -> Result<DemoBroker, DemoBrokerError> {
        Err(DemoBrokerError::NotCompiledIn)
    }

    /// Starts it on a free port and waits, blocking, until it listens.
    #[cfg(feature = "demo-broker")]
    pub fn start() -> Result<DemoBroker, DemoBrokerError> {
        use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

        // The library cannot say which port it got, so a free one is looked for first. Somebody
        // else may take it in between; then this fails, and can be tried again.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut broker = rumqttd::Broker::new(config(address));
        std::thread::Builder::new().name("demo-broker".to_owned()).spawn(move || {
            if let Err(why) = broker.start() {
                tracing::error!(%why, "the demo broker has ended");
            }
        })?;
        let until = std::time::Instant::now() + READY_TIMEOUT;
        while std::time::Instant::now() < until {
            if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(DemoBroker { port });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(DemoBrokerError::Silent { port })
    }
}

/// Small bounds: a demo has a handful of clients and messages of a few KiB.
#[cfg(feature = "demo-broker")]
fn config(listen: std::net::SocketAddr) -> rumqttd::Config {
    let server = rumqttd::ServerSettings {
        name: "demo".to_owned(),
        listen,
        tls: None,
        next_connection_delay_ms: 1,
        connections: rumqttd::ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: 256 * 1024,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    rumqttd::Config {
        router: rumqttd::RouterConfig {
            max_connections: 50,
            max_outgoing_packet_count: 200,
            max_segment_size: 4 * 1024 * 1024,
            max_segment_count: 4,
            ..Default::default()
        },
        v4: Some([("demo".to_owned(), server)].into()),
        ..Default::default()
    }
}
