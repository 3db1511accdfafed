//! What an engine may do once it serves, who can look into it, and that all goes on without what it
//! gave up.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;

use crate::support::lab::{Lab, Plan, Side};
use crate::support::node::Node;
use crate::support::tools::ping_all;
use crate::support::{seconds, wait_until};

/// Capabilities by their numbers in `capabilities(7)`.
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const IPC_LOCK: u64 = 1 << 14;
const BPF: u64 = 1 << 39;
/// A user that there is everywhere.
const NOBODY: &str = "nobody";

/// A thread, by what `/proc` says.
#[derive(Debug)]
struct Thread {
    name: String,
    status: String,
}

impl Thread {
    fn field(&self, name: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name}: {}", self.status))
            .trim()
    }

    /// Effective, permitted, inheritable, ambient and bounding set.
    fn capabilities(&self) -> [u64; 5] {
        ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "CapBnd:"]
            .map(|set| u64::from_str_radix(self.field(set), 16).expect("hexadecimal"))
    }
}

fn threads(node: &Node) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.id())).expect("it runs");
    let thread = |task: fs::DirEntry| Thread {
        name: fs::read_to_string(task.path().join("comm")).expect("a name"),
        status: fs::read_to_string(task.path().join("status")).expect("a status"),
    };
    tasks.flatten().map(thread).collect()
}

/// Asserts that a serving engine may do what it needs and no more.
fn assert_little_is_left(node: &Node) {
    let serving = NET_ADMIN | NET_RAW | IPC_LOCK | BPF;
    let threads = threads(node);
    let workers = threads
        .iter()
        .filter(|it| it.name.starts_with("omni-worker-"));
    assert!(workers.count() > 0 && threads.len() > 1, "{threads:?}");
    for thread in &threads {
        let expected = match thread.name.starts_with("omni-worker-") {
            true => [0; 5],
            false => [serving, serving, 0, 0, serving],
        };
        assert_eq!(thread.capabilities(), expected, "{}", thread.name);
        assert_eq!(thread.field("NoNewPrivs:"), "1", "{}", thread.name);
        // 2: by a filter.
        assert_eq!(thread.field("Seccomp:"), "2", "{}", thread.name);
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.id())).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let core: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "no core is dumped: {core:?}");
}

/// A command of a user who has the capabilities of an engine that serves, as another engine has.
fn as_another_engine(user: u32) -> Command {
    const HELD: &str = "-all,+net_admin,+net_raw,+ipc_lock,+bpf";
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg("--clear-groups");
    for set in ["bounding-set", "inh-caps", "ambient-caps"] {
        command.arg(format!("--{set}={HELD}"));
    }
    command
}

/// Whether such a command can read the memory of a process, without being allowed more.
fn can_read_memory(process: u32, user: u32) -> bool {
    let mut read = as_another_engine(user);
    read.args(["head", "-c0", &format!("/proc/{process}/mem")]);
    read.output()
        .expect("setpriv (Debian: util-linux)")
        .status
        .success()
}

#[test]
fn others_of_the_same_user_cannot_read_the_memory_of_an_engine() {
    // Of any other program they can.
    let mut other = as_another_engine(0)
        .args(["sleep", "20"])
        .spawn()
        .expect("setpriv");
    wait_until("it can be read", seconds(5), || {
        can_read_memory(other.id(), 0)
    });
    other.kill().expect("it runs");
    other.wait().expect("it ends");
    let lab = Lab::new(Plan::default());
    let a = lab.spec(Side::A).start();
    assert!(!can_read_memory(a.id(), 0));
}

#[test]
fn workers_may_nothing_and_the_control_thread_little() {
    for plan in [Plan::xdp(), Plan::default()] {
        let lab = Lab::new(plan);
        let (a, b) = lab.start();
        ping_all(&lab.a, Side::B.inner_v4().into(), "");
        for node in [&a, &b] {
            assert_little_is_left(node);
        }
        // What takes privileges still: MTU, promiscuous mode, what was made.
        lab.a.ip("link set ua mtu 1400");
        wait_until("the MTU follows", seconds(5), || lab.a.mtu("omni0") < 1400);
        assert!(a.terminate().success() && b.terminate().success());
        assert!(lab.a.link("omni0").is_none(), "what it made is gone");
    }
}

