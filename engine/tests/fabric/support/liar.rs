//! A Nucleus that lies: it has the right key, so nodes connect to it, and says what a test wants.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use omni_control::channel::{Channel, FIRST_LEN, Welcoming};
use omni_control::{PrivateKey, PublicKey, SymmetricKey};
use omni_membership::{
    AuthorityKey, Binding, Certificate, Endpoint, EndpointKind, Grants, Registration, Revocation,
};
use omni_nucleus::protocol::{
    Changes, FromNode, FromNucleus, Pong, Refused, Result as Answer, TOKEN_LEN, VERSION, Welcome,
    from_node, from_nucleus,
};
use omni_wire::reflection;
use prost::Message as _;

use super::dice::Dice;
use super::lab::Lab;
use super::nucleus::{authority, endpoint, fabric, nucleus_key};

/// How often it says what it says.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it waits for something to read.
const PATIENCE: Duration = Duration::from_millis(10);
/// An address where nobody is (RFC 5737).
const NOWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// What it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// What nodes told it, as they did.
    Honest,
    /// Nothing of anybody, though it takes what is registered.
    Withholding,
    /// That nodes are elsewhere: registrations that were changed, and that a stranger signed. And
    /// nodes are told that they are seen elsewhere.
    WrongEndpoints,
    /// That addresses of hosts are others': bindings that were changed, of a stranger, and of a
    /// member that works with it.
    FalseBindings,
    /// That members were revoked, by an authority of its own.
    FalseRevocations,
    /// The first that it heard of each, in a list that went back.
    RolledBack,
    /// That there is nobody, in a list of another life.
    Empty,
    /// Sealed octets that mean nothing.
    Garbage,
    /// Octets that are not sealed.
    Noise,
    /// What is true, an octet a second.
    Trickling,
}

impl Mood {
    /// Everything but the truth.
    pub(crate) const LIES: [Self; 9] = [
        Self::Withholding,
        Self::WrongEndpoints,
        Self::FalseBindings,
        Self::FalseRevocations,
        Self::RolledBack,
        Self::Empty,
        Self::Garbage,
        Self::Noise,
        Self::Trickling,
    ];

    /// Whether nodes see by what it says that it is not to be believed.
    pub(crate) const fn can_be_caught(self) -> bool {
        matches!(
            self,
            Self::WrongEndpoints | Self::FalseBindings | Self::FalseRevocations | Self::Garbage
        )
    }

    /// Whether it begins with new connections.
    const fn hangs_up(self) -> bool {
        matches!(self, Self::Honest | Self::Withholding | Self::Trickling)
    }
}

/// The first and the last record of something.
type Records = (Vec<u8>, Vec<u8>);

/// What nodes said.
#[derive(Debug, Default)]
struct Book {
    registrations: BTreeMap<PublicKey, Records>,
    bindings: BTreeMap<(u16, Option<IpAddr>), Records>,
}

/// What all threads share.
#[derive(Debug)]
struct Shared {
    mood: Mutex<(Mood, u32)>,
    book: Mutex<Book>,
    over: AtomicBool,
    /// Where the first node is, in octets.
    place: [u8; 4],
}

impl Shared {
    fn mood(&self) -> (Mood, u32) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// The liar. It ends with this.
#[derive(Debug)]
pub(crate) struct Liar {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Liar {
    /// Begins in node a's namespace, honest.
    pub(crate) fn start(lab: &Lab) -> Self {
        let at = endpoint(lab);
        let IpAddr::V4(place) = at.ip() else {
            panic!("the laboratory's Nucleus has an IPv4 address")
        };
        let (listener, socket) = lab.a.enter(|| {
            let listener = TcpListener::bind(at).expect("a free port");
            let socket = UdpSocket::bind(at).expect("a free port");
            (listener, socket)
        });
        let shared = Arc::new(Shared {
            mood: Mutex::new((Mood::Honest, 0)),
            book: Mutex::new(Book::default()),
            over: AtomicBool::new(false),
            place: place.octets(),
        });
        listener.set_nonblocking(true).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let (meets, reflects) = (shared.clone(), shared.clone());
        let threads = vec![
            thread::spawn(move || meet(&listener, &meets)),
            thread::spawn(move || reflect(&socket, &reflects)),
        ];
        Self { shared, threads }
    }

