//! Hard outputs of the real daemon: a Modbus client over TCP, bytes that are none, and lines that
//! record what they were driven to.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inspectd::hard::eye::Edges;
use inspectd::hard::gpio::{Chips, KernelChips, Line};
use inspectd::hard::modbus::server::CONNECTIONS_MAX;
use inspectd::hard::registers::{ROWS, WORDS, flag};
use inspectd::trigger::PhotoEyeOptions;
use serde_json::Value;
use tokio_modbus::client::{Context, Reader, tcp};
use tokio_modbus::{ExceptionCode, Slave};

use crate::support::mosquitto::{DEADLINE, Mosquitto, free_port};
use crate::support::plc::{Controller, Running, Say, newest, site};
use crate::support::reload::{nothing_is_lost, wait_until};
use crate::support::station::Site;

/// Where the station's registers begin.
const BASE: u16 = 200;

const PASS: u16 = 1;
const FAIL: u16 = 2;
const REVIEW: u16 = 3;

/// The registers of the station, read in one request.
#[derive(Clone, Debug)]
struct Registers(Vec<u16>);

impl Registers {
    fn number(&self, name: &str) -> u64 {
        self.row(name).iter().fold(0, |all, word| all << 16 | u64::from(*word))
    }

    fn verdict(&self) -> u16 {
        self.row("verdict")[0]
    }

    fn has(&self, bit: u16) -> bool {
        self.row("flags")[0] & bit != 0
    }

    fn text(&self, name: &str) -> String {
        let bytes: Vec<u8> = self.row(name).iter().flat_map(|word| word.to_be_bytes()).collect();
        String::from_utf8(bytes).expect("ASCII").trim_end_matches('\0').to_owned()
    }

    fn row(&self, name: &str) -> &[u16] {
        let row = ROWS.iter().find(|row| row.name == name).expect("a row of the table");
        &self.0[usize::from(row.at)..usize::from(row.at + row.words)]
    }
}

/// A controller that reads registers.
struct Client {
    runtime: tokio::runtime::Runtime,
    context: Context,
}

