//! The switch under operations of hosts, of peers that say anything, and of a rendezvous, against
//! copies that follow its orders and against the rules of who may change what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use arbitrary::Unstructured;
use omni_control::PublicKey;
use omni_control::message::{Command, FdbKey, Owner, PeerId, PortId};
use omni_engine::switch::{
    Bound, GroupReport, Neighbor, PeerLimits, Send, Source, Switch, SwitchConfig, SwitchLimits,
    Told,
};
use omni_wire::record::{Announcement, Claim, Entry, GroupChange, Release, Withdrawal, Writer};
use omni_wire::{Instant, MacAddr};

const PORTS: u8 = 2;
const PEERS: u16 = 3;
/// Operations of one run.
const STEPS_MAX: usize = 200;
/// What a peer may have, and all local ports together.
const LIMITS: PeerLimits = PeerLimits {
    macs_max: 6,
    addresses_max: 5,
};
const LOCAL_MAX: usize = 8;
/// The longest record that is sent (`PROTOCOL` section 5).
const RECORD_MAX: usize = 1200;

/// Who owns what, and what is bound to whom.
type View = (
    BTreeMap<FdbKey, Owner>,
    BTreeMap<(u16, IpAddr), (MacAddr, Owner)>,
);

/// Runs the target: a sequence of operations.
pub fn run(octets: &[u8]) {
    let mut choices = Unstructured::new(octets);
    let mut world = World::new(choices.arbitrary().unwrap_or(false));
    for _ in 0..STEPS_MAX {
        if choices.is_empty() || world.step(&mut choices).is_err() {
            break;
        }
        world.take();
        world.check();
    }
    // All that is learned ages out, what was frozen for half an hour as well.
    for _ in 0..24 {
        world.now = world.now + Duration::from_secs(120);
        world.wake();
        world.take();
        world.check();
    }
    let learned = world.view().0;
    let fixed = |key: &FdbKey| world.fixed.contains_key(key);
    assert!(
        learned.keys().all(fixed),
        "it should have aged out: {learned:?}"
    );
}

struct World {
    switch: Switch,
    now: Instant,
    /// What the workers were told.
    copy: View,
    /// Entries that the operator set.
    fixed: BTreeMap<FdbKey, Owner>,
}

fn peer_key(peer: u16) -> PublicKey {
    PublicKey([peer as u8 + 1; 32])
}

fn key(choices: &mut Unstructured<'_>) -> arbitrary::Result<FdbKey> {
    let octet = choices.arbitrary::<u8>()?;
    Ok(FdbKey {
        vlan: u16::from(octet >> 7) * 7,
        mac: MacAddr([2, 0, 0, 0, 0, octet & 0x0f]),
    })
}

fn ip(choices: &mut Unstructured<'_>) -> arbitrary::Result<IpAddr> {
    let octet = choices.arbitrary::<u8>()?;
    let host = octet & 0x0f;
    Ok(match octet >> 6 {
        0..=2 => IpAddr::from([10, 0, 0, host]),
        _ => IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(host)]),
    })
}

fn peer(choices: &mut Unstructured<'_>) -> arbitrary::Result<PeerId> {
    Ok(PeerId(choices.int_in_range(0..=PEERS - 1)?))
}

fn owner(choices: &mut Unstructured<'_>) -> arbitrary::Result<Owner> {
    Ok(if choices.arbitrary()? {
        Owner::Peer(peer(choices)?)
    } else {
        Owner::Local(PortId(choices.int_in_range(0..=PORTS - 1)?))
    })
}

impl World {
    fn new(asks_directory: bool) -> Self {
        let own = PublicKey([0xee; 32]);
        let config = SwitchConfig {
            asks_directory,
            limits: SwitchLimits {
                local_macs: LOCAL_MAX,
                local_addresses: LOCAL_MAX,
                ..SwitchLimits::default()
            },
            ..SwitchConfig::new(usize::from(PORTS), own)
        };
        let mut world = Self {
            switch: Switch::new(config),
            now: Instant(1_000_000_000_000),
            copy: View::default(),
            fixed: BTreeMap::new(),
        };
        for n in 0..PEERS {
            world
                .switch
                .add_peer(world.now, PeerId(n), peer_key(n), LIMITS);
        }
        world.take();
        world
    }

