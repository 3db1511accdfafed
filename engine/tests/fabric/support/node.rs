//! A running engine: its configuration, its process, its log and its control socket.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_control::{PrivateKey, PublicKey};
use omni_engine::show::{PeerView, Show};
use rustix::process::{Pid, Signal, kill_process};

use super::{seconds, wait_until};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_omni-engine");

/// How long an engine may take to start, on a machine that does other things as well.
const START_PATIENCE: Duration = seconds(10);
/// How long it may take to answer on its control socket.
const SHOW_PATIENCE: Duration = seconds(3);

/// Processes started so far: each has a log of its own.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// What goes into a node's configuration.
#[derive(Clone, Debug)]
pub(crate) struct NodeSpec {
    pub(crate) name: String,
    /// Name of the namespace that it runs in.
    pub(crate) namespace: String,
    /// Where its files are.
    pub(crate) folder: PathBuf,
    pub(crate) underlay: String,
    /// Whether lanes have source ports of their own.
    /// Whether the driver drops what the engine would refuse.
    pub(crate) filter: bool,
    pub(crate) spread_ports: bool,
    pub(crate) private_key: PrivateKey,
    /// Name and key of the one peer.
    pub(crate) peer: (String, PublicKey),
    /// The peer's.
    pub(crate) endpoint: SocketAddr,
    pub(crate) access: String,
    /// Of the access port and of the underlay.
    pub(crate) drivers: (&'static str, &'static str),
    pub(crate) addresses: Vec<String>,
    pub(crate) mtu: String,
    pub(crate) cores: String,
    pub(crate) poll: String,
}

impl NodeSpec {
    /// Where its control socket will be.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}.sock", self.name))
    }

    /// The configuration file's content.
    pub(crate) fn yaml(&self) -> String {
        let Self {
            name,
            underlay,
            access,
            mtu,
            cores,
            poll,
            endpoint,
            drivers: (driver, underlay_driver),
            ..
        } = self;
        let (peer, key) = &self.peer;
        let ports = if self.spread_ports { "per_lane" } else { "one" };
        let ports = format!("source_ports: {ports}");
        let filter = if self.filter { "on" } else { "off" };
        let addresses: Vec<String> = self.addresses.iter().map(|a| format!("{a:?}")).collect();
        let addresses = addresses.join(", ");
        format!(
            "fabric: lab\n\
             node: {{ name: {name}, private_key_file: {name}.key, state_file: {name}.state }}\n\
             underlay:\n  interface: {underlay}\n  driver: {underlay_driver}\n\
             \u{20} {ports}\n  filter: {filter}\n\
             access:\n  - interface: {access}\n    driver: {driver}\n    mtu: {mtu}\n\
             \u{20}   addresses: [{addresses}]\n\
             workers: {{ cores: {cores}, poll: {poll} }}\n\
             peers:\n  - {{ name: {peer}, public_key: \"{key}\", endpoint: \"{endpoint}\" }}\n\
             control: {{ socket: {name}.sock }}\n"
        )
    }

    /// Writes the configuration and the key, for the owner only.
    pub(crate) fn write(&self) -> PathBuf {
        let key = self.folder.join(format!("{}.key", self.name));
        fs::write(&key, STANDARD.encode(self.private_key.0)).expect("a key file");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a private key file");
        let path = self.folder.join(format!("{}.yaml", self.name));
        fs::write(&path, self.yaml()).expect("a configuration");
        path
    }

    /// Starts the process with another configuration than [`NodeSpec::yaml`], and waits until it
    /// is ready.
    pub(crate) fn start_with(&self, yaml: &str) -> Node {
        let mut node = self.spawn_with(yaml);
        node.ready();
        node
    }

    /// The same, and does not wait.
    pub(crate) fn spawn_with(&self, yaml: &str) -> Node {
        let config = self.write();
        fs::write(&config, yaml).expect("a configuration");
        self.run(&config)
    }

    /// Starts the process and does not wait.
    pub(crate) fn spawn(&self) -> Node {
        self.run(&self.write())
    }

    /// The same without these capabilities, as `setpriv` names them, commas between.
    pub(crate) fn spawn_without(&self, capabilities: &str) -> Node {
        let names = capabilities.split(',').map(|name| format!("-{name}"));
        let bounding = names.collect::<Vec<_>>().join(",");
        let before = ["setpriv".to_owned(), format!("--bounding-set={bounding}")];
        self.run_under(&before, &[], &self.write())
    }

    /// The same with a limit, as `prlimit` names it, and without a capability that is above it.
    pub(crate) fn spawn_with_limit(&self, limit: &str, capability: &str) -> Node {
        let before = [
            "prlimit".to_owned(),
            format!("--{limit}"),
            "setpriv".to_owned(),
            format!("--bounding-set=-{capability}"),
        ];
        self.run_under(&before, &[], &self.write())
    }

    /// The same under a service manager that hears from it at a socket.
    pub(crate) fn spawn_notifying(&self, socket: &Path) -> Node {
        let before = [
            "env".to_owned(),
            format!("NOTIFY_SOCKET={}", socket.display()),
            "WATCHDOG_USEC=30000000".to_owned(),
        ];
        self.run_under(&before, &[], &self.write())
    }

    fn run(&self, config: &Path) -> Node {
        self.run_under(&[], &[], config)
    }

    /// Starts the process on this file and with these arguments more, and does not wait.
    pub(crate) fn run_with(&self, arguments: &[&str], config: &Path) -> Node {
        self.run_under(&[], arguments, config)
    }

    /// The same with a variable in its surroundings, `NAME=value`.
    pub(crate) fn run_with_variable(
        &self,
        variable: &str,
        arguments: &[&str],
        config: &Path,
    ) -> Node {
        let before = ["env".to_owned(), variable.to_owned()];
        self.run_under(&before, arguments, config)
    }

    /// Runs the program by the words `before`, with those of `after` at its end.
    fn run_under(&self, before: &[String], after: &[&str], config: &Path) -> Node {
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let log = self.folder.join(format!("{}-{number}.log", self.name));
        let file = File::create(&log).expect("a log");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(before)
            .args([PROGRAM, "--config"])
            .arg(config)
            .args(after)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log's file"))
            .stderr(file)
            .spawn()
            .expect("the tests need `ip` (Debian, Ubuntu: apt install iproute2)");
        Node {
            child,
            name: self.name.clone(),
            log,
            socket: self.socket(),
        }
    }

    /// Starts the process and waits until it is ready.
    pub(crate) fn start(&self) -> Node {
        let mut node = self.spawn();
        node.ready();
        node
    }
}

