//! A switch with two ports and three peers, and what came out of it.

mod addresses;
mod bindings;
mod groups;
mod hostile;
mod lists;
mod model;
mod moves;
mod rendezvous;
mod wishes;

use std::net::IpAddr;
use std::time::Duration;

use omni_control::PublicKey;
use omni_control::message::{Command, FdbKey, Owner, PeerId, PortId};
use omni_wire::record::{
    Announcement, Claim, Entries, Entry, GroupChange, Record, Release, Withdrawal, Writer,
};
use omni_wire::{Instant, MacAddr};

use super::{Audience, Bound, PeerLimits, Send, Switch, SwitchConfig};

const START: Instant = Instant(1_000_000_000_000);
const PORT: PortId = PortId(0);
const LOCAL: Owner = Owner::Local(PORT);
const OTHER_PORT: Owner = Owner::Local(PortId(1));
const A: PeerId = PeerId(0);
const B: PeerId = PeerId(1);
const C: PeerId = PeerId(2);
const ALPHA: Owner = Owner::Peer(A);
const BETA: Owner = Owner::Peer(B);
const GAMMA: Owner = Owner::Peer(C);
const OWN_KEY: PublicKey = PublicKey([0xee; 32]);
const VLAN: u16 = 7;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn public_key(peer: PeerId) -> PublicKey {
    PublicKey([peer.0 as u8 + 1; 32])
}

fn mac(n: u32) -> MacAddr {
    let [a, b, c, d] = n.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

fn key(n: u32) -> FdbKey {
    FdbKey {
        vlan: VLAN,
        mac: mac(n),
    }
}

fn ip(n: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + n).to_be_bytes())
}

fn bound(address: u32, host: u32, owner: Owner) -> Bound {
    Bound {
        vlan: VLAN,
        ip: ip(address),
        mac: mac(host),
        owner,
    }
}

fn announcement(address: u32, host: u32, sequence: u32) -> Announcement {
    Announcement {
        vlan: VLAN,
        sequence,
        lifetime: 300,
        mac: mac(host),
        ip: ip(address),
    }
}

fn withdrawal(address: u32, sequence: u32) -> Withdrawal {
    Withdrawal {
        vlan: VLAN,
        sequence,
        ip: ip(address),
    }
}

fn claim(host: u32) -> Claim {
    Claim {
        vlan: VLAN,
        mac: mac(host),
        sequence: 1,
    }
}

fn release(host: u32, sequence: u32, owner: PublicKey) -> Release {
    Release {
        vlan: VLAN,
        mac: mac(host),
        sequence,
        owner: owner.0,
    }
}

/// A record of entries, as a peer would send it.
fn record_of<E: Entry>(prefix: &[u8], entries: &[E]) -> Vec<u8> {
    let mut out = vec![0; 9000];
    let mut writer = Writer::new(&mut out, prefix).expect("room");
    for entry in entries {
        assert!(writer.push(entry), "room");
    }
    let len = writer.finish();
    out.truncate(len);
    out
}

/// A switch under test.
struct Bench {
    now: Instant,
    switch: Switch,
    /// Everything since the last `clear`.
    orders: Vec<(Audience, Command)>,
    asks: Vec<(Instant, Send)>,
    records: Vec<(Instant, PeerId, Box<[u8]>)>,
}

impl Bench {
    /// With sessions with all peers, everything told, and no query due.
    fn new() -> Self {
        Self::with(SwitchConfig::new(2, OWN_KEY), PeerLimits::default())
    }

    fn with(config: SwitchConfig, limits: PeerLimits) -> Self {
        let mut bench = Self::starting_with(config, limits);
        bench.wait(15 * SECOND);
        bench.clear();
        bench
    }

    /// At its start, as it has sessions with all peers.
    fn starting() -> Self {
        Self::starting_with(SwitchConfig::new(2, OWN_KEY), PeerLimits::default())
    }

    fn starting_with(config: SwitchConfig, limits: PeerLimits) -> Self {
        let mut bench = Self {
            now: START,
            switch: Switch::new(config),
            orders: Vec::new(),
            asks: Vec::new(),
            records: Vec::new(),
        };
        for peer in [A, B, C] {
            let switch = &mut bench.switch;
            switch.add_peer(START, peer, public_key(peer), limits);
            switch.peer_up(START, peer);
        }
        bench
    }

    fn clear(&mut self) {
        self.orders.clear();
        self.asks.clear();
        self.records.clear();
    }

    fn collect(&mut self) {
        while let Some(order) = self.switch.poll_order() {
            self.orders.push(order);
        }
        while let Some(send) = self.switch.poll_send() {
            match send {
                Send::Record { peer, record } => {
                    assert!(record.len() <= 1200, "{} octets", record.len());
                    self.records.push((self.now, peer, record));
                }
                ask => self.asks.push((self.now, ask)),
            }
        }
    }

