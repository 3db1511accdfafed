//! Nodes, servers and their store, in virtual time.

use core::time::Duration;
use std::collections::BTreeMap;

use omni_membership::{
    AuthorityKey, Binding, Certificate, FabricName, Grants, PrivateKey, PublicKey, Registration,
    Revocation, Trust,
};
use omni_store::{Event, LostReason};
use omni_wire::{Instant, MacAddr, Now, WallTime};

use prost::Message as _;

use super::super::{Closed, Conn, Core, CoreConfig, Limits, ToStore};
use super::memory::Memory;
use crate::protocol::{
    Bind, Changes, FromNode, Hello, Ping, Refused, Register, VERSION, from_node, from_nucleus,
};

/// Seconds since 1970 at the start.
pub(super) const START: u64 = 1_800_000_000;

/// Numbers that look random and are the same each time.
pub(super) struct Seeded(pub(super) u64);

impl omni_control::Random for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        out.fill_with(|| self.below(256) as u8);
    }
}

impl Seeded {
    /// A number below `limit` (xorshift64*).
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// A server.
pub(super) struct Server {
    pub(super) core: Core,
    /// How much of the store's log it was told; `None` without a watch.
    pub(super) seen: Option<usize>,
    /// What it asked of the store and did not get yet.
    pub(super) asked: Option<ToStore>,
    pub(super) closed: BTreeMap<Conn, Closed>,
    /// What each connection was told.
    pub(super) told: BTreeMap<Conn, Vec<from_nucleus::What>>,
}

/// All of it.
pub(super) struct World {
    pub(super) now: Now,
    pub(super) memory: Memory,
    pub(super) servers: Vec<Server>,
    pub(super) authority: AuthorityKey,
    next_conn: u64,
}

pub(super) fn fabric() -> FabricName {
    FabricName::new("lab").expect("a name")
}

pub(super) fn private(node: u8) -> PrivateKey {
    PrivateKey([node + 1; 32])
}

pub(super) fn public(node: u8) -> PublicKey {
    PublicKey::from_private(&private(node))
}

pub(super) fn ip(last: u8) -> core::net::IpAddr {
    [10, 0, 0, last].into()
}

impl World {
    /// Servers of a fabric with an authority, and with node 0 and 1 on the list of members.
    pub(super) fn new(servers: u8, limits: Limits) -> Self {
        let authority = AuthorityKey::from_seed(&[9; 32]);
        let trust = Trust {
            fabric: fabric(),
            authority: Some(authority.public_key()),
            members: [public(0), public(1)].into(),
        };
        let server = |number| {
            let config = CoreConfig {
                trust: trust.clone(),
                server: PublicKey([0xe0 + number; 32]),
                limits,
                shares_store: servers > 1,
            };
            Server {
                core: Core::new(config, Box::new(Seeded(77 + u64::from(number)))),
                seen: None,
                asked: None,
                closed: BTreeMap::new(),
                told: BTreeMap::new(),
            }
        };
        let mut world = Self {
            now: Now {
                instant: Instant(1_000_000_000_000),
                wall: WallTime(START * 1_000_000_000),
            },
            memory: Memory::new(),
            servers: (0..servers).map(server).collect(),
            authority,
            next_conn: 0,
        };
        world.settle();
        world
    }

    /// One server, with the limits that hold by default.
    pub(super) fn one() -> Self {
        Self::new(1, Limits::default())
    }

    pub(super) fn seconds(&self) -> u64 {
        self.now.wall.0 / 1_000_000_000
    }

    /// Time passes, second by second.
    pub(super) fn advance(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.advanced(Duration::from_secs(1));
            self.settle();
        }
    }

    /// A node connects, and says hello.
    pub(super) fn connect(&mut self, server: usize, node: u8) -> Conn {
        self.connect_knowing(server, node, [0; 16], 0)
    }

