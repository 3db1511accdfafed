//! The naive fabric: what every step of the real one is held against.
//!
//! It is told each order that a worker takes and each session that a handshake makes, keys
//! included. It reads every message on the wire with an AEAD of its own, and so knows what was
//! sealed, by whom, for whom. Of all that it keeps plain sets and maps. What it holds:
//!
//! - A frame comes out as it was sent, at most once behind each host, and only behind hosts that
//!   the sender's table named: the owner of the destination, or all when there is none.
//! - A message that arrives as it was sent, for the first time, in a session that the worker
//!   knows and within its limits, is delivered exactly when the table says so. Nothing else is.
//! - No nonce is used twice with a key. Nothing is sealed in a session that its responder has not
//!   heard in yet, or that is too old. No marker of a frame is ever on the wire.
//! - No frame is lost from the count: all that a worker took in is sent, delivered, consumed,
//!   staged or dropped under a name.
//! - Nothing is answered, or changed, by a datagram that no host of the fabric has sent.
//! - Control records are messages as others are, and never come out behind a host.
//! - An address goes to nobody but hosts that its station is or was behind, and to a thief only
//!   while nobody could know better.
//! - A question is answered exactly when a binding is known, with what that says; who claims what
//!   is somebody else's is not heard.
//! - Tables stay within their limits.

mod books;
mod neighbors;
mod tables;

use std::collections::{BTreeMap, HashMap, HashSet};

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use omni_control::message::{Command, FdbKey, InstallSession, Owner, PeerId, Role};
use omni_engine::datapath::TableCommand;
use omni_wire::handshake;
use omni_wire::header::{DataHeader, DataKind, INITIATION, RESPONSE};
use omni_wire::limits::{
    AAD_LEN, HEADER_LEN, REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REPLAY_WINDOW,
};
use omni_wire::outer::Outer;
use omni_wire::{Instant, MacAddr};

use crate::control::{Control, Datagram};
use crate::frame::{self, Magic};
use crate::host::{HostWorker, host_of};
use crate::report::Violation;
use crate::trace::Digest;
pub(crate) use books::Books;
use tables::{Entry, Fate, WorkerTables};

/// A set of hosts, one bit each.
pub(crate) type Hosts = u128;

/// The most hosts of a fabric.
pub(crate) const HOSTS_MAX: usize = Hosts::BITS as usize;

/// A check of the model.
pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// What becomes of a message that arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Refused.
    Dropped,
    /// Accepted, and for nobody behind the host.
    Consumed,
    /// Accepted, and its frame comes out: the one with this number.
    Delivered(u64),
}

/// What is to come out of a worker towards the stations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    /// A station's frame, the one with this number.
    Frame(u64),
    /// The engine's own: a question, or the answer to one.
    Own(Vec<u8>),
}

/// What a message sealed was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Contents {
    /// For whom.
    pub(crate) to: usize,
    pub(crate) header: DataHeader,
}

/// A session as one of its two hosts has it.
#[derive(Debug)]
struct Session {
    peer: usize,
    confirmed: bool,
    established_at: Instant,
    /// Lanes that the peer announced.
    lanes: u16,
    send_key: [u8; 32],
}

/// A message that was sealed.
#[derive(Debug)]
struct Sealed {
    /// Of the message from its header on.
    digest: u64,
    /// The frame in it; `None` for keepalives and control records.
    number: Option<u64>,
    kind: DataKind,
}

/// Where a message belongs: receiver, its session, lane, nonce.
type Place = (usize, u32, u16, u64);

#[derive(Debug, Default)]
struct HostModel {
    /// By our index.
    sessions: BTreeMap<u32, Session>,
    /// Our indices, by those of the peers.
    by_remote: HashMap<u32, Vec<u32>>,
    /// Session, lane and nonce of all that was accepted, and each lane's newest.
    accepted: HashSet<(u32, u16, u64)>,
    newest: HashMap<(u32, u16), u64>,
    workers: Vec<WorkerTables>,
    /// Of each host, its latest handshake message that was answered.
    answered: BTreeMap<usize, u64>,
}