    fn view(&self) -> View {
        let owners = self.switch.iter().map(|(&key, entry)| (key, entry.owner));
        let bound = |neighbor: Neighbor| {
            let Bound {
                vlan,
                ip,
                mac,
                owner,
            } = neighbor.bound;
            ((vlan, ip), (mac, owner))
        };
        (
            owners.collect(),
            self.switch.neighbors().map(bound).collect(),
        )
    }

    /// What is due is done, whenever the switch asked for it.
    fn wake(&mut self) {
        if self
            .switch
            .poll_timeout()
            .is_some_and(|due| due <= self.now)
        {
            self.switch.handle_timeout(self.now);
        }
    }

    fn step(&mut self, choices: &mut Unstructured<'_>) -> arbitrary::Result<()> {
        let now = self.now;
        match choices.int_in_range(0..=15)? {
            0 | 1 => {
                let (key, owner) = (key(choices)?, owner(choices)?);
                self.speak(key, owner);
            }
            2 => {
                let (key, ip, owner) = (key(choices)?, ip(choices)?, owner(choices)?);
                // What a worker reports went through its table first.
                self.speak(key, owner);
                if self.switch.owner(key) == Some(owner) {
                    let FdbKey { vlan, mac } = key;
                    self.switch.bound(
                        now,
                        Bound {
                            vlan,
                            ip,
                            mac,
                            owner,
                        },
                    );
                }
            }
            3 => self.switch.contested(now, key(choices)?, owner(choices)?),
            4..=6 => {
                let from = peer(choices)?;
                let record = record(choices)?;
                self.say(from, &record);
            }
            7 => {
                let from = peer(choices)?;
                let len = choices.int_in_range(0..=60)?;
                let record = choices
                    .bytes(usize::from(len as u8).min(choices.len()))?
                    .to_vec();
                self.say(from, &record);
            }
            8 => {
                let peer = peer(choices)?;
                if choices.arbitrary()? {
                    self.switch.peer_up(now, peer);
                } else {
                    self.switch.peer_down(peer);
                }
            }
            9 => {
                let owner = owner(choices)?;
                self.switch.remove_owner(now, owner);
                self.fixed.retain(|_, held| *held != owner);
                if let Owner::Peer(PeerId(n)) = owner {
                    self.switch.add_peer(now, PeerId(n), peer_key(n), LIMITS);
                }
            }
            10 => {
                let report = GroupReport {
                    vlan: key(choices)?.vlan,
                    port: PortId(choices.int_in_range(0..=PORTS)?),
                    group: IpAddr::from([239, 1, 1, choices.arbitrary::<u8>()? % 8]),
                    join: choices.arbitrary()?,
                };
                self.switch.group(now, report);
            }
            11 => self.switch.strayed(now, key(choices)?, peer(choices)?),
            12 => {
                let told = Told {
                    key: key(choices)?,
                    ip: choices
                        .arbitrary::<bool>()?
                        .then(|| ip(choices))
                        .transpose()?,
                    peer: peer(choices)?,
                    sequence: choices.arbitrary::<u8>()?.into(),
                };
                match choices.int_in_range(0..=2)? {
                    0 => self.switch.untold(now, told),
                    1 => self.switch.set_silent(now, told.peer, choices.arbitrary()?),
                    _ => self.switch.told(now, told, Duration::from_secs(60)),
                }
            }
            13 => {
                let FdbKey { vlan, mac } = key(choices)?;
                let ip = choices
                    .arbitrary::<bool>()?
                    .then(|| ip(choices))
                    .transpose()?;
                self.switch.granted(now, vlan, ip, mac);
                let _ = self.switch.take_local_change();
                let _ = self.switch.local_bindings().count();
                while self.switch.poll_check().is_some() {}
            }
            14 => {
                if choices.ratio(1, 4)? {
                    let (key, owner) = (key(choices)?, owner(choices)?);
                    self.switch.insert_static(now, key, owner);
                    self.fixed.insert(key, owner);
                } else {
                    self.switch
                        .querier(now, 0, PortId(choices.int_in_range(0..=PORTS)?));
                }
            }
            _ => {
                let span = match choices.int_in_range(0..=2)? {
                    0 => Duration::from_millis(choices.arbitrary::<u8>()?.into()),
                    1 => Duration::from_millis(choices.arbitrary::<u16>()?.into()),
                    _ => Duration::from_secs(choices.arbitrary::<u8>()?.into()),
                };
                self.now = self.now + span;
                self.wake();
            }
        }
        Ok(())
    }