    pub(super) fn connect_knowing(
        &mut self,
        server: usize,
        node: u8,
        incarnation: [u8; 16],
        revision: u64,
    ) -> Conn {
        let conn = self.connect_silent(server, node);
        let hello = Hello {
            version: VERSION,
            incarnation: incarnation.to_vec(),
            revision,
        };
        self.say(server, conn, from_node::What::Hello(hello));
        conn
    }

    pub(super) fn connect_silent(&mut self, server: usize, node: u8) -> Conn {
        self.next_conn += 1;
        let conn = Conn(self.next_conn);
        let source = (ip(node), 1000).into();
        let core = &mut self.servers[server].core;
        core.connect(self.now, conn, public(node), source);
        conn
    }

    pub(super) fn say(&mut self, server: usize, conn: Conn, what: from_node::What) {
        let len = FromNode::from(what.clone()).encoded_len();
        let core = &mut self.servers[server].core;
        core.handle_message(self.now, conn, what, len);
    }

    pub(super) fn ping(&mut self, server: usize, conn: Conn) {
        self.say(server, conn, from_node::What::Ping(Ping {}));
    }

    /// One step of a server with its store. `false`: there is nothing to do.
    pub(super) fn step(&mut self, server: usize) -> bool {
        let it = &mut self.servers[server];
        if let Some(asked) = it.asked.take() {
            match asked {
                ToStore::Load => {
                    it.seen = Some(self.memory.log.len());
                    let loaded = it.core.load(self.now, self.memory.snapshot());
                    loaded.expect("our fabric's");
                }
                ToStore::Commit(transaction) => {
                    let outcome = self.memory.commit(&transaction);
                    it.core.handle_committed(self.now, outcome);
                }
            }
            return true;
        }
        it.asked = it.core.poll_store(self.now);
        it.asked.is_some()
    }

    /// Tells a server up to `limit` of what happened in the store.
    pub(super) fn tell(&mut self, server: usize, limit: usize) -> bool {
        let it = &mut self.servers[server];
        let Some(seen) = it.seen else { return false };
        let news = self.memory.log[seen..].iter().take(limit);
        let mut told = 0;
        for event in news {
            told += 1;
            it.core.handle_event(self.now, event.clone());
        }
        it.seen = Some(seen + told);
        told > 0
    }

    /// A server loses its watch.
    pub(super) fn lose(&mut self, server: usize) {
        let it = &mut self.servers[server];
        it.seen = None;
        it.core
            .handle_event(self.now, Event::Lost(LostReason::TooSlow));
    }

    /// Reads what a server has to say, as connections that never wait would.
    pub(super) fn listen(&mut self, server: usize) {
        let it = &mut self.servers[server];
        while let Some(conn) = it.core.poll_ready() {
            while let Some(message) = it.core.poll_message(conn) {
                let what = message.what.expect("something");
                it.told.entry(conn).or_default().push(what);
            }
        }
        while let Some((conn, why)) = it.core.poll_close() {
            it.closed.insert(conn, why);
        }
    }

    /// Everything that can happen now happens.
    pub(super) fn settle(&mut self) {
        for server in 0..self.servers.len() {
            self.servers[server].core.handle_timeout(self.now);
        }
        let mut goes_on = true;
        while goes_on {
            goes_on = false;
            for server in 0..self.servers.len() {
                goes_on |= self.step(server) | self.tell(server, usize::MAX);
                self.listen(server);
            }
        }
    }

    /// What a connection was told since it was asked last.
    pub(super) fn heard(&mut self, server: usize, conn: Conn) -> Vec<from_nucleus::What> {
        self.servers[server].told.remove(&conn).unwrap_or_default()
    }

    /// The answers of those.
    pub(super) fn answers(&mut self, server: usize, conn: Conn) -> Vec<(u64, Refused, String)> {
        let heard = self.heard(server, conn);
        let answers = heard.into_iter().filter_map(|what| match what {
            from_nucleus::What::Result(answer) => {
                Some((answer.number, answer.refused(), answer.why))
            }
            _ => None,
        });
        answers.collect()
    }

