//! A server process with its folder, and nodes that speak to it.

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_control::channel::{Channel, FIRST_LEN, Opening, SECOND_LEN};
use omni_membership::{
    AuthorityKey, Binding, FabricName, PrivateKey, PublicKey, Registration, SymmetricKey,
};
use omni_nucleus::protocol::{
    Bind, Changes, FromNode, FromNucleus, Hello, Ping, Refused, Register, VERSION, from_node,
    from_nucleus,
};
use omni_wire::MacAddr;
use prost::Message as _;
use tempfile::TempDir;

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const FABRIC: &str = "lab";

/// How many nodes are on the list of members.
const MEMBERS: u8 = 40;

/// A server.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) metrics: SocketAddr,
    child: Option<Child>,
}

pub(crate) fn private(node: u8) -> PrivateKey {
    PrivateKey([node + 1; 32])
}

pub(crate) fn public(node: u8) -> PublicKey {
    PublicKey::from_private(&private(node))
}

fn server_key() -> PrivateKey {
    PrivateKey([0xee; 32])
}

pub(crate) fn authority() -> AuthorityKey {
    AuthorityKey::from_seed(&[9; 32])
}

pub(crate) fn fabric() -> FabricName {
    FabricName::new(FABRIC).expect("a name")
}

pub(crate) fn seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// An address of this machine that nobody uses, for TCP and UDP.
fn free_address() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = tcp.local_addr().expect("its address");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

impl Server {
    /// A server in a new folder that is ready.
    pub(crate) fn start() -> Self {
        let mut server = Self {
            folder: tempfile::tempdir().expect("a folder"),
            address: free_address(),
            metrics: free_address(),
            child: None,
        };
        let members = (0..MEMBERS).map(|node| format!("\"{}\"", public(node)));
        let members: Vec<_> = members.collect();
        let text = format!(
            "fabric: {FABRIC}\nprivate_key_file: nucleus.key\nlisten: {}\n\
             store: {{redb: nucleus.redb}}\nauthority: \"{}\"\nmembers: [{}]\n\
             control: {{socket: nucleus.sock}}\nmetrics: {}\n",
            server.address,
            authority().public_key(),
            members.join(", "),
            server.metrics
        );
        fs::write(server.config(), text).expect("a configuration");
        let key = server.folder.path().join("nucleus.key");
        fs::write(&key, STANDARD.encode(server_key().0)).expect("a key");
        fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("its mode");
        server.start_again();
        server
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("nucleus.yaml")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("nucleus.sock")
    }

    pub(crate) fn start_again(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_omni-nucleus"))
            .arg("--config")
            .arg(self.config())
            .env("OMNI_LOG", "warn")
            .stdin(Stdio::null())
            .spawn();
        self.child = Some(child.expect("a process"));
        let end = Instant::now() + PATIENCE;
        // The control socket is there once everything else is.
        while UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < end, "the server is not ready");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// As by `kill -9`.
    pub(crate) fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a signal");
        child.wait().expect("an end");
    }

    /// As by `kill`.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let pid = i32::try_from(child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        let term = rustix::process::Signal::TERM;
        rustix::process::kill_process(pid.expect("a process"), term).expect("a signal");
        child.wait().expect("an end")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A node that is connected.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) stream: TcpStream,
    pub(crate) channel: Channel,
    next: u64,
}

/// Opens a stream.
pub(crate) fn dial(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.set_nodelay(true).expect("an option");
    stream
}

pub(crate) fn send(mut stream: &TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).expect("it fits").to_be_bytes();
    stream.write_all(&[&len, message].concat())
}