    /// A frame of an address arrives, as a worker with this copy of the table deals with it.
    fn speak(&mut self, key: FdbKey, owner: Owner) {
        match self.copy.0.get(&key) {
            Some(held) if *held != owner => self.switch.contested(self.now, key, owner),
            _ => {
                self.copy.0.insert(key, owner);
                self.switch.learned(self.now, 0, key, owner);
            }
        }
    }

    /// A peer sends a record: nobody loses anything by it but the peer itself.
    fn say(&mut self, from: PeerId, record: &[u8]) {
        let before = self.view();
        let told: Vec<Neighbor> = self.switch.neighbors().collect();
        self.switch.record(self.now, from, record);
        let (after, sender) = (self.view(), Owner::Peer(from));
        // What a rendezvous told gives way to whoever is heard.
        let told: BTreeSet<(u16, IpAddr)> = told
            .into_iter()
            .filter(|neighbor| neighbor.source == Source::Nucleus)
            .map(|Neighbor { bound, .. }| (bound.vlan, bound.ip))
            .collect();
        for (key, owner) in &before.0 {
            let now = after.0.get(key);
            assert!(
                now == Some(owner) || *owner == sender,
                "{sender:?} of {key:?}: {owner:?}, now {now:?}"
            );
        }
        for (key, owner) in &after.0 {
            assert!(
                before.0.contains_key(key),
                "{key:?} {owner:?} out of a record"
            );
        }
        for (key, held) in &before.1 {
            let now = after.1.get(key);
            // Who inherits what the sender withdraws may have its most already: its oldest goes.
            let inherits = after.1.iter().any(|(key, now)| {
                now.1 == held.1 && before.1.get(key).is_some_and(|then| then.1 == sender)
            });
            let may = held.1 == sender || told.contains(key) || inherits;
            assert!(
                now == Some(held) || may,
                "{sender:?} of {key:?}: {held:?}, now {now:?}"
            );
        }
        for (key, held) in &after.1 {
            let then = before.1.get(key);
            assert!(
                then.is_some() || held.1 == sender,
                "{key:?} {held:?} out of a record"
            );
        }
    }

    /// Takes all that the switch decided.
    fn take(&mut self) {
        loop {
            while let Some((_, command)) = self.switch.poll_order() {
                self.follow(command);
            }
            match self.switch.poll_send() {
                Some(Send::Record { record, .. }) => assert!(record.len() <= RECORD_MAX),
                Some(_) => {}
                None => return,
            }
        }
    }

    fn follow(&mut self, command: Command) {
        match command {
            Command::FdbInsert { key, owner } => {
                self.copy.0.insert(key, owner);
            }
            Command::FdbRemove { key } => {
                self.copy.0.remove(&key);
            }
            Command::Bind {
                vlan,
                ip,
                mac,
                owner,
            } => {
                self.copy.1.insert((vlan, ip), (mac, owner));
            }
            Command::Unbind { vlan, ip } => {
                self.copy.1.remove(&(vlan, ip));
            }
            _ => {}
        }
    }