    /// The changes of those.
    pub(super) fn changes(&mut self, server: usize, conn: Conn) -> Vec<Changes> {
        let heard = self.heard(server, conn);
        let changes = heard.into_iter().filter_map(|what| match what {
            from_nucleus::What::Changes(changes) => Some(changes),
            _ => None,
        });
        changes.collect()
    }

    /// A registration of a node, as it is sent.
    pub(super) fn registration(&self, node: u8, sequence: u64) -> Registration {
        Registration {
            public_key: public(node),
            sequence,
            endpoints: Vec::new(),
            lanes: 1,
            max_frame: 1500,
            vlans: None,
            certificate: None,
            expires: self.seconds() + 3600,
            name: format!("node-{node}"),
        }
    }

    /// A certificate that grants VLAN 7 and the addresses 10.0.0.0/24 alone.
    pub(super) fn certificate(&self, node: u8, serial: u64) -> Vec<u8> {
        let certificate = Certificate {
            public_key: public(node),
            name: format!("node-{node}"),
            serial,
            not_before: START - 60,
            not_after: Some(START + 100_000),
            grants: Grants {
                vlans: omni_membership::VlanRanges::new([7..=7]),
                macs: None,
                addresses: Some(
                    [omni_membership::IpPrefix::new(ip(0), 24).expect("a prefix")].into(),
                ),
            },
        };
        let signed = certificate.sign(&fabric(), &self.authority);
        signed.expect("a certificate").octets().to_vec()
    }

    pub(super) fn revocation(&self, node: u8, serial: u64) -> Vec<u8> {
        let revocation = Revocation {
            public_key: public(node),
            serial,
            issued_at: START,
            reason: "stolen".to_owned(),
        };
        let signed = revocation.sign(&fabric(), &self.authority);
        signed.expect("a revocation").octets().to_vec()
    }

    pub(super) fn register(&mut self, server: usize, conn: Conn, it: &Registration, node: u8) {
        let signed = it.sign(&fabric(), &private(node)).expect("a registration");
        let register = Register {
            number: it.sequence,
            registration: signed.octets().to_vec(),
        };
        self.say(server, conn, from_node::What::Register(register));
    }

    /// A binding of 10.0.0.`last` in VLAN 7.
    pub(super) fn binding(&self, node: u8, last: u8, sequence: u64) -> Binding {
        Binding {
            public_key: public(node),
            vlan: 7,
            mac: MacAddr([2, 0, 0, 0, 0, node]),
            ip: Some(ip(last)),
            sequence,
            expires: self.seconds() + 3600,
            withdrawn: false,
            release_to: None,
        }
    }

    /// Asks for an address, under the number of its sequence.
    pub(super) fn bind(&mut self, server: usize, conn: Conn, binding: &Binding, node: u8) {
        let bind = Bind {
            number: binding.sequence,
            binding: signed(binding, node),
        };
        self.say(server, conn, from_node::What::Bind(bind));
    }

    /// Asks, and lets it be decided.
    pub(super) fn bound(
        &mut self,
        server: usize,
        conn: Conn,
        binding: &Binding,
        node: u8,
    ) -> Refused {
        self.heard(server, conn);
        self.bind(server, conn, binding, node);
        self.settle();
        let answers = self.answers(server, conn);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers[0].1
    }

    /// Registers, and lets it be decided.
    pub(super) fn registered(
        &mut self,
        server: usize,
        conn: Conn,
        it: &Registration,
        node: u8,
    ) -> Refused {
        self.heard(server, conn);
        self.register(server, conn, it, node);
        self.settle();
        let answers = self.answers(server, conn);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers[0].1
    }
}

pub(super) fn signed(binding: &Binding, node: u8) -> Vec<u8> {
    let signed = binding.sign(&fabric(), &private(node));
    signed.expect("a binding").octets().to_vec()
}