pub(crate) fn receive(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// The first message of a node's handshake.
pub(crate) fn opening(fabric: &str, node: u8, remote: &PublicKey) -> (Opening, [u8; FIRST_LEN]) {
    let mut ephemeral = SymmetricKey([0; 32]);
    getrandom::fill(&mut ephemeral.0).expect("randomness");
    Opening::start(fabric, &private(node), remote, &ephemeral).expect("a sound key")
}

pub(crate) fn server_public() -> PublicKey {
    PublicKey::from_private(&server_key())
}

impl Node {
    /// Connects, without a word.
    pub(crate) fn open(server: &Server, number: u8) -> Self {
        let stream = dial(server);
        let (opening, first) = opening(FABRIC, number, &server_public());
        send(&stream, &first).expect("it is sent");
        let second = receive(&stream).expect("an answer");
        assert_eq!(second.len(), SECOND_LEN);
        Self {
            number,
            stream,
            channel: opening.finish(&second).expect("the server's"),
            next: 1,
        }
    }

    /// Connects and says hello.
    pub(crate) fn connect(server: &Server, number: u8) -> Self {
        let mut node = Self::open(server, number);
        node.say(from_node::What::Hello(Hello {
            version: VERSION,
            incarnation: Vec::new(),
            revision: 0,
        }));
        node
    }

    pub(crate) fn say(&mut self, what: from_node::What) {
        let octets = FromNode::from(what).encode_to_vec();
        let sealed = self.channel.seal(&octets).expect("it fits");
        send(&self.stream, &sealed).expect("it is sent");
    }

    /// The next message; `None` when the server closed the connection.
    pub(crate) fn hear(&mut self) -> Option<from_nucleus::What> {
        let sealed = receive(&self.stream).ok()?;
        let opened = self.channel.open(&sealed).expect("the server's");
        FromNucleus::read(&opened).expect("a message")
    }

    /// Whether it is still there.
    pub(crate) fn is_answered(&mut self) -> bool {
        self.say(from_node::What::Ping(Ping {}));
        loop {
            match self.hear() {
                Some(from_nucleus::What::Pong(_)) => return true,
                Some(_) => {}
                None => return false,
            }
        }
    }

    /// What became of the last request, and all changes that were told before.
    pub(crate) fn answer(&mut self) -> (Refused, Vec<Changes>) {
        let mut told = Vec::new();
        loop {
            match self.hear().expect("an answer") {
                from_nucleus::What::Result(result) => {
                    assert_eq!(result.number + 1, self.next);
                    return (result.refused(), told);
                }
                from_nucleus::What::Changes(changes) => told.push(changes),
                _ => {}
            }
        }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn register(&mut self, sequence: u64) {
        let registration = Registration {
            public_key: public(self.number),
            sequence,
            endpoints: Vec::new(),
            lanes: 1,
            max_frame: 1500,
            vlans: None,
            certificate: None,
            expires: seconds() + 3600,
            name: format!("node-{}", self.number),
        };
        let signed = registration.sign(&fabric(), &private(self.number));
        let registration = signed.expect("a registration").octets().to_vec();
        let number = self.number();
        self.say(from_node::What::Register(Register {
            number,
            registration,
        }));
    }

    /// Asks for 10.0.`third`.`last`.
    pub(crate) fn bind(&mut self, third: u8, last: u8, sequence: u64) {
        let binding = Binding {
            public_key: public(self.number),
            vlan: 7,
            mac: MacAddr([2, 0, 0, 0, 0, self.number]),
            ip: Some([10, 0, third, last].into()),
            sequence,
            expires: seconds() + 3600,
            withdrawn: false,
            release_to: None,
        };
        let signed = binding.sign(&fabric(), &private(self.number));
        let binding = signed.expect("a binding").octets().to_vec();
        let number = self.number();
        self.say(from_node::What::Bind(Bind { number, binding }));
    }

    /// Everything up to the first changes that say that they are all.
    pub(crate) fn everything(&mut self) -> Vec<Changes> {
        let mut told = Vec::new();
        loop {
            if let from_nucleus::What::Changes(changes) = self.hear().expect("changes") {
                let all = changes.all;
                told.push(changes);
                if all {
                    return told;
                }
            }
        }
    }
}