/// A process of an engine. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    name: String,
    log: PathBuf,
    socket: PathBuf,
}

impl Node {
    /// Waits until it says that it is ready; what that took from now.
    pub(crate) fn ready(&mut self) -> Duration {
        wait_until("the engine is ready", START_PATIENCE, || {
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("node {} ended with {status}", self.name);
            }
            self.log().contains(" ready node=")
        })
    }

    /// Everything it wrote.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// It answers there, and not where its specification has it.
    pub(crate) fn with_socket(mut self, socket: PathBuf) -> Self {
        self.socket = socket;
        self
    }

    /// What `omni show --json` would print. Whenever it is asked, every frame has to be somewhere.
    pub(crate) fn show(&self) -> Show {
        let show = self.ask();
        let umem = show.umem;
        let places = [
            umem.frames_free,
            umem.frames_receiving,
            umem.frames_sending,
            umem.frames_held,
        ];
        assert_eq!(places.iter().sum::<u64>(), umem.frames_total, "{umem:?}");
        assert_eq!(show.recovery.unsound, 0, "looked at each second");
        show
    }

    /// What it answers on its control socket.
    pub(crate) fn answer(&self, command: &str) -> String {
        let asked = (|| {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(SHOW_PATIENCE))?;
            writeln!(stream, "{{\"command\":\"{command}\"}}")?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line)?;
            Ok::<_, std::io::Error>(line)
        })();
        asked.unwrap_or_else(|error| panic!("control socket of {}: {error}", self.name))
    }

    fn ask(&self) -> Show {
        let line = self.answer("show");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("show: {error}: {line:?}"))
    }

    /// What it shows of its only peer.
    pub(crate) fn peer(&self) -> PeerView {
        let mut peers = self.show().peers;
        assert_eq!(peers.len(), 1, "one peer is configured");
        peers.remove(0)
    }

    /// Waits for a session with the peer.
    pub(crate) fn established(&self) {
        wait_until("a session", seconds(5), || {
            self.peer().state == "established"
        });
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the engine runs");
    }

    /// Asks it to stop, and waits.
    pub(crate) fn terminate(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_exit(seconds(5))
    }

    /// Ends it at once, without a chance to clean up.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait_exit(seconds(5));
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        wait_until(&format!("the end of node {}", self.name), within, || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.expect("it has ended")
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// The number of the thread of its first worker.
    pub(crate) fn worker_thread(&self) -> u32 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let is_worker = |task: &fs::DirEntry| {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            name.trim_end() == "omni-worker-0"
        };
        let worker = tasks.flatten().find(is_worker).expect("a worker");
        let number = worker.file_name();
        number
            .to_str()
            .and_then(|n| n.parse().ok())
            .expect("a number")
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        let open = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.expect("it runs").count()
    }

    /// Processor time of all its threads so far, by the scheduler's own clock.
    pub(crate) fn cpu_time(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let nanos = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanos.sum())
    }

    /// Processor time that it takes in the next `span`.
    pub(crate) fn cpu_time_over(&self, span: Duration) -> Duration {
        let before = self.cpu_time();
        thread::sleep(span);
        self.cpu_time() - before
    }

    /// Resident memory in octets.
    pub(crate) fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("it runs");
        let parts = ["RssAnon:", "RssFile:", "RssShmem:"].map(|field| {
            let line = status.lines().find_map(|line| line.strip_prefix(field));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or_else(|| panic!("{field} is missing: {status}")) * 1024
        });
        parts.iter().sum()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Either may fail because it has ended: all the better.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- log of node {} ---\n{}", self.name, self.log());
        }
    }
}