/// The naive fabric.
#[derive(Debug)]
pub(crate) struct Model {
    magic: Magic,
    pub(crate) books: Books,
    hosts: Vec<HostModel>,
    /// Key, lane and nonce of every message ever sealed.
    nonces: HashSet<(u128, u16, u64)>,
    sealed: HashMap<Place, Sealed>,
    /// The handshake messages that were ever sent, by what authenticates them: by whom, and how
    /// many were sent before.
    handshakes: HashMap<u64, (usize, u64)>,
    /// Hosts whose wall clock was ever wrong.
    distrusted: Hosts,
    /// The hosts that each address may be behind.
    places: BTreeMap<MacAddr, Hosts>,
}

impl Model {
    /// A fabric in which nothing happened yet; `lanes` are the workers of each host.
    pub(crate) fn new(magic: Magic, lanes: &[u16]) -> Self {
        let host = |(index, lanes): (usize, &u16)| HostModel {
            workers: WorkerTables::all(index, *lanes),
            ..HostModel::default()
        };
        Self {
            magic,
            books: Books::default(),
            hosts: lanes.iter().enumerate().map(host).collect(),
            nonces: HashSet::new(),
            sealed: HashMap::new(),
            handshakes: HashMap::new(),
            distrusted: 0,
            places: BTreeMap::new(),
        }
    }

    /// An address may be behind a host from now on.
    pub(crate) fn may_be(&mut self, mac: MacAddr, host: usize) {
        *self.places.entry(mac).or_default() |= 1 << host;
    }

    /// Whether a host may believe an address to be behind an owner.
    fn is_place(&self, host: usize, key: FdbKey, owner: Owner) -> Checked {
        let place = match owner {
            Owner::Local(_) => host,
            Owner::Peer(peer) => host_of(host, peer),
        };
        let places = self.places.get(&key.mac).copied().unwrap_or(0);
        if places >> place & 1 != 0 {
            return Ok(());
        }
        Violation::because(format!(
            "host {host} has {key:?} behind host {place}, which may be behind {places:b} only"
        ))
    }

    /// A host begins a new life: it knows nothing any more but what it answered.
    pub(crate) fn reborn(&mut self, host: usize, lanes: u16) {
        let before = std::mem::take(&mut self.hosts[host]);
        self.hosts[host].workers = WorkerTables::all(host, lanes);
        self.hosts[host].answered = before.answered;
    }

    /// A handshake gave a host the keys of a session.
    pub(crate) fn session(&mut self, host: usize, install: &InstallSession) {
        self.books.counts.sessions += 1;
        let model = &mut self.hosts[host];
        let (id, remote) = (install.session_id, install.remote_session_id);
        model.by_remote.entry(remote).or_default().push(id);
        model.sessions.insert(
            id,
            Session {
                peer: host_of(host, install.peer),
                confirmed: install.role == Role::Initiator,
                established_at: install.established_at,
                lanes: install.peer_lanes,
                send_key: install.send_key.0,
            },
        );
    }

    /// A worker takes an order. Says what comes out of it towards the stations.
    pub(crate) fn order(
        &mut self,
        host: usize,
        worker: usize,
        order: &TableCommand,
    ) -> Checked<Option<Expected>> {
        if let &TableCommand::Control(Command::FdbInsert { key, owner }) = order {
            self.is_place(host, key, owner)?;
        }
        self.hosts[host].workers[worker].order(order);
        Ok(match order {
            TableCommand::Control(Command::SendFrame { frame, .. }) if worker == 0 => {
                Some(Expected::Own(frame.to_vec()))
            }
            _ => None,
        })
    }

    /// A station's frame reaches a worker: decides to whom it may go. Says the answer, if it is
    /// answered.
    pub(crate) fn enters(
        &mut self,
        host: usize,
        worker: usize,
        inner: &[u8],
    ) -> Checked<Option<Expected>> {
        let Some(number) = frame::number(&self.magic, inner) else {
            return Violation::because("a frame without a marker entered");
        };
        let entry = Entry::read(inner);
        let tables = &mut self.hosts[host].workers[worker];
        let fate = tables.enters(&entry);
        if let Some(owner) = tables.source_owner(&entry) {
            self.is_place(host, entry.source_key(), owner)?;
        }
        match fate {
            Fate::Sent(targets) => {
                let bit = |&peer: &PeerId| 1 << host_of(host, peer);
                let bits = targets.iter().fold(0, |bits: Hosts, peer| bits | bit(peer));
                self.books.allow(number, bits);
            }
            Fate::Answered(mac) => {
                let request = frame::read_arp(inner);
                self.books.counts.answered += 1;
                return Ok(
                    request.map(|request| Expected::Own(frame::answer_to(inner, &request, mac)))
                );
            }
            Fate::Refused => self.books.refuse(number, host),
            Fate::Taken => {}
        }
        Ok(None)
    }