    /// Lets time go on, from one time-out to the next.
    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..1_000_000 {
            match self.switch.poll_timeout().filter(|&at| at <= end) {
                Some(at) => self.now = self.now.max(at),
                None => {
                    self.now = end;
                    return;
                }
            }
            self.switch.handle_timeout(self.now);
            self.collect();
        }
        panic!("time does not go on");
    }

    fn learned(&mut self, host: u32, owner: Owner) {
        self.switch.learned(self.now, 0, key(host), owner);
        self.collect();
    }

    fn contested(&mut self, host: u32, claimant: Owner) {
        self.switch.contested(self.now, key(host), claimant);
        self.collect();
    }

    fn bound(&mut self, address: u32, host: u32, owner: Owner) {
        self.switch.bound(self.now, bound(address, host, owner));
        self.collect();
    }

    fn hear<E: Entry>(&mut self, peer: PeerId, entries: &[E]) {
        self.hear_octets(peer, &record_of(&[], entries));
    }

    fn hear_octets(&mut self, peer: PeerId, octets: &[u8]) {
        self.switch.record(self.now, peer, octets);
        self.collect();
    }

    fn owner(&self, host: u32) -> Option<Owner> {
        self.switch.owner(key(host))
    }

    /// To which host an address is bound, and behind whom.
    fn binding(&self, address: u32) -> Option<(MacAddr, Owner)> {
        let mut all = self.switch.neighbors();
        let neighbor = all.find(|n| (n.bound.vlan, n.bound.ip) == (VLAN, ip(address)))?;
        Some((neighbor.bound.mac, neighbor.bound.owner))
    }

    /// Orders of the table of addresses, as text.
    fn fdb_orders(&self) -> Vec<String> {
        let of_fdb = self.orders.iter().filter_map(|(audience, command)| {
            let text = match command {
                Command::FdbInsert { key, owner } => format!("{} {owner:?}", key.mac),
                Command::FdbRemove { key } => format!("{} gone", key.mac),
                _ => return None,
            };
            Some(format!("{audience:?} {text}"))
        });
        of_fdb.collect()
    }

    fn watched(&self) -> Vec<FdbKey> {
        let of_watch = self.orders.iter().filter_map(|(_, command)| match command {
            Command::FdbWatch { key } => Some(*key),
            _ => None,
        });
        of_watch.collect()
    }

    /// The hosts that were asked, and when, from `since` on.
    fn asked(&self, since: Instant) -> Vec<(u128, PortId, MacAddr, IpAddr)> {
        let asks = self.asks.iter().filter_map(|(at, ask)| match *ask {
            Send::Ask { port, mac, ip, .. } => Some((at.since(since).as_millis(), port, mac, ip)),
            _ => None,
        });
        asks.collect()
    }

    /// What hosts were told: out of which port, that an IP address is at a MAC address.
    fn told_hosts(&self) -> Vec<(PortId, IpAddr, MacAddr)> {
        let tells = self.asks.iter().filter_map(|(_, send)| match *send {
            Send::Tell {
                port,
                vlan: VLAN,
                mac,
                ip,
            } => Some((port, ip, mac)),
            _ => None,
        });
        tells.collect()
    }

    /// Entries of one kind that were sent, and to whom.
    fn sent<E>(
        &self,
        read: impl for<'a> Fn(Record<'a>) -> Option<Entries<'a, E>>,
    ) -> Vec<(PeerId, E)>
    where
        E: Entry,
    {
        let mut all = Vec::new();
        for (_, peer, record) in &self.records {
            let record = Record::parse(record).expect("a record");
            all.extend(
                read(record)
                    .into_iter()
                    .flatten()
                    .map(|entry| (*peer, entry)),
            );
        }
        all
    }

    fn claims(&self) -> Vec<(PeerId, Claim)> {
        self.sent(|record| match record {
            Record::Claim(entries) => Some(entries),
            _ => None,
        })
    }

    fn releases(&self) -> Vec<(PeerId, Release)> {
        self.sent(|record| match record {
            Record::Release(entries) => Some(entries),
            _ => None,
        })
    }

    fn announcements(&self) -> Vec<(PeerId, Announcement)> {
        self.sent(|record| match record {
            Record::Announce(entries) => Some(entries),
            _ => None,
        })
    }

    fn withdrawals(&self) -> Vec<(PeerId, Withdrawal)> {
        self.sent(|record| match record {
            Record::Withdraw(entries) => Some(entries),
            _ => None,
        })
    }

    fn group_changes(&self) -> Vec<(PeerId, GroupChange)> {
        self.sent(|record| match record {
            Record::Groups { changes, .. } => Some(changes),
            _ => None,
        })
    }
}