impl Client {
    fn new(port: u16) -> Client {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let start = Instant::now();
        loop {
            match runtime.block_on(tcp::connect_slave(address, Slave(1))) {
                Ok(context) => return Client { runtime, context },
                // Not listening yet.
                Err(why) => assert!(start.elapsed() < DEADLINE, "{why}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn holding(&mut self, first: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
        let read = self.context.read_holding_registers(first, count);
        self.runtime.block_on(read).expect("answered")
    }

    fn read(&mut self) -> Registers {
        let registers = Registers(self.holding(BASE, WORDS).expect("registers"));
        assert_eq!(registers.row("sequence"), registers.row("sequence_end"));
        assert_eq!(registers.has(flag::VALID), registers.verdict() != 0);
        registers
    }

    /// Reads until `condition` holds.
    fn wait(&mut self, what: &str, condition: impl Fn(&Registers) -> bool) -> Registers {
        let start = Instant::now();
        loop {
            let registers = self.read();
            if condition(&registers) {
                return registers;
            }
            assert!(start.elapsed() < DEADLINE, "{what}: {registers:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A site whose station has registers, served on a free port, which is answered too.
fn site_with_registers(broker: u16, station: &str) -> (Site, u16) {
    let site = site(broker, &format!("[plc]\n[modbus]\nbase = {BASE}\n{station}"));
    let port = serve_registers(&site);
    (site, port)
}

fn serve_registers(site: &Site) -> u16 {
    let port = free_port();
    let main = fs::read_to_string(&site.file).expect("readable");
    let main = format!("{main}[modbus]\nlisten = \"127.0.0.1:{port}\"\n");
    fs::write(&site.file, main).expect("written");
    port
}

#[test]
fn a_verdict_stands_beside_the_ids_of_its_part_until_the_next_one_is_triggered() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let (site, port) = site_with_registers(broker.port(), "");
    let daemon = Running::start(&site);
    let mut client = Client::new(port);
    let idle = client.wait("ready", |now| now.has(flag::READY));
    // Registers are served before the broker is there.
    plc.wait_ready();
    assert_eq!((idle.verdict(), idle.number("job_id"), idle.number("state")), (0, 0, 4));
    assert_eq!((idle.number("layout"), idle.number("not_ready")), (1, 0));

    plc.send("trigger", r#"{"trigger_id":70000,"part_id":"A-ü1","deadline_ms":600000}"#);
    let job_id = plc.reply("trigger", |_| true)["job_id"].as_u64().expect("accepted");
    // Told before it was acknowledged: whoever knows of the one sees the other.
    let asked = client.read();
    assert_eq!((asked.number("job_id"), asked.number("trigger_id")), (job_id, 70000));
    assert_eq!((asked.text("part_id"), asked.number("deadline_ms")), ("A-?1".into(), 600_000));
    assert!(asked.has(flag::BUSY) && asked.has(flag::ID_NUMBER) && !asked.has(flag::VALID));
    assert!((1..=600_000).contains(&asked.number("deadline_left_ms")), "{asked:?}");
    daemon.say(&[Say::Good, Say::Good]);
    let passed = client.wait("the pass", |now| now.has(flag::VALID));
    assert_eq!((passed.verdict(), passed.number("trigger_id")), (PASS, 70000));
    assert!(!passed.has(flag::LATE) && passed.number("deadline_left_ms") == 0);
    assert_eq!(passed.number("result_1_trigger_id"), 70000);
    assert_eq!(passed.number("result_1_verdict"), u64::from(PASS));
    let input = client.context.read_input_registers(BASE, 6);
    let input = client.runtime.block_on(input).expect("answered").expect("registers");
    assert_eq!(input[5], PASS, "input registers are the same");

    plc.send("trigger", r#"{"trigger_id":"T-8"}"#);
    plc.reply("trigger", |reply| reply["trigger_id"] == "T-8");
    let asked = client.read();
    assert_eq!((asked.verdict(), asked.text("trigger_text")), (0, "T-8".into()));
    assert!(asked.has(flag::ID_TEXT) && asked.number("trigger_id") == 0);
    daemon.say(&[Say::Good, Say::Dent]);
    let failed = client.wait("the fail", |now| now.has(flag::VALID));
    assert_eq!((failed.verdict(), failed.number("job_id")), (FAIL, job_id + 1));
    assert_eq!(failed.number("result_2_trigger_id"), 70000, "the one before is in the list");

    // A trigger that is refused is of a part nobody looks at.
    plc.send("trigger", r#"{"trigger_id":9,"deadlin_ms":5}"#);
    plc.reply("trigger", |reply| reply["reason"] == "bad_payload");
    let refused = client.read();
    assert_eq!((refused.verdict(), refused.number("job_id")), (0, 0));
    let beat = refused.number("heartbeat");
    client.wait("a beat", |now| now.number("heartbeat") != beat);
    assert_eq!(daemon.end().records, 2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert!(TcpStream::connect(address).is_err(), "who has stopped answers nobody");
}

#[test]
fn what_is_late_never_becomes_a_pass() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let (site, port) = site_with_registers(broker.port(), "");
    site.edit("[plc]", "[plc]\nfinish_late_ms = 600000");
    let daemon = Running::start(&site);
    let mut client = Client::new(port);
    client.wait("ready", |now| now.has(flag::READY));
    plc.wait_ready();
    plc.trigger(1, r#","deadline_ms":3000"#);
    daemon.asked();
    let late = client.wait("the missed deadline", |now| now.has(flag::VALID));
    assert_eq!((late.verdict(), late.number("trigger_id")), (REVIEW, 1));
    assert!(late.has(flag::LATE) && late.number("result_1_late") == 1);
    daemon.say(&[Say::Good, Say::Good]);
    let update = plc.result("the update", |result| !result["updates"].is_null());
    assert_eq!(update["late_outcome"], "pass");
    let after = client.wait("no part in hand", |now| !now.has(flag::BUSY) && now.has(flag::VALID));
    assert_eq!((after.verdict(), after.number("trigger_id")), (REVIEW, 1));
    assert_eq!(after.number("result_2_job_id"), 0, "an update is no result of its own");
    assert_eq!(daemon.end().records, 2);
}

#[test]
fn an_older_part_is_found_in_the_list_and_never_in_the_place_of_the_newest() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let (site, port) = site_with_registers(broker.port(), "");
    let daemon = Running::start(&site);
    let mut client = Client::new(port);
    client.wait("ready", |now| now.has(flag::READY));
    plc.wait_ready();
    plc.trigger(1, "");
    daemon.asked();
    plc.trigger(2, "");
    daemon.say(&[Say::Good, Say::Good]);
    let first = client.wait("the first", |now| now.number("result_1_job_id") != 0);
    assert_eq!((first.verdict(), first.number("trigger_id")), (0, 2));
    assert_eq!((first.number("result_1_trigger_id"), first.number("result_1_verdict")), (1, 1));
    daemon.say(&[Say::Good, Say::Dent]);
    let second = client.wait("the second", |now| now.has(flag::VALID));
    assert_eq!((second.verdict(), second.number("result_2_trigger_id")), (FAIL, 1));
    daemon.end();
}

#[test]
fn a_fault_takes_back_what_was_shown() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let (site, port) = site_with_registers(broker.port(), "");
    let daemon = Running::start(&site);
    let mut client = Client::new(port);
    plc.wait_ready();
    for id in 1..=3 {
        client.wait("ready", |now| now.has(flag::READY));
        plc.trigger(id, "");
        daemon.say(&[Say::Fail; 2]);
        plc.result("a review", |result| result["trigger_id"] == id);
    }
    let broken = client.wait("the fault", |now| now.has(flag::FAULT));
    assert_eq!((broken.number("fault"), broken.number("state")), (3, 2));
    assert!(!broken.has(flag::READY) && broken.verdict() == 0);
    assert_eq!(broken.number("result_1_job_id"), 0);
    plc.send("reset", "");
    let whole = client.wait("ready", |now| now.has(flag::READY));
    assert_eq!(whole.verdict(), 0, "what was taken back stays so");
    daemon.end();
}

/// Sends `bytes` and answers what comes back, up to `expected` bytes or the end.
fn exchange(port: u16, bytes: &[u8], expected: usize) -> Vec<u8> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
    stream.set_read_timeout(Some(DEADLINE)).expect("set");
    stream.write_all(bytes).expect("sent");
    let mut answer = vec![0; expected];
    let mut got = 0;
    while got < expected {
        match stream.read(&mut answer[got..]) {
            Ok(0) => break,
            Ok(read) => got += read,
            // Closed with bytes of ours unread.
            Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(why) => panic!("{bytes:02x?}: {why}"),
        }
    }
    answer.truncate(got);
    answer
}

/// A frame around `pdu`, to `unit`.
fn frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    let [high, low] = (pdu.len() as u16 + 1).to_be_bytes();
    [&[0xab, 0xcd, 0, 0, high, low, unit], pdu].concat()
}

#[test]
fn hostile_requests_are_answered_with_exceptions_or_closed() {
    let broker = Mosquitto::start();
    let (site, port) = site_with_registers(broker.port(), "");
    let daemon = Running::start(&site);
    let mut client = Client::new(port);
    client.wait("ready", |now| now.has(flag::READY));
    let [high, low] = BASE.to_be_bytes();
    let long = [&[0x10, 0, 0, 0, 0x7b, 0xf6][..], &[0; 246]].concat();
    let cases: &[(&str, u8, &[u8], u8)] = &[
        ("coils", 1, &[1, 0, 0, 0, 1], 1),
        ("a write", 1, &[6, high, low, 0, 1], 1),
        ("more coils than bytes", 1, &[0x0f, 0, 0, 0xff, 0xff, 1, 0], 1),
        ("a count that overflows", 1, &[0x10, 0, 0, 0x80, 0, 0], 1),
        ("a long write", 1, &long, 1),
        ("a function that is an exception", 1, &[0x83, 2], 1),
        ("a function that is none", 1, &[0], 1),
        ("an unknown encapsulation", 1, &[0x2b, 0x0d, 0], 1),
        ("a read cut short", 1, &[3, high], 3),
        ("a read with more behind it", 1, &[3, high, low, 0, 1, 0], 3),
        ("no registers", 1, &[3, high, low, 0, 0], 3),
        ("too many", 1, &[3, high, low, 0, 126], 3),
        ("65535", 4, &[3, 0xff, 0xff, 0xff, 0xff], 0x0b),
        ("past the end", 1, &[3, 0xff, 0xff, 0, 2], 2),
        ("before the block", 1, &[3, 0, 0, 0, 1], 2),
        ("half outside of it", 0, &[4, high, low, 0, 121], 2),
    ];
    for (what, unit, pdu, exception) in cases {
        let answer = exchange(port, &frame(*unit, pdu), 9);
        let expected = [0xab, 0xcd, 0, 0, 0, 3, *unit, pdu[0] | 0x80, *exception];
        assert_eq!(answer, expected, "{what}");
    }
    let other_protocol = [0, 1, 0, 1, 0, 6, 1, 3, high, low, 0, 1];
    for (what, bytes) in [
        ("another protocol", &other_protocol[..]),
        ("no length", &[0, 1, 0, 0, 0, 0, 1]),
        ("a length without a request", &[0, 1, 0, 0, 0, 1, 1]),
        ("a length beyond any", &[0, 1, 0, 0, 0xff, 0xff, 1, 3]),
        ("a request of the web", b"GET / HTTP/1.1\r\n\r\n"),
    ] {
        assert!(exchange(port, bytes, 9).is_empty(), "{what}");
    }
    // Two in one piece, and one in two.
    let one = frame(255, &[3, high, low, 0, 1]);
    assert_eq!(exchange(port, &[&one[..], &one].concat(), 22).len(), 22);
    client.wait("whoever asks well is answered all the while", |now| now.has(flag::READY));
    daemon.end();
}

#[test]
fn connections_are_bounded_and_one_that_ends_makes_room() {
    let broker = Mosquitto::start();
    let (site, port) = site_with_registers(broker.port(), "");
    let daemon = Running::start(&site);
    let mut client = Client::new(port);
    client.wait("ready", |now| now.has(flag::READY));
    let [high, low] = BASE.to_be_bytes();
    let request = frame(1, &[3, high, low, 0, 1]);
    let mut others = Vec::new();
    for _ in 1..CONNECTIONS_MAX {
        let mut other = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
        other.set_read_timeout(Some(DEADLINE)).expect("set");
        other.write_all(&request).expect("sent");
        other.read_exact(&mut [0; 11]).expect("answered");
        others.push(other);
    }
    let mut one_more = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("taken");
    one_more.set_read_timeout(Some(DEADLINE)).expect("set");
    assert!(matches!(one_more.read(&mut [0; 1]), Ok(0) | Err(_)), "and closed");
    client.wait("those that were there stay", |now| now.has(flag::READY));
    others.pop();
    let start = Instant::now();
    while exchange(port, &request, 11).len() != 11 {
        assert!(start.elapsed() < DEADLINE, "there is room");
    }
    daemon.end();
}

/// A daemon of its own, killed with its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_daemon_that_is_killed_answers_nobody() {
    let broker = Mosquitto::start();
    let (site, port) = site_with_registers(broker.port(), "");
    let child = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .arg("run")
        .arg("-c")
        .arg(&site.file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut process = Process(child);
    let mut client = Client::new(port);
    client.wait("ready", |now| now.has(flag::READY) && now.has(flag::ALIVE));
    process.0.kill().expect("killed");
    process.0.wait().expect("ended");
    let read = client.context.read_holding_registers(BASE, 1);
    assert!(client.runtime.block_on(read).is_err(), "the old connection is dead");
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "and there is no new one");
}

/// What a line was driven to, changes only; and whether it can be.
#[derive(Debug, Default)]
struct Pins {
    driven: Mutex<Vec<(u32, bool)>>,
    is_broken: std::sync::atomic::AtomicBool,
    is_dropped: Mutex<Vec<u32>>,
    held: Mutex<BTreeSet<u32>>,
}

#[derive(Clone, Debug, Default)]
struct FakeChips(Arc<Pins>);

struct FakeLine {
    line: u32,
    pins: Arc<Pins>,
}

impl Chips for FakeChips {
    fn open(&self, _: &Path, line: u32, _: bool) -> Result<Box<dyn Line>, String> {
        if !self.0.held.lock().expect("no panic").insert(line) {
            return Err("the line is held by another".into());
        }
        let mut opened = FakeLine { line, pins: Arc::clone(&self.0) };
        // As the kernel does: an output begins at rest.
        opened.drive(false)?;
        Ok(Box::new(opened))
    }

    fn watch(&self, _: &PhotoEyeOptions) -> Result<Box<dyn Edges>, String> {
        Err("this chip has outputs alone".into())
    }
}

impl Line for FakeLine {
    fn drive(&mut self, active: bool) -> Result<(), String> {
        if self.pins.is_broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err("the chip is gone".into());
        }
        let mut driven = self.pins.driven.lock().expect("no panic");
        let last = driven.iter().rev().find(|(line, _)| *line == self.line);
        if last != Some(&(self.line, active)) {
            driven.push((self.line, active));
        }
        Ok(())
    }
}

impl Drop for FakeLine {
    fn drop(&mut self) {
        self.pins.held.lock().expect("no panic").remove(&self.line);
        self.pins.is_dropped.lock().expect("no panic").push(self.line);
    }
}

impl FakeChips {
    /// What line 17 was driven to.
    fn pass(&self) -> Vec<bool> {
        let driven = self.0.driven.lock().expect("no panic");
        driven.iter().filter(|(line, _)| *line == 17).map(|(_, active)| *active).collect()
    }

    fn wait(&self, expected: &[bool]) {
        let start = Instant::now();
        while self.pass() != expected {
            assert!(start.elapsed() < DEADLINE, "{:?}, not {expected:?}", self.pass());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

const GPIO: &str = "[gpio]\nchip = \"/dev/gpiochip0\"\npass_line = 17\nhold_ms = 60000\n";

#[test]
fn outputs_go_from_a_station_that_goes_to_one_that_comes() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let (site, port) = site_with_registers(broker.port(), GPIO);
    let chips = FakeChips::default();
    let daemon = Running::start_with(&site, Some(Arc::new(chips.clone())));
    let mut client = Client::new(port);
    plc.wait_ready();
    plc.trigger(1, "");
    daemon.asked();

    // It has a part in hand, so its line and its registers are its own until that is answered.
    let stations = site.dir.path().join("stations");
    let text = fs::read_to_string(stations.join("demo.toml")).expect("readable");
    let named = |name: &str| text.replace("name = \"demo\"", &format!("name = \"{name}\""));
    fs::write(stations.join("press.toml"), named("press")).expect("written");
    fs::remove_file(stations.join("demo.toml")).expect("it was there");
    let (code, told) = std::thread::scope(|scope| {
        let reload = scope.spawn(|| Running::reload(&site));
        plc.wait("it takes no more", |seen| {
            newest(seen, "demo/state").is_some_and(|state| state["state"] == "Halted")
        });
        daemon.say(&[Say::Good, Say::Good]);
        reload.join().expect("no panic")
    });
    assert_eq!(code, Some(0), "{told}");
    let result = plc.result("its result", |result| result["trigger_id"] == 1);
    assert_eq!(result["verdict"], "pass");

    let press = Controller::of(&broker, "press");
    press.wait("the other is ready", |seen| {
        newest(seen, "press/state").is_some_and(|state| state["ready"] == true)
    });
    let before = chips.pass();
    assert_eq!(before.last(), Some(&false), "{before:?}");
    press.trigger(2, "");
    daemon.asked();
    daemon.say(&[Say::Good, Say::Good]);
    let result = press.result("its result", |result| result["trigger_id"] == 2);
    assert_eq!(result["verdict"], "pass", "{result}");
    let now = client.wait("its verdict", |now| now.verdict() == PASS);
    assert_eq!(now.number("job_id"), 1, "of the new station");
    chips.wait(&[&before[..], &[true]].concat());

    // Without one, nobody has the registers, and the line is at rest and free.
    let bare = named("bare").replace(&format!("[modbus]\nbase = {BASE}\n{GPIO}"), "");
    fs::write(stations.join("bare.toml"), bare).expect("written");
    fs::remove_file(stations.join("press.toml")).expect("it was there");
    let (code, told) = Running::reload(&site);
    assert_eq!(code, Some(0), "{told}");
    chips.wait(&[&before[..], &[true, false]].concat());
    let start = Instant::now();
    while client.holding(BASE, 1) != Err(ExceptionCode::IllegalDataAddress) {
        assert!(start.elapsed() < DEADLINE, "its registers are answered");
        std::thread::sleep(Duration::from_millis(5));
    }
    while !chips.0.held.lock().expect("no panic").is_empty() {
        assert!(start.elapsed() < DEADLINE, "its line is held");
        std::thread::sleep(Duration::from_millis(5));
    }
    daemon.end();
}

#[test]
fn a_station_that_stays_takes_another_line_when_its_parts_are_recorded() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), &format!("[plc]\n{GPIO}"));
    let chips = FakeChips::default();
    let held = || chips.0.held.lock().expect("no panic").iter().copied().collect::<Vec<_>>();
    let daemon = Running::start_with(&site, Some(Arc::new(chips.clone())));
    plc.wait_ready();
    plc.trigger(1, "");
    daemon.asked();
    site.edit("pass_line = 17", "pass_line = 27");
    let (code, told) = std::thread::scope(|scope| {
        let reload = scope.spawn(|| Running::reload(&site));
        plc.wait("it takes no more", |seen| {
            newest(seen, "demo/state").is_some_and(|state| state["state"] == "Halted")
        });
        let reply = plc.trigger(2, "");
        assert_eq!(reply["accepted"], false, "{reply}");
        daemon.say(&[Say::Good, Say::Good]);
        reload.join().expect("no panic")
    });
    assert_eq!((code, told.as_str()), (Some(0), "station \"demo\": [gpio] or [modbus]\n"));
    let result = plc.result("its result", |result| result["trigger_id"] == 1);
    assert_eq!(result["verdict"], "pass");
    assert_eq!(held(), [27]);
    let mut id = 2;
    let mut pass = || {
        // What it says of itself may still be on its way.
        wait_until("a trigger is accepted", || {
            id += 1;
            plc.trigger(id, "")["accepted"] == true
        });
        daemon.asked();
        daemon.say(&[Say::Good, Say::Good]);
        let result = plc.result("its result", |result| result["trigger_id"] == id);
        assert_eq!(result["verdict"], "pass", "{result}");
        result["job_id"].clone()
    };
    assert_eq!(pass(), 2, "its jobs count on");
    let is_driven = || chips.0.driven.lock().expect("no panic").contains(&(27, true));
    wait_until("the new line permits", is_driven);

    // One that another program has: it is what it was.
    chips.0.held.lock().expect("no panic").insert(99);
    site.edit("pass_line = 27", "pass_line = 99");
    let (code, told) = Running::reload(&site);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("held by another"), "{told}");
    wait_until("its line is its own again", || held() == [27, 99]);
    assert_eq!(pass(), 3);
    daemon.end();
    nothing_is_lost(&site, &["demo"]);
}

#[test]
fn a_line_permits_a_pass_until_the_next_trigger_and_rests_at_the_end() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site =
        site(broker.port(), &format!("[plc]\nfinish_late_ms = 600000\n{GPIO}alive_line = 27\n"));
    let chips = FakeChips::default();
    let daemon = Running::start_with(&site, Some(Arc::new(chips.clone())));
    plc.wait_ready();
    assert_eq!(chips.pass(), [false], "at rest");
    plc.trigger(1, "");
    daemon.say(&[Say::Good, Say::Good]);
    chips.wait(&[false, true]);
    let log = crate::support::plc::log(&site);
    assert_eq!(log.len(), 1, "the record was there before the permit");
    plc.trigger(2, "");
    chips.wait(&[false, true, false]);
    daemon.say(&[Say::Good, Say::Dent]);
    plc.result("the fail", |result| result["trigger_id"] == 2);
    // A deadline that passes: the update that would pass must not.
    plc.wait_ready();
    plc.trigger(3, r#","deadline_ms":100"#);
    plc.result("the late one", |result| result["deadline_met"] == false);
    daemon.say(&[Say::Good, Say::Good]);
    plc.result("its update", |result| !result["updates"].is_null());
    plc.wait_ready();
    plc.trigger(4, "");
    daemon.say(&[Say::Good, Say::Good]);
    chips.wait(&[false, true, false, true]);
    daemon.end();
    assert_eq!(chips.pass(), [false, true, false, true, false], "at rest, as at the start");
    let driven = chips.0.driven.lock().expect("no panic").clone();
    assert!(driven.contains(&(27, true)) && driven.contains(&(27, false)), "it was alive");
    assert_eq!(chips.0.is_dropped.lock().expect("no panic").len(), 2, "both are given back");
}

#[test]
fn a_permit_ends_with_its_hold() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let site = site(broker.port(), &format!("[plc]\n{}", GPIO.replace("60000", "20")));
    let chips = FakeChips::default();
    let daemon = Running::start_with(&site, Some(Arc::new(chips.clone())));
    plc.wait_ready();
    plc.trigger(1, "");
    daemon.say(&[Say::Good, Say::Good]);
    // So short that a busy machine may sleep over it; then it was never given, which is as safe.
    plc.result("the pass", |result| result["verdict"] == "pass");
    let start = Instant::now();
    while chips.pass().last() != Some(&false) {
        assert!(start.elapsed() < DEADLINE, "{:?}", chips.pass());
        std::thread::sleep(Duration::from_millis(2));
    }
    daemon.end();
}

#[test]
fn a_line_that_cannot_be_driven_is_a_fault_until_it_can_be() {
    let broker = Mosquitto::start();
    let plc = Controller::new(&broker);
    let (site, port) = site_with_registers(broker.port(), GPIO);
    let chips = FakeChips::default();
    let daemon = Running::start_with(&site, Some(Arc::new(chips.clone())));
    let mut client = Client::new(port);
    client.wait("ready", |now| now.has(flag::READY));
    plc.wait_ready();
    plc.trigger(1, "");
    daemon.say(&[Say::Good, Say::Good]);
    chips.wait(&[false, true]);
    chips.0.is_broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let broken = client.wait("the fault", |now| now.has(flag::FAULT));
    assert_eq!((broken.number("fault"), broken.verdict()), (4, 0));
    plc.wait("the fault on the wire", |seen| {
        let of = |state: &Value| state["fault_reason"] == "output_failed";
        crate::support::plc::find(seen, "state", of).is_some()
    });
    assert_eq!(plc.trigger(2, "")["reason"], "not_ready");
    chips.0.is_broken.store(false, std::sync::atomic::Ordering::SeqCst);
    client.wait("ready again", |now| now.has(flag::READY));
    // Opened anew, at rest: the pass of before is over.
    assert_eq!(chips.pass().last(), Some(&false));
    plc.trigger(3, "");
    daemon.say(&[Say::Good, Say::Good]);
    chips.wait(&[false, true, false, true]);
    daemon.end();
}

/// Standard error and exit code of `inspectd COMMAND -c SITE`.
pub fn refused(site: &Site, command: &str) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_inspectd"))
        .args([command, "-c"])
        .arg(&site.file)
        .output()
        .expect("starts");
    let both = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&both).into_owned())
}