    /// A worker sends a message: says for whom it is, and judges whether it might be sent.
    pub(crate) fn seals(
        &mut self,
        now: Instant,
        host: usize,
        worker: usize,
        octets: &[u8],
    ) -> Checked<Contents> {
        self.shows_nothing(octets)?;
        let outer = Outer::parse(octets);
        let message = outer
            .ok()
            .and_then(|outer| octets.get(outer.payload..outer.end));
        let header = message.and_then(|message| DataHeader::parse(message).ok());
        let (Some(message), Some(header)) = (message, header) else {
            return Violation::because(format!("host {host} sent no message: {octets:02x?}"));
        };
        let remotes = self.hosts[host].by_remote.get(&header.session_id);
        let opened = remotes.into_iter().flatten().find_map(|&id| {
            let session = &self.hosts[host].sessions[&id];
            open(&session.send_key, message).map(|inner| (id, inner))
        });
        let Some((id, inner)) = opened else {
            return Violation::because(format!(
                "host {host} sealed with no key of a session to {}: {header:?}",
                header.session_id
            ));
        };
        let to = self.may_seal(now, (host, worker), id, &header)?;
        self.hosts[host].workers[worker].flow.sealed += 1;
        self.books.counts.sealed += 1;
        let number = match header.kind {
            DataKind::Control => {
                Self::is_hidden(&inner, &message[HEADER_LEN..])?;
                self.books.counts.records += 1;
                None
            }
            DataKind::Data if inner.is_empty() => None,
            DataKind::Data => Some(self.books.seals(&self.magic, host, to, &inner)?),
        };
        let digest = Digest::of(message);
        let DataHeader {
            session_id,
            lane,
            nonce,
            kind,
        } = header;
        let sealed = Sealed {
            digest,
            number,
            kind,
        };
        self.sealed.insert((to, session_id, lane, nonce), sealed);
        Ok(Contents { to, header })
    }

    /// Whether a host may seal a message with this header in a session. Says who the peer is.
    fn may_seal(
        &mut self,
        now: Instant,
        (host, worker): (usize, usize),
        id: u32,
        header: &DataHeader,
    ) -> Checked<usize> {
        let model = &self.hosts[host];
        let session = &model.sessions[&id];
        let broken = if usize::from(header.lane) != worker {
            "sealed on a lane that is not the worker's"
        } else if !model.workers[worker].knows(id) {
            "sealed in a session that the worker was told to forget"
        } else if !session.confirmed {
            "the responder sealed before it heard anything in the session"
        } else if now >= session.established_at + REJECT_AFTER_TIME {
            "sealed in a session that is too old"
        } else if header.nonce >= REJECT_AFTER_MESSAGES {
            "sealed beyond the limit of the counter"
        } else {
            let mut key = [0; 16];
            key.copy_from_slice(&session.send_key[..16]);
            let used = (u128::from_le_bytes(key), header.lane, header.nonce);
            if self.nonces.insert(used) {
                return Ok(session.peer);
            }
            "a nonce was used twice with one key"
        };
        Violation::because(format!(
            "{broken}: host {host}, worker {worker}, session {id}, {header:?}"
        ))
    }

