//! `omni-perf impair` between two namespaces: what was asked for is what datagrams and TCP meet.
//!
//! ```text
//!  namespace "left"         "middle"          "right"
//!  10.9.0.1 left0 ------- a [impair] b ------- right0 10.9.0.2
//! ```

#[path = "../../xdp-redirect/tests/kernel/support/root.rs"]
mod root;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space, set_current_timer_slack};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_omni-perf");
const RIGHT: &str = "10.9.0.2:7000";
/// The kernel is to say nothing by itself.
const KEEPER: &str = "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6; \
                      ip link set lo up && echo ready && exec cat";

/// Who measures has the cores for itself, as far as these tests go.
static TURN: Mutex<()> = Mutex::new(());

/// A network namespace that ends with its owner.
struct Host(Child);

impl Host {
    fn new() -> Self {
        root::require_root();
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", KEEPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare");
        let mut said = String::new();
        let output = keeper.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut said).expect("text");
        let host = Self(keeper);
        assert_eq!(said, "ready\n", "a namespace");
        host
    }

    /// Does `work` on a thread inside.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.0.id())).expect("it runs");
        let inside = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may");
            set_current_timer_slack(std::num::NonZeroU64::new(1)).expect("a time");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs `ip` inside.
    fn ip(&self, words: &str) {
        let words = words.split_whitespace();
        let status = self.run(|| Command::new("ip").args(words).status());
        assert!(status.expect("ip").success());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Two hosts, and the forwarder between them.
struct Pair {
    left: Host,
    right: Host,
    _middle: Host,
    forwarder: Child,
    output: BufReader<ChildStdout>,
    _turn: MutexGuard<'static, ()>,
}

impl Pair {
    fn new(arguments: &str) -> Self {
        // Another test's failure is no reason to fail.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (left, middle, right) = (Host::new(), Host::new(), Host::new());
        for (host, near, far, address) in [
            (&left, "left0", "a", "10.9.0.1/24"),
            (&right, "right0", "b", "10.9.0.2/24"),
        ] {
            let to = middle.0.id();
            host.ip(&format!(
                "link add {near} type veth peer name {far} netns {to}"
            ));
            host.ip(&format!("address add {address} dev {near}"));
            host.ip(&format!("link set dev {near} up"));
            middle.ip(&format!("link set dev {far} up"));
        }
        let words = arguments.split_whitespace();
        let mut command = Command::new(PROGRAM);
        command.args(["impair", "--a", "a", "--b", "b", "--seconds", "20"]);
        command.args(words).stdout(Stdio::piped());
        let mut forwarder = middle.run(|| command.spawn()).expect("it was built");
        let mut output = BufReader::new(forwarder.stdout.take().expect("it is piped"));
        let mut said = String::new();
        output.read_line(&mut said).expect("text");
        assert_eq!(said, "ready\n");
        // Both know each other's address before anything is measured.
        for (host, port, to) in [(&left, "left0", "10.9.0.2"), (&right, "right0", "10.9.0.1")] {
            let peer = if port == "left0" { &right } else { &left };
            let far = if port == "left0" { "right0" } else { "left0" };
            let show = peer.run(|| {
                let mut command = Command::new("ip");
                command.args(["-json", "link", "show", far]);
                command.output().expect("ip").stdout
            });
            let links: Value = serde_json::from_slice(&show).expect("JSON");
            let mac = links[0]["address"].as_str().expect("an address");
            host.ip(&format!("neighbour replace {to} lladdr {mac} dev {port}"));
        }
        Self {
            left,
            right,
            _middle: middle,
            forwarder,
            output,
            _turn: turn,
        }
    }

    /// Ends the forwarder, and gives its counts, which must add up.
    fn end(mut self) -> Value {
        kill_process(Pid::from_child(&self.forwarder), Signal::TERM).expect("it runs");
        let mut said = String::new();
        self.output.read_line(&mut said).expect("text");
        assert!(self.forwarder.wait().expect("it ends").success(), "{said}");
        let counts: Value = serde_json::from_str(&said).expect("JSON");
        for way in ["a_to_b", "b_to_a"] {
            let of = |name: &str| counts[way][name].as_u64().expect("a count");
            let gone = of("lost") + of("tail_dropped") + of("refused") + of("left_in_queue");
            assert_eq!(
                of("frames_in") + of("duplicated"),
                of("frames_out") + gone,
                "{counts}"
            );
            assert_eq!((of("malformed"), of("overruns")), (0, 0), "{counts}");
        }
        counts
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        // Where it ended already there is nothing to kill.
        let _ = self.forwarder.kill();
        let _ = self.forwarder.wait();
    }
}

/// A datagram's number, and the nanoseconds that it was under way.
type Arrived = Vec<(u32, u64)>;

/// Sends `count` datagrams from left to right, evenly at `rate` a second, and gives what arrives
/// until nothing has for 200 ms, and how long that took since the first one left.
fn pass(pair: &Pair, count: u32, rate: u32, octets: usize) -> (Arrived, Duration) {
    let start = Instant::now();
    let socket = pair
        .right
        .run(|| UdpSocket::bind(RIGHT))
        .expect("an address");
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("a time");
    // Whatever this program is late with is not to look like a loss on the way.
    set_socket_recv_buffer_size_force(&socket, 16 << 20).expect("root may");
    let receive = move || {
        let (mut buffer, mut arrived) = (vec![0; 2000], Vec::new());
        let mut first_and_last = None;
        while let Ok(length) = socket.recv(&mut buffer) {
            let now = start.elapsed();
            assert_eq!(length, octets);
            let (number, sent_ns) = (buffer.first_chunk(), buffer[4..].first_chunk());
            let number = u32::from_le_bytes(*number.expect("4 octets"));
            let sent_ns = u64::from_le_bytes(*sent_ns.expect("8 octets"));
            arrived.push((number, now.as_nanos() as u64 - sent_ns));
            let sent = Duration::from_nanos(sent_ns);
            first_and_last.get_or_insert((sent, now)).1 = now;
        }
        let took = first_and_last.map(|(first, last)| last - first);
        (arrived, took.unwrap_or_default())
    };
    thread::scope(|scope| {
        let receiving = scope.spawn(receive);
        pair.left.run(|| {
            let socket = UdpSocket::bind("10.9.0.1:0").expect("an address");
            socket.connect(RIGHT).expect("a way");
            let (mut packet, interval) = (vec![0; octets], Duration::from_secs(1) / rate);
            let begin = start.elapsed();
            for number in 0..count {
                let wait = (begin + interval * number).saturating_sub(start.elapsed());
                if !wait.is_zero() {
                    thread::sleep(wait);
                }
                packet[..4].copy_from_slice(&number.to_le_bytes());
                let now_ns = start.elapsed().as_nanos() as u64;
                packet[4..12].copy_from_slice(&now_ns.to_le_bytes());
                socket.send(&packet).expect("room");
            }
        });
        receiving.join().expect("it ends")
    })
}

fn median(arrived: &Arrived) -> u64 {
    let mut times: Vec<u64> = arrived.iter().map(|&(_, ns)| ns).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

/// Five standard deviations around the mean: one run in a million is outside.
fn assert_about(count: u64, of: u32, share: f64) {
    let mean = f64::from(of) * share;
    let most = 5.0 * (mean * (1.0 - share)).sqrt();
    assert!(
        (count as f64 - mean).abs() <= most,
        "{count} of {of}, not {mean}"
    );
}

#[test]
fn delay_is_what_was_asked_for_each_way() {
    const DELAY_NS: u64 = 3_000_000;
    let plain = Pair::new("");
    let floors = (0..3).map(|_| median(&pass(&plain, 200, 2000, 64).0));
    let floor = floors.min().expect("three");
    plain.end();
    let pair = Pair::new("--delay-us 3000:0");
    let mut medians = Vec::new();
    // Others may want the cores just then, so that it is tried again; too soon is always wrong.
    for _ in 0..15 {
        let (arrived, _) = pass(&pair, 200, 2000, 64);
        assert_eq!(arrived.len(), 200);
        assert!(arrived.windows(2).all(|two| two[0].0 < two[1].0));
        assert!(arrived.iter().all(|&(_, ns)| ns >= DELAY_NS));
        medians.push(median(&arrived));
        if medians.last() < Some(&(DELAY_NS + floor + 100_000)) {
            assert_eq!(pair.end()["settings"]["b_to_a"]["delay_us"], 0);
            return;
        }
    }
    panic!("{medians:?} ns, and without delay {floor} ns");
}

#[test]
fn frames_are_lost_doubled_and_reordered_as_often_as_asked_for() {
    const COUNT: u32 = 8000;
    let pair = Pair::new("--loss 0.1:0 --duplicate 0.05:0 --reorder 0.02:0 --delay-us 2000:0");
    let (arrived, _) = pass(&pair, COUNT, 10_000, 64);
    let counts = pair.end();
    let of = |name: &str| counts["a_to_b"][name].as_u64().expect("a count");
    assert_eq!(of("frames_in"), u64::from(COUNT));
    assert_eq!(of("frames_out"), arrived.len() as u64);
    assert_about(of("lost"), COUNT, 0.1);
    assert_about(of("duplicated"), COUNT - of("lost") as u32, 0.05);
    assert_about(of("reordered"), of("frames_out") as u32, 0.02);
    let mut seen = std::collections::BTreeMap::<u32, u64>::new();
    for (number, _) in &arrived {
        *seen.entry(*number).or_default() += 1;
    }
    assert_eq!(u64::from(COUNT) - seen.len() as u64, of("lost"));
    assert_eq!(
        seen.values().filter(|&&times| times == 2).count() as u64,
        of("duplicated")
    );
    // Who was sent at once passed all that were sent up to 2 ms before.
    let quick = arrived.iter().filter(|&&(_, ns)| ns < 2_000_000).count() as u64;
    assert!(
        quick <= of("reordered") && quick * 2 > of("reordered"),
        "{quick}: {counts}"
    );
    assert!(arrived.windows(2).any(|two| two[1].0 < two[0].0));
}

#[test]
fn the_rate_is_kept_and_what_comes_beyond_it_is_dropped() {
    // 42 octets of headers before each datagram; three times as much is sent as passes. What is
    // queued is 40 ms, so that the sender may miss its time by that.
    const OCTETS: usize = 1000;
    let pair = Pair::new("--rate-bps 20000000:0 --queue-octets 100000");
    let (mut sent, mut received, mut rates) = (0, 0, Vec::new());
    // Others may want the cores just then, so that it is tried again; too fast is always wrong.
    for _ in 0..5 {
        let (arrived, took) = pass(&pair, 3600, 7200, OCTETS);
        (sent, received) = (sent + 3600, received + arrived.len() as u64);
        assert!(arrived.windows(2).all(|two| two[0].0 < two[1].0));
        let bits = (arrived.len() * (OCTETS + 42) * 8) as f64;
        let share = bits / took.as_secs_f64() / 20e6;
        assert!(share <= 1.0, "{share} of the rate");
        let waited = median(&arrived);
        rates.push((share, waited));
        if share > 0.95 && waited < 50_000_000 {
            let counts = pair.end();
            let dropped = counts["a_to_b"]["tail_dropped"].as_u64().expect("a count");
            assert_eq!(dropped + received, sent);
            assert!(waited > 30_000_000, "{waited} ns in a queue of 40 ms");
            return;
        }
    }
    panic!("shares of the rate, and ns in the queue: {rates:?}");
}

#[test]
fn tcp_gets_through_with_all_offloads_on() {
    const OCTETS: usize = 8 << 20;
    let pair = Pair::new("--loss 0.001 --delay-us 200");
    let octet = |at: usize| (at % 251) as u8;
    let listener = pair
        .right
        .run(|| TcpListener::bind(RIGHT))
        .expect("an address");
    let received = thread::scope(|scope| {
        let receiving = scope.spawn(move || {
            let (mut stream, _) = listener.accept().expect("who connects");
            stream
                .set_read_timeout(Some(Duration::from_secs(5)))
                .expect("a time");
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("all of it");
            received
        });
        let sent: Vec<u8> = (0..OCTETS).map(octet).collect();
        pair.left.run(|| {
            let mut stream = TcpStream::connect(RIGHT).expect("a way");
            stream
                .set_write_timeout(Some(Duration::from_secs(5)))
                .expect("a time");
            stream.write_all(&sent).expect("room");
        });
        receiving.join().expect("it ends")
    });
    assert_eq!(received.len(), OCTETS);
    assert!(
        received
            .iter()
            .enumerate()
            .all(|(at, &found)| found == octet(at))
    );
    let counts = pair.end();
    // They were on indeed, and each segment was impaired by itself.
    let of = |name: &str| counts["a_to_b"][name].as_u64().expect("a count");
    assert!(
        of("super_frames") > 0 && of("frames_in") > OCTETS as u64 / 1448,
        "{counts}"
    );
    assert!(of("lost") > 0 && of("refused") == 0, "{counts}");
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let mut command = Command::new(PROGRAM);
    command.args(["impair", "--a", "nowhere", "--b", "lo"]);
    let output = command.output().expect("it was built");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert_eq!(said, "omni-perf: there is no interface nowhere\n");
}
