//! A real mosquitto on loopback that a test may kill, stall and start again, and what a test needs
//! beside it: a subscriber that comes back, and a gate in the way of the publisher.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// No condition of these tests takes so long on a machine that works.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A mosquitto that keeps nothing on the disk.
pub struct Mosquitto {
    port: u16,
    child: Child,
    folder: tempfile::TempDir,
}

impl Mosquitto {
    /// Starts one on a free port and waits until it listens.
    pub fn start() -> Mosquitto {
        Mosquitto::configured(|_| String::new())
    }

    /// As [`Mosquitto::start`], with more lines in its configuration; `lines` may put files beside it.
    pub fn configured(lines: impl FnOnce(&Path) -> String) -> Mosquitto {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lines = lines(folder.path());
        // Another process may take the port between here and the broker's start: try again then.
        for _ in 0..10 {
            let port = free_port();
            write_config(folder.path(), port, &lines);
            if let Some(child) = launch(folder.path(), port) {
                return Mosquitto { port, child, folder };
            }
        }
        panic!("mosquitto did not start on any of 10 ports");
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it: SIGKILL, so that it says goodbye to nobody.
    pub fn kill(&mut self) {
        self.child.kill().expect("mosquitto can be killed");
        self.child.wait().expect("mosquitto ends");
    }

    /// Stops it from doing anything, with its connections open: SIGSTOP.
    pub fn stall(&self) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process number");
        // SAFETY: sends a signal to our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0, "mosquitto can be stopped");
    }

    /// Its folder, with its configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Lets it read its access rules again: SIGHUP.
    pub fn reload(&self) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a process number");
        // SAFETY: as above.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGHUP) }, 0, "mosquitto can be signalled");
    }

    /// Starts it again on the same port, without memory.
    pub fn restart(&mut self) {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            if let Some(child) = launch(self.folder.path(), self.port) {
                self.child = child;
                return;
            }
        }
        panic!("mosquitto did not start again on port {}", self.port);
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody has now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn write_config(folder: &Path, port: u16, lines: &str) {
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nlog_dest none\n\
         max_queued_messages 0\nuser root\n{lines}\n"
    );
    std::fs::write(folder.join("mosquitto.conf"), text).expect("a file in a temporary folder");
}

/// `None` if it ended before it listened.
fn launch(folder: &Path, port: u16) -> Option<Child> {
    let program =
        ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/opt/homebrew/sbin/mosquitto"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap_or("mosquitto");
    let mut child = Command::new(program)
        .arg("-c")
        .arg(folder.join("mosquitto.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need the program mosquitto: install the package of that name");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until {
        if child.try_wait().expect("a child can be asked").is_some() {
            return None;
        }
        if TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
    panic!("mosquitto does not listen on port {port}");
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub topic: String,
    pub payload: serde_json::Value,
    pub retain: bool,
}

/// What a subscriber has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How often the broker has confirmed the subscription.
    pub subscribed: usize,
    pub messages: Vec<Received>,
}

impl Seen {
    /// The messages whose topic ends in `/level`.
    pub fn under(&self, level: &str) -> Vec<&Received> {
        let end = format!("/{level}");
        self.messages.iter().filter(|message| message.topic.ends_with(&end)).collect()
    }

    /// The member `name` of the results, in order.
    pub fn results(&self, name: &str) -> Vec<serde_json::Value> {
        self.under("result").iter().map(|message| message.payload[name].clone()).collect()
    }
}

/// Subscribes to everything, and again after each cut. At QoS 0: the broker then writes a message
/// to us before it acknowledges it to its sender, and has nothing of ours unread when it dies, so
/// what it acknowledged has reached us.
pub struct Subscriber {
    client: AsyncClient,
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Subscribes at the broker on `port` and waits until that is confirmed.
    pub async fn start(port: u16) -> Subscriber {
        let (report, seen) = watch::channel(Seen::default());
        let name = format!("subscriber-{}", uuid::Uuid::now_v7().simple());
        let mut options = MqttOptions::new(name, "127.0.0.1", port);
        options.set_max_packet_size(1 << 20, 1 << 20);
        let (client, events) = AsyncClient::new(options, 10);
        let task = tokio::spawn(listen(client.clone(), events, report));
        let subscriber = Subscriber { client, seen, task };
        subscriber.wait("the subscription", |seen| seen.subscribed > 0).await;
        subscriber
    }

    /// Waits until what was seen fulfils `condition`, and answers it.
    pub async fn wait(&self, what: &str, condition: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        let found = tokio::time::timeout(DEADLINE, seen.wait_for(condition)).await;
        match found {
            Ok(found) => found.expect("the subscriber lives").clone(),
            Err(_) => panic!("waited in vain for {what}; seen: {:#?}", self.seen.borrow()),
        }
    }

    /// Sends a message of its own, at QoS 1.
    pub fn send(&self, topic: &str, payload: &str, retain: bool) {
        let sent = self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload);
        sent.expect("room in the queue");
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen(client: AsyncClient, mut events: EventLoop, report: watch::Sender<Seen>) {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                client.try_subscribe("#", QoS::AtMostOnce).expect("room in the queue");
            }
            Ok(Event::Incoming(Packet::SubAck(_))) => {
                report.send_modify(|seen| seen.subscribed += 1);
            }
            Ok(Event::Incoming(Packet::Publish(message))) => {
                let payload = serde_json::from_slice(&message.payload)
                    .unwrap_or_else(|_| String::from_utf8_lossy(&message.payload).into());
                let (topic, retain) = (message.topic, message.retain);
                report.send_modify(|seen| seen.messages.push(Received { topic, payload, retain }));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A way to the broker that can be shut: what is shut out is turned away at once, what is under way
/// goes on until the broker ends it.
pub struct Gate {
    port: u16,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gate {
    /// An open gate before the broker on `to`.
    pub async fn start(to: u16) -> Gate {
        let listener =
            tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (open, is_open) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                if !*is_open.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let broker = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await;
                    if let Ok(mut broker) = broker {
                        // Ends with either side.
                        let _ = tokio::io::copy_bidirectional(&mut from, &mut broker).await;
                    }
                });
            }
        });
        Gate { port, open, task }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets connections through.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Turns new connections away.
    pub fn shut(&self) {
        self.open.send_replace(false);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}