    /// Turns to something else.
    pub(crate) fn turn(&self, mood: Mood) {
        let mut now = self
            .shared
            .mood
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *now = (mood, now.1 + 1);
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Takes connections.
fn meet(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut number = 0;
    let mut lines = Vec::new();
    while !shared.is_over() {
        match listener.accept() {
            Ok((stream, _)) => {
                number += 1;
                let shared = shared.clone();
                lines.push(thread::spawn(move || {
                    // A node that hangs up ends it.
                    let _ = Line::open(stream, number).and_then(|line| line.run(&shared));
                }));
            }
            Err(_) => thread::sleep(PATIENCE),
        }
    }
    for line in lines {
        let _ = line.join();
    }
}

/// Tells nodes where they are, or are not.
fn reflect(socket: &UdpSocket, shared: &Shared) {
    let mut octets = [0; 2048];
    while !shared.is_over() {
        let Ok((len, from)) = socket.recv_from(&mut octets) else {
            continue;
        };
        let Some(probe) = reflection::Probe::parse(&octets[..len]) else {
            continue;
        };
        let source = match shared.mood().0 {
            Mood::Honest => from,
            _ => (NOWHERE, 9).into(),
        };
        let answer = reflection::Answer {
            token: probe.token,
            source,
        };
        let _ = socket.send_to(&answer.emit(), from);
    }
}

/// A connection.
struct Line {
    stream: TcpStream,
    channel: Channel,
    number: u64,
    came: Vec<u8>,
    waits: Vec<u8>,
    last_octet: Instant,
    revision: u64,
    dice: Dice,
}

impl Line {
    fn open(mut stream: TcpStream, number: u64) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut first = [0; 2 + FIRST_LEN];
        stream.read_exact(&mut first)?;
        let mut ephemeral = SymmetricKey([0x5a; 32]);
        ephemeral.0[..8].copy_from_slice(&number.to_le_bytes());
        let opened = Welcoming::read("lab", &nucleus_key(), &ephemeral, &first[2..]);
        let (welcoming, _) = opened.map_err(io::Error::other)?;
        let (channel, second) = welcoming.respond().map_err(io::Error::other)?;
        stream.write_all(&(second.len() as u16).to_be_bytes())?;
        stream.write_all(&second)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            channel,
            number,
            came: Vec::new(),
            waits: Vec::new(),
            last_octet: Instant::now(),
            revision: 1,
            dice: Dice(number | 1 << 40),
        })
    }

    fn run(mut self, shared: &Shared) -> io::Result<()> {
        let (_, born) = shared.mood();
        let mut said = Instant::now();
        while !shared.is_over() {
            let (mood, turn) = shared.mood();
            if turn != born && mood.hangs_up() {
                return Ok(());
            }
            self.listen(shared)?;
            if said.elapsed() >= AGAIN {
                said = Instant::now();
                self.speak(mood, shared)?;
            }
            self.flush(mood)?;
        }
        Ok(())
    }