    fn check(&self) {
        let view = self.view();
        assert_eq!(self.copy, view, "workers know what the switch knows");
        assert_eq!(self.switch.len(), view.0.len());
        for ((vlan, ip), (mac, owner)) in &view.1 {
            let (vlan, mac) = (*vlan, *mac);
            let held = view.0.get(&FdbKey { vlan, mac });
            assert!(
                held.is_none_or(|held| held == owner),
                "{ip} is not {owner:?}'s"
            );
        }
        for (key, owner) in &self.fixed {
            assert_eq!(view.0.get(key), Some(owner), "what the operator set stays");
        }
        let learned = |owner: Owner| {
            let its =
                |(key, held): &(&FdbKey, &Owner)| **held == owner && !self.fixed.contains_key(*key);
            view.0.iter().filter(its).count()
        };
        // One that was given away is on the giver's account until the new owner speaks.
        let peers = (0..PEERS).map(|n| learned(Owner::Peer(PeerId(n))));
        assert!(peers.sum::<usize>() <= usize::from(PEERS) * LIMITS.macs_max);
        for n in 0..PEERS {
            let owner = Owner::Peer(PeerId(n));
            let bound = view.1.values().filter(|(_, held)| *held == owner).count();
            assert!(
                bound <= LIMITS.addresses_max,
                "{owner:?} has too many bound"
            );
        }
        let local = (0..PORTS).map(|n| learned(Owner::Local(PortId(n))));
        assert!(local.sum::<usize>() <= LOCAL_MAX);
        assert!(
            self.switch
                .groups()
                .all(|(_, _, members)| !members.is_empty())
        );
    }
}

/// A record that is well-formed, with entries that say anything.
fn record(choices: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    Ok(match choices.int_in_range(0..=4)? {
        0 => record_of(choices, &[], |choices| {
            let FdbKey { vlan, mac } = key(choices)?;
            Ok(Announcement {
                vlan,
                sequence: choices.arbitrary::<i8>()? as u32,
                lifetime: choices.arbitrary()?,
                mac,
                ip: ip(choices)?,
            })
        })?,
        1 => record_of(choices, &[], |choices| {
            Ok(Withdrawal {
                vlan: key(choices)?.vlan,
                sequence: choices.arbitrary::<i8>()? as u32,
                ip: ip(choices)?,
            })
        })?,
        2 => record_of(choices, &[], |choices| {
            let FdbKey { vlan, mac } = key(choices)?;
            let sequence = choices.arbitrary::<i8>()? as u32;
            Ok(Claim {
                vlan,
                mac,
                sequence,
            })
        })?,
        3 => record_of(choices, &[], |choices| {
            let FdbKey { vlan, mac } = key(choices)?;
            Ok(Release {
                vlan,
                mac,
                sequence: choices.arbitrary::<i8>()? as u32,
                // A peer's, ours, or nobody's.
                owner: [*choices.choose(&[1, 2, 3, 0xee, 9])?; 32],
            })
        })?,
        _ => {
            let flags = choices.arbitrary()?;
            record_of(choices, &[flags], |choices| {
                Ok(GroupChange {
                    join: choices.arbitrary()?,
                    vlan: key(choices)?.vlan,
                    group: IpAddr::from([239, 1, 1, choices.arbitrary::<u8>()? % 8]),
                })
            })?
        }
    })
}

fn record_of<E: Entry>(
    choices: &mut Unstructured<'_>,
    prefix: &[u8],
    mut entry: impl FnMut(&mut Unstructured<'_>) -> arbitrary::Result<E>,
) -> arbitrary::Result<Vec<u8>> {
    let mut out = vec![0; RECORD_MAX];
    let mut writer = Writer::new(&mut out, prefix).expect("room");
    for _ in 0..choices.int_in_range(1..=4)? {
        assert!(writer.push(&entry(choices)?), "room");
    }
    let len = writer.finish();
    out.truncate(len);
    Ok(out)
}