    /// A message reaches a worker: says what is to become of it, and believes that it does.
    pub(crate) fn arrives(
        &mut self,
        now: Instant,
        host: usize,
        worker: usize,
        octets: &[u8],
    ) -> Checked<Verdict> {
        self.hosts[host].workers[worker].flow.received += 1;
        let Some((sealed, header)) = self.verified(now, host, worker, octets) else {
            return Ok(Verdict::Dropped);
        };
        let (kind, number) = (sealed.kind, sealed.number);
        let model = &mut self.hosts[host];
        let DataHeader {
            session_id,
            lane,
            nonce,
            ..
        } = header;
        model.accepted.insert((session_id, lane, nonce));
        let newest = model.newest.entry((session_id, lane)).or_default();
        *newest = nonce.max(*newest);
        let Some(session) = model.sessions.get_mut(&session_id) else {
            return Ok(Verdict::Dropped);
        };
        session.confirmed = true;
        let peer = session.peer;
        let tables = &mut model.workers[worker];
        let (Some(number), DataKind::Data) = (number, kind) else {
            tables.flow.consumed += 1;
            return Ok(Verdict::Consumed);
        };
        let entry = Entry::read(self.books.octets(number));
        let may_leave = tables.may_leave(&entry, crate::host::peer_of(host, peer));
        if let Some(owner) = tables.source_owner(&entry) {
            self.is_place(host, entry.source_key(), owner)?;
        }
        if may_leave {
            Ok(Verdict::Delivered(number))
        } else {
            self.books.refuse(number, host);
            Ok(Verdict::Dropped)
        }
    }

    /// Whether a worker must take a message for one of its peer's, and for a new one.
    fn verified(
        &self,
        now: Instant,
        host: usize,
        worker: usize,
        octets: &[u8],
    ) -> Option<(&Sealed, DataHeader)> {
        let outer = Outer::parse(octets).ok()?;
        let message = octets.get(outer.payload..outer.end)?;
        let header = DataHeader::parse(message).ok()?;
        let DataHeader {
            session_id,
            lane,
            nonce,
            ..
        } = header;
        let model = &self.hosts[host];
        let session = model.sessions.get(&session_id)?;
        let newest = model.newest.get(&(session_id, lane)).copied().unwrap_or(0);
        let in_time = model.workers[worker].knows(session_id)
            && now < session.established_at + REJECT_AFTER_TIME
            && lane < session.lanes
            && nonce.saturating_add(REPLAY_WINDOW) > newest
            && !model.accepted.contains(&(session_id, lane, nonce));
        let sealed = self.sealed.get(&(host, session_id, lane, nonce))?;
        (in_time && sealed.digest == Digest::of(message)).then_some((sealed, header))
    }

    /// What came out of a worker towards the stations, beside what was to come out.
    pub(crate) fn delivers(
        &mut self,
        host: usize,
        worker: usize,
        expected: &[Expected],
        delivered: &[Vec<u8>],
    ) -> Checked {
        let flow = &mut self.hosts[host].workers[worker].flow;
        flow.delivered += delivered.len() as u64;
        let is_same = |(expected, octets): (&Expected, &Vec<u8>)| match expected {
            Expected::Frame(number) => self.books.octets(*number) == octets.as_slice(),
            Expected::Own(own) => own == octets,
        };
        let pairs = || expected.iter().zip(delivered);
        if delivered.len() != expected.len() || !pairs().all(is_same) {
            return Violation::because(format!(
                "host {host}, worker {worker} delivered {delivered:02x?}, and the tables say \
                 {expected:02x?}"
            ));
        }
        for (expected, octets) in pairs() {
            if let Expected::Frame(_) = expected {
                self.books.delivers(&self.magic, host, octets)?;
            }
        }
        Ok(())
    }

    /// What a worker holds after a turn.
    pub(crate) fn balance(&self, host: usize, index: usize, worker: &HostWorker) -> Checked {
        let tables = &self.hosts[host].workers[index];
        tables
            .balance(worker)
            .map_err(|what| Violation(format!("host {host}, worker {index}: {what}")))
    }

    /// A handshake message leaves a host.
    pub(crate) fn shakes(&mut self, host: usize, payload: &[u8]) -> Checked {
        self.shows_nothing(payload)?;
        let before = self.handshakes.len() as u64;
        self.handshakes
            .insert(authenticated(payload), (host, before));
        Ok(())
    }

    /// A host's wall clock goes wrong: from then on nobody can tell which of its initiations are
    /// older than others, nor can it of others'.
    pub(crate) fn distrust(&mut self, host: usize) {
        self.distrusted |= 1 << host;
    }