    fn listen(&mut self, shared: &Shared) -> io::Result<()> {
        let mut octets = [0; 16 * 1024];
        match self.stream.read(&mut octets) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(len) => self.came.extend(&octets[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        while let Some((len, rest)) = self.came.split_first_chunk::<2>() {
            let len = usize::from(u16::from_be_bytes(*len));
            let Some(message) = rest.get(..len) else {
                break;
            };
            let opened = self.channel.open(message).map_err(io::Error::other)?;
            self.came.drain(..2 + len);
            if let Ok(Some(what)) = FromNode::read(&opened) {
                self.hear(what, shared)?;
            }
        }
        Ok(())
    }

    /// Takes whatever it is told, and says that it keeps it.
    fn hear(&mut self, what: from_node::What, shared: &Shared) -> io::Result<()> {
        let kept = |number| {
            from_nucleus::What::Result(Answer {
                number,
                refused: Refused::No.into(),
                why: String::new(),
            })
        };
        let mut book = shared.book.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match what {
            from_node::What::Hello(_) => from_nucleus::What::Welcome(Welcome {
                version: VERSION,
                token: [self.number as u8; TOKEN_LEN].to_vec(),
            }),
            from_node::What::Register(register) => {
                let octets = register.registration;
                if let Ok(said) = Registration::unverified(&octets) {
                    let entry = book.registrations.entry(said.public_key);
                    let known = entry.or_insert_with(|| (octets.clone(), Vec::new()));
                    known.1 = octets;
                }
                kept(register.number)
            }
            from_node::What::Bind(bind) => {
                let octets = bind.binding;
                if let Ok(said) = Binding::unverified(&octets) {
                    let entry = book.bindings.entry((said.vlan, said.ip));
                    let known = entry.or_insert_with(|| (octets.clone(), Vec::new()));
                    known.1 = octets;
                }
                kept(bind.number)
            }
            from_node::What::Ping(_) => from_nucleus::What::Pong(Pong {}),
            from_node::What::Call(_) => return Ok(()),
        };
        drop(book);
        self.say(&FromNucleus::from(answer).encode_to_vec())
    }

    fn speak(&mut self, mood: Mood, shared: &Shared) -> io::Result<()> {
        let book = shared.book.lock().unwrap_or_else(PoisonError::into_inner);
        self.revision += 1;
        let mut changes = Changes {
            incarnation: vec![7; 16],
            revision: self.revision,
            all: true,
            ..Changes::default()
        };
        match mood {
            Mood::Honest | Mood::Trickling => {
                let last = |(_, last): &Records| last.clone();
                changes.registrations = book.registrations.values().map(last).collect();
                changes.bindings = book.bindings.values().map(last).collect();
            }
            Mood::Withholding => {}
            Mood::WrongEndpoints => changes.registrations = wrong_endpoints(&book, shared.place),
            Mood::FalseBindings => {
                changes.registrations = vec![accomplice()];
                changes.bindings = false_bindings(&book);
            }
            Mood::FalseRevocations => changes.revocations = false_revocations(&book),
            Mood::RolledBack => {
                changes.revision = 1;
                let first = |(first, _): &Records| first.clone();
                changes.registrations = book.registrations.values().map(first).collect();
                changes.bindings = book.bindings.values().map(first).collect();
            }
            Mood::Empty => changes.incarnation = self.dice.octets(16),
            Mood::Garbage => {
                drop(book);
                let len = 1 + self.dice.below(2000);
                let garbage = self.dice.octets(len);
                return self.say(&garbage);
            }
            Mood::Noise => {
                drop(book);
                let noise = self.dice.octets(500);
                return self.stream.write_all(&noise);
            }
        }
        drop(book);
        if mood == Mood::Trickling && !self.waits.is_empty() {
            return Ok(());
        }
        let what = from_nucleus::What::Changes(changes);
        self.say(&FromNucleus::from(what).encode_to_vec())
    }

    fn say(&mut self, plaintext: &[u8]) -> io::Result<()> {
        let sealed = self.channel.seal(plaintext).map_err(io::Error::other)?;
        self.waits.extend((sealed.len() as u16).to_be_bytes());
        self.waits.extend(sealed);
        Ok(())
    }

    fn flush(&mut self, mood: Mood) -> io::Result<()> {
        let count = match mood {
            Mood::Trickling if self.last_octet.elapsed() < Duration::from_secs(1) => 0,
            Mood::Trickling => self.waits.len().min(1),
            _ => self.waits.len(),
        };
        if count > 0 {
            self.last_octet = Instant::now();
            self.stream.write_all(&self.waits[..count])?;
            self.waits.drain(..count);
        }
        Ok(())
    }
}

/// Octets with all of `what` replaced.
fn replaced<const N: usize>(octets: &[u8], what: [u8; N], with: [u8; N]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    for at in 0..=octets.len().saturating_sub(N) {
        if octets[at..].starts_with(&what) {
            octets[at..at + N].copy_from_slice(&with);
        }
    }
    octets
}

/// Seconds since 1970, and milliseconds that are later than any node's sequence.
fn times() -> (u64, u64) {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = since.expect("a clock").as_secs();
    (seconds, seconds * 1000 + 60_000)
}

/// A key that no member has.
fn stranger() -> PrivateKey {
    PrivateKey([0x66; 32])
}

/// The key of a member that works with the liar.
fn accomplice_key() -> PrivateKey {
    PrivateKey([0x67; 32])
}

/// It is a member by right.
fn accomplice() -> Vec<u8> {
    let public_key = PublicKey::from_private(&accomplice_key());
    let certificate = Certificate {
        public_key,
        name: "mallory".to_owned(),
        serial: 1,
        not_before: 0,
        not_after: None,
        grants: Grants::default(),
    };
    let certificate = certificate.sign(&fabric(), &authority()).expect("sound");
    registration(accomplice_key(), Some(certificate.octets().to_vec()))
}

/// A registration that says to be nowhere.
fn registration(private: PrivateKey, certificate: Option<Vec<u8>>) -> Vec<u8> {
    let (seconds, sequence) = times();
    let registration = Registration {
        public_key: PublicKey::from_private(&private),
        sequence,
        endpoints: vec![Endpoint {
            address: (NOWHERE, 51_820).into(),
            kind: EndpointKind::Configured,
        }],
        lanes: 1,
        max_frame: 1500,
        vlans: None,
        certificate,
        expires: seconds + 3600,
        name: "mallory".to_owned(),
    };
    let signed = registration.sign(&fabric(), &private).expect("sound");
    signed.octets().to_vec()
}

fn wrong_endpoints(book: &Book, place: [u8; 4]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (public_key, (_, last)) in &book.registrations {
        all.push(replaced(last, place, NOWHERE.octets()));
        let certificate = Registration::unverified(last)
            .ok()
            .and_then(|r| r.certificate);
        // A stranger shows the member's certificate; and says to be the member.
        let by_stranger = registration(stranger(), certificate);
        let own = PublicKey::from_private(&stranger());
        all.push(replaced(&by_stranger, own.0, public_key.0));
        all.push(by_stranger);
    }
    all
}

fn false_bindings(book: &Book) -> Vec<Vec<u8>> {
    let (seconds, sequence) = times();
    let mut all = Vec::new();
    for (_, last) in book.bindings.values() {
        let Ok(said) = Binding::unverified(last) else {
            continue;
        };
        all.push(replaced(last, said.mac.0, [2, 6, 6, 6, 6, 6]));
        for private in [stranger(), accomplice_key()] {
            let binding = Binding {
                public_key: PublicKey::from_private(&private),
                sequence,
                expires: seconds + 3600,
                withdrawn: false,
                release_to: None,
                ..said.clone()
            };
            let signed = binding.sign(&fabric(), &private).expect("sound");
            all.push(signed.octets().to_vec());
        }
    }
    all
}

fn false_revocations(book: &Book) -> Vec<Vec<u8>> {
    let own = AuthorityKey::from_seed(&[0x66; 32]);
    let revoked = book.registrations.keys().map(|&public_key| {
        let revocation = Revocation {
            public_key,
            serial: 1000,
            issued_at: 0,
            reason: "because".to_owned(),
        };
        let signed = revocation.sign(&fabric(), &own).expect("sound");
        signed.octets().to_vec()
    });
    revoked.collect()
}