#[test]
fn an_engine_that_became_another_user_follows_reloads_and_keeps_its_state() {
    let lab = Lab::new(Plan::default());
    let passwd = fs::read_to_string("/etc/passwd").expect("users");
    let line = passwd
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{NOBODY}:")));
    let mut ids = line
        .expect("a user")
        .split(':')
        .skip(1)
        .map(str::parse::<u32>);
    let [user, group] = [0; 2].map(|_| ids.next().expect("an id").expect("a number"));
    // The folder of a fresh installation: its socket and its state in folders yet to be made.
    fs::set_permissions(lab.folder(), Permissions::from_mode(0o755)).expect("a folder");
    let spec = lab.spec(Side::A);
    let yaml = spec
        .yaml()
        .replace("state_file: a.state", "state_file: state/a.state");
    let yaml = yaml.replace("socket: a.sock", "socket: run/a.sock");
    let config = spec.write();
    fs::write(&config, &yaml).expect("a configuration");
    let key = lab.folder().join("a.key");

    let mut refused = spec.run_with(&["--user", NOBODY], &config);
    assert_eq!(
        refused.wait_exit(seconds(10)).code(),
        Some(2),
        "{}",
        refused.log()
    );
    assert!(
        refused.log().contains("node.private_key_file"),
        "{}",
        refused.log()
    );

    chown(&key, Some(user), Some(group)).expect("root");
    let mut a = spec.run_with(&["--user", NOBODY], &config);
    a.ready();
    let a = a.with_socket(lab.folder().join("run/a.sock"));
    let b = lab.spec(Side::B).start();
    ping_all(&lab.a, Side::B.inner_v4().into(), "");
    assert_little_is_left(&a);
    for thread in threads(&a) {
        let mut ids = thread.field("Uid:").split_whitespace();
        assert!(
            ids.all(|id| id == user.to_string()),
            "{}",
            thread.field("Uid:")
        );
    }
    assert!(!can_read_memory(a.id(), user), "not by others of that user");
    let state = fs::metadata(lab.folder().join("state/a.state")).expect("its state");
    assert_eq!((state.uid(), state.mode() & 0o777), (user, 0o600));
    let socket = fs::metadata(lab.folder().join("run/a.sock")).expect("its socket");
    assert_eq!((socket.uid(), socket.mode() & 0o777), (user, 0o600));

    // A reload reads the configuration and all key files.
    let psk = lab.folder().join("psk.key");
    fs::write(&psk, STANDARD.encode([9; 32])).expect("a key");
    fs::set_permissions(&psk, Permissions::from_mode(0o600)).expect("a private key");
    let keyed = yaml.replace("endpoint:", "preshared_key_file: psk.key, endpoint:");
    fs::write(&config, &keyed).expect("a configuration");
    a.signal(Signal::HUP);
    wait_until("the refusal", seconds(5), || {
        a.log().contains("reload refused")
    });
    chown(&psk, Some(user), Some(group)).expect("root");
    a.signal(Signal::HUP);
    wait_until("the reload", seconds(5), || {
        a.log().contains("another preshared key")
    });
    assert!(a.terminate().success());
    assert!(b.terminate().success());
    assert!(lab.a.link("omni0").is_none(), "what it made is gone");
}

/// Counts `what` in a process's memory that can be written to, which is all that a key can be in.
fn in_memory(node: &Node, what: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{}/maps", node.id())).expect("root");
    let memory = File::open(format!("/proc/{}/mem", node.id())).expect("root");
    let mut found = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else {
            continue;
        };
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').expect("a range");
        let [start, end] = [start, end].map(|it| u64::from_str_radix(it, 16).expect("an address"));
        let mut octets = vec![0; (end - start) as usize];
        // Some of the kernel's own pages cannot be read.
        if memory.read_exact_at(&mut octets, start).is_ok() {
            found += octets.windows(what.len()).filter(|it| *it == what).count();
        }
    }
    found
}

#[test]
fn secrets_are_where_they_are_used_and_nowhere_else() {
    let lab = Lab::new(Plan::default());
    let mut spec = lab.spec(Side::A);
    // Octets that are nowhere by chance, as those of the other tests would be.
    spec.private_key = omni_control::PrivateKey(std::array::from_fn(|n| (n * 73 + 41) as u8));
    let psk: [u8; 32] = std::array::from_fn(|n| (n * 151 + 29) as u8);
    let file = lab.folder().join("psk.key");
    fs::write(&file, STANDARD.encode(psk)).expect("a key");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a private key");
    // Without an endpoint there is no handshake, of which `snow` would leave copies.
    let endpoint = format!(", endpoint: \"{}\"", spec.endpoint);
    let plain = spec.yaml().replace(&endpoint, "");
    let keyed = spec
        .yaml()
        .replace(&endpoint, ", preshared_key_file: psk.key");
    let a = spec.start_with(&keyed);
    let private = spec.private_key.0;
    let texts = [STANDARD.encode(private), STANDARD.encode(psk)];

    let arguments = fs::read(format!("/proc/{}/cmdline", a.id())).expect("its command line");
    let environment = fs::read(format!("/proc/{}/environ", a.id())).expect("its environment");
    let shown = a.answer("show");
    let stages = a.answer("stages");
    for text in &texts {
        assert!(!a.log().contains(text), "the log has a key");
        assert!(
            !shown.contains(text) && !stages.contains(text),
            "a key is shown"
        );
        for told in [&arguments, &environment] {
            assert!(
                !String::from_utf8_lossy(told).contains(text),
                "a key is told"
            );
        }
        assert_eq!(
            in_memory(&a, text.as_bytes()),
            0,
            "what was read of a file is wiped"
        );
    }
    // As the configuration holds them and as handshakes use them; and where they were handed on.
    let places = in_memory(&a, &private);
    let psks = in_memory(&a, &psk);
    assert!(
        (1..=4).contains(&places) && (1..=2).contains(&psks),
        "the private key is in {places} places, the preshared key in {psks}"
    );

    fs::write(lab.folder().join("a.yaml"), plain).expect("a configuration");
    a.signal(Signal::HUP);
    wait_until("the reload", seconds(5), || {
        a.log().contains("no preshared key")
    });
    assert_eq!(in_memory(&a, &psk), 0, "what is not used any more is wiped");
}
