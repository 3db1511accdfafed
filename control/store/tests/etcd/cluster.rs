//! An etcd cluster of this test's own, on loopback, with its data in a temporary folder.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use omni_store::{EtcdConfig, EtcdStore, Timing};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Short, so that tests are. No lease of etcd is shorter than 2 s.
pub(crate) const TIMING: Timing = Timing {
    lease: Duration::from_secs(3),
    keep_alive: Duration::from_millis(800),
    heartbeat: Duration::from_millis(400),
    silence: Duration::from_millis(2000),
    request: Duration::from_millis(1500),
    patience: Duration::from_secs(5),
};

/// Longer than a healthy cluster takes for anything.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Cluster {
    folder: TempDir,
    members: Vec<Member>,
    scheme: &'static str,
    flags: Vec<String>,
}

struct Member {
    client: u16,
    peer: u16,
    process: Option<Child>,
}

impl Cluster {
    /// Starts so many members, and waits until they have a leader.
    pub(crate) fn new(size: usize) -> Self {
        let cluster = Self::start_all(size, "http", |_| Vec::new());
        cluster.wait_for_leader();
        cluster
    }

    /// Starts members with more arguments, and waits for none.
    pub(crate) fn start_all(
        size: usize,
        scheme: &'static str,
        flags: impl FnOnce(&Path) -> Vec<String>,
    ) -> Self {
        let folder = TempDir::new().expect("a folder");
        let flags = flags(folder.path());
        // All are bound before any is given back, so they differ.
        let bind = |_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let ports: Vec<_> = (0..2 * size).map(bind).collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("it is bound").port();
        let member = |pair: &[TcpListener]| Member {
            client: port(&pair[0]),
            peer: port(&pair[1]),
            process: None,
        };
        let members = ports.chunks(2).map(member).collect();
        drop(ports);
        let mut cluster = Self {
            folder,
            members,
            scheme,
            flags,
        };
        (0..size).for_each(|member| cluster.start(member));
        cluster
    }

    /// Starts a member, with the data that it has.
    pub(crate) fn start(&mut self, member: usize) {
        let peers = (0..).zip(&self.members);
        let all: Vec<_> = peers
            .map(|(number, member)| format!("m{number}=http://127.0.0.1:{}", member.peer))
            .collect();
        let Member { client, peer, .. } = self.members[member];
        let client = format!("{}://127.0.0.1:{client}", self.scheme);
        let peer = format!("http://127.0.0.1:{peer}");
        let log = self.folder.path().join(format!("m{member}.log"));
        let log = File::options().create(true).append(true).open(log);
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.data(member))
            .args(["--name", &format!("m{member}")])
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(",")])
            .args(&self.flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        let process = process.unwrap_or_else(|error| {
            panic!("etcd cannot be started ({error}): scripts/install-deps.sh installs it")
        });
        self.members[member].process = Some(process);
    }

    /// As by kill -9.
    pub(crate) fn kill(&mut self, member: usize) {
        if let Some(mut process) = self.members[member].process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it was killed");
        }
    }

    /// Holds a member, which then neither answers nor closes anything.
    pub(crate) fn freeze(&self, member: usize) {
        self.signal(member, Signal::STOP);
    }

    pub(crate) fn thaw(&self, member: usize) {
        self.signal(member, Signal::CONT);
    }

    fn signal(&self, member: usize, signal: Signal) {
        if let Some(process) = &self.members[member].process {
            kill_process(Pid::from_child(process), signal).expect("it runs");
        }
    }

    pub(crate) fn data(&self, member: usize) -> PathBuf {
        self.folder.path().join(format!("m{member}"))
    }

    pub(crate) fn url(&self, member: usize) -> String {
        format!(
            "{}://127.0.0.1:{}",
            self.scheme, self.members[member].client
        )
    }

    /// How to reach these members, with short periods.
    pub(crate) fn config(&self, members: &[usize], fabric: &str) -> EtcdConfig {
        let urls = members.iter().map(|&member| self.url(member)).collect();
        EtcdConfig {
            timing: TIMING,
            ..EtcdConfig::new(urls, fabric)
        }
    }

    /// A store in all members.
    pub(crate) fn store(&self, fabric: &str) -> EtcdStore {
        let all: Vec<_> = (0..self.members.len()).collect();
        self.store_at(&all, fabric)
    }

    /// A store that knows these members.
    pub(crate) fn store_at(&self, members: &[usize], fabric: &str) -> EtcdStore {
        EtcdStore::open(self.config(members, fabric)).expect("a configuration")
    }

    /// Asks a member, as any client could.
    pub(crate) fn ask(&self, member: usize, path: &str, request: &Value) -> Option<Value> {
        ask(self.members[member].client, path, request)
    }

    /// Waits until all members that run agree on a leader, and returns it.
    pub(crate) fn wait_for_leader(&self) -> usize {
        let start = Instant::now();
        loop {
            if let Some(leader) = self.leader() {
                return leader;
            }
            if start.elapsed() > PATIENCE {
                panic!("no leader: {}", self.logs());
            }
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    fn leader(&self) -> Option<usize> {
        let mut agreed: Option<String> = None;
        let mut ids = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            if member.process.is_none() {
                continue;
            }
            let status = self.ask(number, "maintenance/status", &json!({}))?;
            let leader = status["leader"].as_str()?.to_owned();
            if leader == "0" || agreed.as_ref().is_some_and(|agreed| *agreed != leader) {
                return None;
            }
            ids.push((status["header"]["member_id"].as_str()?.to_owned(), number));
            agreed = Some(leader);
        }
        let agreed = agreed?;
        let leader = ids.iter().find(|(id, _)| *id == agreed)?;
        Some(leader.1)
    }

    fn logs(&self) -> String {
        let read = |member| {
            let path = self.folder.path().join(format!("m{member}.log"));
            fs::read_to_string(path).unwrap_or_default()
        };
        (0..self.members.len()).map(read).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.kill(member);
        }
    }
}

/// One request over HTTP/1.0, which ends with the connection.
fn ask(port: u16, path: &str, request: &Value) -> Option<Value> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let body = request.to_string();
    let head = format!(
        "POST /v3/{path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    serde_json::from_str(body).ok()
}