    /// What a host answered to a datagram, and how many commands followed from it.
    pub(crate) fn answers(
        &mut self,
        host: usize,
        question: &[u8],
        answers: &[Datagram],
        commands: usize,
    ) -> Checked {
        if answers.is_empty() && commands == 0 {
            return Ok(());
        }
        let kind = question.get(4).copied();
        let sent = self.handshakes.get(&authenticated(question));
        let Some(&(sender, number)) = sent else {
            return Violation::because(format!(
                "host {host} acted upon a datagram that nobody sent (type {kind:?})"
            ));
        };
        if answers.is_empty() {
            return Ok(());
        }
        let newest = self.hosts[host].answered.insert(sender, number);
        let in_order = newest.is_none_or(|newest| number > newest);
        let trusted = self.distrusted & (1 << host | 1 << sender) == 0;
        let broken = if kind != Some(INITIATION) || answers.len() > 1 {
            "answered something other than an initiation, or more than once"
        } else if answers
            .iter()
            .any(|answer| answer.payload.len() > question.len())
        {
            "answered with more than it was sent"
        } else if trusted && !in_order {
            "answered an initiation again, or after a newer one"
        } else {
            return Ok(());
        };
        Violation::because(format!("host {host} {broken} (type {kind:?})"))
    }

    /// A message is lost on its way: counts the frame in it.
    pub(crate) fn loses(&mut self, to: usize, header: &DataHeader) {
        let place = (to, header.session_id, header.lane, header.nonce);
        if self.sealed.get(&place).is_some_and(|s| s.number.is_some()) {
            self.books.counts.lost += 1;
        }
    }

    /// Whether a host's workers agree on who owns the addresses that more than one of them knows.
    pub(crate) fn agrees(&self, host: usize, workers: &[HostWorker], control: &Control) -> Checked {
        let tables = &self.hosts[host].workers;
        for (index, (table, worker)) in tables.iter().zip(workers).enumerate() {
            table
                .matches(worker)
                .and_then(|()| table.follows(control))
                .map_err(|what| Violation(format!("host {host}, worker {index}: {what}")))?;
        }
        WorkerTables::agree(tables).map_err(|what| Violation(format!("host {host}: {what}")))
    }

    fn shows_nothing(&self, octets: &[u8]) -> Checked {
        if frame::is_plain(&self.magic, octets) {
            return Violation::because(format!("plaintext on the wire: {octets:02x?}"));
        }
        Ok(())
    }

    /// Whether nothing of a record is in what was made of it.
    fn is_hidden(record: &[u8], sealed: &[u8]) -> Checked {
        if frame::shows(record, sealed) {
            return Violation::because(format!("a record in plaintext on the wire: {sealed:02x?}"));
        }
        Ok(())
    }
}

/// Opens a message, from its header on, with another AEAD than the data path's.
fn open(key: &[u8; 32], message: &[u8]) -> Option<Vec<u8>> {
    let (head, sealed) = message.split_at_checked(HEADER_LEN)?;
    let (covered, tag) = head.split_at(AAD_LEN);
    let mut nonce = [0; 12];
    nonce[2..].copy_from_slice(covered.get(6..)?);
    let mut inner = sealed.to_vec();
    ChaCha20Poly1305::new(Key::from_slice(key))
        .decrypt_in_place_detached(
            Nonce::from_slice(&nonce),
            covered,
            &mut inner,
            Tag::from_slice(tag),
        )
        .ok()
        .map(|()| inner)
}

/// A digest of what is authenticated of a handshake message: all but mac2, which counts only
/// under load.
fn authenticated(payload: &[u8]) -> u64 {
    let covered = match payload.get(4) {
        Some(&INITIATION) if payload.len() == handshake::INITIATION_LEN => {
            &payload[..payload.len() - handshake::MAC_LEN]
        }
        Some(&RESPONSE) if payload.len() == handshake::RESPONSE_LEN => {
            &payload[..payload.len() - handshake::MAC_LEN]
        }
        _ => payload,
    };
    Digest::of(covered)
}

/// The address that everybody listens to.
pub(crate) fn is_multicast(mac: MacAddr) -> bool {
    mac.0[0] & 1 != 0
}