#[test]
fn an_output_that_cannot_be_had_is_refused_at_the_start_with_a_remedy() {
    let absent = GPIO.replace("gpiochip0", "gpiochip-that-is-not-there");
    let site = site(free_port(), &format!("[plc]\n{absent}"));
    for command in ["run", "check"] {
        let (code, words) = refused(&site, command);
        assert_eq!(code, Some(2), "{words}");
        for part in ["station \"demo\"", "gpiochip-that-is-not-there", "gpioinfo", "[gpio]"] {
            assert!(words.contains(part), "{part} is not in\n{words}");
        }
    }
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let site = crate::support::plc::site(free_port(), "[plc]\n[modbus]\nbase = 0\n");
    let main = fs::read_to_string(&site.file).expect("readable");
    fs::write(&site.file, format!("{main}[modbus]\nlisten = \"127.0.0.1:{port}\"\n"))
        .expect("written");
    let (code, words) = refused(&site, "run");
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains(&format!("127.0.0.1:{port}")) && words.contains("`listen`"), "{words}");
}

#[test]
fn the_map_names_every_register_and_the_manual_has_it() {
    let (site, port) = site_with_registers(free_port(), "");
    let map = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_inspectd"))
            .args(["modbus", "map", "-c"])
            .arg(&site.file)
            .args(more)
            .output()
            .expect("starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let table = map(&[]);
    assert!(table.contains(&format!("127.0.0.1:{port}")) && table.contains("station demo"));
    let csv_text = map(&["--csv"]);
    let mut csv = csv::Reader::from_reader(csv_text.as_bytes());
    let records: Vec<_> = csv.records().map(|record| record.expect("a row")).collect();
    assert_eq!(records.len(), ROWS.len());
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/hard-outputs.md");
    let manual = fs::read_to_string(manual).expect("readable");
    for (record, row) in records.iter().zip(ROWS) {
        assert_eq!((&record[0], &record[3]), ("demo", row.name));
        assert_eq!(record[1], (BASE + row.at).to_string());
        assert!(table.contains(row.name), "{}", row.name);
        let (at, words, kind) = (row.at, row.words, row.kind.as_str());
        let line = format!("| {at} | {words} | {kind} | `{}` | {} |", row.name, row.about);
        assert!(manual.contains(&line), "docs/hard-outputs.md lacks\n{line}");
    }
}

/// A chip of the kernel's simulator, removed with the test.
pub struct SimulatedChip {
    folder: std::path::PathBuf,
}

impl SimulatedChip {
    /// `None`: this kernel has none, or we may not make one.
    pub fn new() -> Option<SimulatedChip> {
        let root = Path::new("/sys/kernel/config/gpio-sim");
        if !root.exists() {
            return None;
        }
        let folder = root.join(format!("inspectd-{}", std::process::id()));
        fs::create_dir_all(folder.join("bank0")).ok()?;
        let chip = SimulatedChip { folder };
        fs::write(chip.folder.join("bank0/num_lines"), "8").ok()?;
        fs::write(chip.folder.join("live"), "1").ok()?;
        Some(chip)
    }

    fn read(&self, file: &str) -> String {
        let text = fs::read_to_string(self.folder.join(file)).expect("readable");
        text.trim().to_owned()
    }

    /// Where it is opened.
    pub fn device(&self) -> std::path::PathBuf {
        Path::new("/dev").join(self.read("bank0/chip_name"))
    }

    /// Drives the line `line` from outside.
    pub fn pull(&self, line: u32, is_high: bool) {
        let pull = if is_high { "pull-up" } else { "pull-down" };
        fs::write(self.line_file(line, "pull"), pull).expect("writable");
    }

    fn value(&self, line: u32) -> String {
        let value = self.line_file(line, "value");
        fs::read_to_string(value).expect("readable").trim().to_owned()
    }

    fn line_file(&self, line: u32, file: &str) -> String {
        let (device, chip) = (self.read("dev_name"), self.read("bank0/chip_name"));
        format!("/sys/devices/platform/{device}/{chip}/sim_gpio{line}/{file}")
    }
}

impl Drop for SimulatedChip {
    fn drop(&mut self) {
        // It goes with the machine otherwise.
        let _ = fs::write(self.folder.join("live"), "0");
        let _ = fs::remove_dir(self.folder.join("bank0"));
        let _ = fs::remove_dir(&self.folder);
    }
}

#[test]
fn a_line_of_the_kernel_is_driven_and_given_back() {
    let Some(simulated) = SimulatedChip::new() else {
        eprintln!("SKIPPED: this kernel has no gpio-sim, or we may not use it");
        return;
    };
    let chip = simulated.device();
    for (line, active_low) in [(3, false), (4, true)] {
        let (rest, driven) = if active_low { ("1", "0") } else { ("0", "1") };
        let mut opened = KernelChips.open(&chip, line, active_low).expect("a line");
        assert_eq!(simulated.value(line), rest);
        opened.drive(true).expect("driven");
        assert_eq!(simulated.value(line), driven);
        opened.drive(false).expect("driven");
        assert_eq!(simulated.value(line), rest);
        let Err(taken) = KernelChips.open(&chip, line, active_low) else { panic!("it is taken") };
        assert!(taken.contains(&format!("line {line}")), "{taken}");
        drop(opened);
        KernelChips.open(&chip, line, active_low).expect("it was given back");
    }
}
