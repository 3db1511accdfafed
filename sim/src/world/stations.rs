//! Stations: where they are, what they say of their addresses and ask for, what they hear, and
//! those who pretend to be others.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use omni_control::message::{FdbKey, Owner};
use omni_engine::switch::BINDING_LIFETIME;
use omni_wire::limits::REJECT_AFTER_TIME;
use omni_wire::{Instant, MacAddr};

use super::World;
use crate::frame::{self, Arp};
use crate::host::{Host, State, host_of};
use crate::model::Checked;
use crate::queue::Event;
use crate::report::Violation;
use crate::trace::Step;

/// How long a station takes to answer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(1);
/// For how long engines may answer with an address that nobody has any more: until its node has
/// noticed, and what it announced last has run out.
const OUTDATED: Duration = Duration::from_secs(2 * BINDING_LIFETIME.as_secs() + 10);
/// How long who wanted an address may inherit it.
const RIVAL: Duration = Duration::from_secs(65);
/// How long a theft may go on to have an effect.
const THEFT: Duration = Duration::from_secs(10);
/// The same when its victim has gone: what the thief's host sent may have been held up on its way
/// for as long as a session lasts.
const THEFT_OF_NOBODY: Duration = Duration::from_secs(REJECT_AFTER_TIME.as_secs() + 10);

/// Somebody who sends frames.
#[derive(Clone, Debug)]
pub(crate) struct Station {
    pub(crate) mac: MacAddr,
    /// The host behind which it is.
    pub(crate) host: usize,
    /// The addresses that it had before, and until when.
    pub(super) before: Vec<(MacAddr, Instant)>,
    /// When it last moved, or its host was last disturbed.
    disturbed: Instant,
}

impl Station {
    /// The station with this number behind a host.
    pub(super) fn new(number: usize, host: usize, now: Instant) -> Self {
        Self {
            mac: frame::station_mac(number, 0),
            host,
            before: Vec::new(),
            disturbed: now,
        }
    }
}

/// What is known of questions, answers and lies.
#[derive(Debug, Default)]
pub(crate) struct Rumours {
    /// Who asks for whom in which VLAN and has not been answered, and the last question.
    pub(super) asked: BTreeMap<(usize, usize, u16), u64>,
    /// Questions that were answered, and answers that named an address which is nobody's now.
    answered: u64,
    outdated: u64,
    /// Who said to have whose address, in a VLAN, and may have been believed.
    pub(super) believed: BTreeMap<(usize, u16), Vec<MacAddr>>,
    /// Who said so and was not.
    lies: Vec<Lie>,
    /// Hosts behind which somebody uses the address of a station that is well known to be alive,
    /// and since when. That must have no effect.
    thefts: Vec<Theft>,
}

/// Somebody said to have a station's address, and gets it should the station vanish before
/// `until`.
#[derive(Clone, Copy, Debug)]
struct Lie {
    victim: usize,
    vlan: u16,
    mac: MacAddr,
    until: Instant,
}

impl Rumours {
    fn believe(&mut self, lie: Lie) {
        let believed = self.believed.entry((lie.victim, lie.vlan));
        believed.or_default().push(lie.mac);
    }

    /// A station does not answer any more where it was asked: who lied about it a moment ago may
    /// be believed.
    fn believe_liars(&mut self, station: usize, now: Instant) {
        for lie in std::mem::take(&mut self.lies) {
            if lie.victim == station && now < lie.until {
                self.believe(lie);
            } else if now < lie.until {
                self.lies.push(lie);
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Theft {
    victim: usize,
    host: usize,
    at: Instant,
}

/// What a station says by ARP.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saying {
    pub(crate) vlan: u16,
    /// To this address.
    pub(crate) to: MacAddr,
    pub(crate) arp: Arp,
}

pub(super) const fn tag(vlan: u16) -> Option<u16> {
    if vlan == 0 { None } else { Some(vlan) }
}

impl World {
    /// A station asks everybody for the MAC address of another one. Says the frame's number.
    pub fn ask(&mut self, station: usize, target: usize, vlan: u16) -> Option<u64> {
        let arp = self.request(station, frame::station_ip(target, vlan), vlan);
        let number = self.say(station, vlan, MacAddr::BROADCAST, arp)?;
        self.rumours.asked.insert((station, target, vlan), number);
        Some(number)
    }

    /// A station tells everybody its address (RFC 5227 section 2.3). Says the frame's number.
    pub fn announce(&mut self, station: usize, vlan: u16) -> Option<u64> {
        let arp = self.request(station, frame::station_ip(station, vlan), vlan);
        self.say(station, vlan, MacAddr::BROADCAST, arp)
    }

    /// A station says to have another one's IP address, to everybody. Says the frame's number.
    pub fn spoof(&mut self, station: usize, victim: usize, vlan: u16) -> Option<u64> {
        let ip = frame::station_ip(victim, vlan);
        let arp = Arp {
            sender_ip: ip,
            ..self.request(station, ip, vlan)
        };
        let (mac, host) = (self.stations[station].mac, self.stations[station].host);
        let number = self.say(station, vlan, MacAddr::BROADCAST, arp)?;
        let lie = Lie {
            victim,
            vlan,
            mac,
            until: self.truth.instant + RIVAL,
        };
        let Station {
            mac: known,
            host: home,
            disturbed,
            ..
        } = self.stations[victim];
        let is_known = |&at: &usize| {
            self.bound_to(at, victim, vlan) == Some(known)
                && self.believed_place(at, victim, vlan) == Some(home)
        };
        let is_quiet = self.truth.instant.since(disturbed) > THEFT;
        // Where it is not known whose the address is, the first who says to have it is believed.
        if self.faultless && is_quiet && [host, home].iter().all(is_known) {
            self.rumours.lies.push(lie);
        } else {
            self.rumours.believe(lie);
        }
        Some(number)
    }

    /// Somebody behind `host` sends a frame to all from the address of a station that is
    /// elsewhere. Says its number.
    pub fn steal(&mut self, host: usize, victim: usize, vlan: Option<u16>) -> Option<u64> {
        let now = self.truth.instant;
        let mac = self.stations[victim].mac;
        let theft = Theft {
            victim,
            host,
            at: now,
        };
        if self.is_established(victim, host, vlan.unwrap_or(0)) {
            self.rumours.thefts.push(theft);
        } else {
            self.model.may_be(mac, host);
        }
        let worker = self.turns.below(self.hosts[host].workers.len());
        let number = self.model.books.len();
        let octets = frame::build(&self.magic, number, MacAddr::BROADCAST, mac, vlan, 8);
        self.put_frame(host, worker, octets, Some(host), vlan)
    }

    /// Moves a station behind another host.
    pub fn place(&mut self, station: usize, host: usize) {
        let now = self.truth.instant;
        self.excuse(THEFT_OF_NOBODY, |theft| theft.victim == station);
        self.rumours.believe_liars(station, now);
        let at = &mut self.stations[station];
        at.host = host;
        at.disturbed = now;
        self.model.may_be(at.mac, host);
        let to = host;
        self.note(Step::Moved { station, to });
    }

    /// A station is replaced by one with the same IP addresses and another MAC address.
    pub fn replace(&mut self, station: usize) {
        let now = self.truth.instant;
        self.excuse(THEFT_OF_NOBODY, |theft| theft.victim == station);
        self.rumours.believe_liars(station, now);
        let at = &mut self.stations[station];
        let [_, _, generation, ..] = at.mac.0;
        at.before.push((at.mac, now));
        at.mac = frame::station_mac(station, generation.wrapping_add(1));
        at.disturbed = now;
        let (mac, host) = (at.mac, at.host);
        self.model.may_be(mac, host);
        self.note(Step::Replaced { station });
    }

    /// A host is not what it should be, so that what it should do is not to be counted on: those
    /// who steal from it may succeed.
    pub(crate) fn disturb(&mut self, host: usize) {
        let now = self.truth.instant;
        self.faultless = false;
        for station in self.stations.iter_mut().filter(|s| s.host == host) {
            station.disturbed = now;
        }
        let homes: Vec<usize> = self.stations.iter().map(|s| s.host).collect();
        self.excuse(THEFT, |theft| {
            homes[theft.victim] == host || theft.host == host
        });
    }

    /// Lets thefts have an effect that are not older than `most`.
    fn excuse(&mut self, most: Duration, which: impl Fn(&Theft) -> bool) {
        let now = self.truth.instant;
        let thefts = std::mem::take(&mut self.rumours.thefts);
        for theft in thefts {
            let age = now.since(theft.at);
            if age < most && which(&theft) {
                let mac = self.stations[theft.victim].mac;
                self.model.may_be(mac, theft.host);
            } else if age < THEFT_OF_NOBODY {
                self.rumours.thefts.push(theft);
            }
        }
    }

    fn key_of(&self, station: usize, vlan: u16) -> FdbKey {
        let mac = self.stations[station].mac;
        FdbKey { vlan, mac }
    }

    /// Behind which host another one believes a station to be.
    #[must_use]
    pub fn believed_place(&self, host: usize, station: usize, vlan: u16) -> Option<usize> {
        let owner = self.hosts[host].control.owner(self.key_of(station, vlan))?;
        Some(match owner {
            Owner::Local(_) => host,
            Owner::Peer(peer) => host_of(host, peer),
        })
    }

    /// At which MAC address a host believes a station's IP address to be.
    pub(super) fn bound_to(&self, host: usize, station: usize, vlan: u16) -> Option<MacAddr> {
        let ip = IpAddr::from(frame::station_ip(station, vlan));
        let mut known = self.hosts[host].control.neighbors();
        let found = known.find(|known| (known.bound.vlan, known.bound.ip) == (vlan, ip))?;
        Some(found.bound.mac)
    }

    /// Whether a station can be asked for, and is where it is known to be by its own host and by
    /// another one.
    fn is_established(&self, station: usize, host: usize, vlan: u16) -> bool {
        let Station {
            mac,
            host: home,
            disturbed,
            ..
        } = self.stations[station];
        let is_known = |&at: &usize| {
            self.hosts[at].is_running() && self.believed_place(at, station, vlan) == Some(home)
        };
        self.truth.instant.since(disturbed) > THEFT
            && self.bound_to(home, station, vlan) == Some(mac)
            && [home, host].iter().all(is_known)
    }

    fn request(&self, station: usize, target_ip: [u8; 4], vlan: u16) -> Arp {
        Arp {
            request: true,
            sender_mac: self.stations[station].mac,
            sender_ip: frame::station_ip(station, vlan),
            target_mac: MacAddr::ZERO,
            target_ip,
        }
    }

    fn say(&mut self, station: usize, vlan: u16, to: MacAddr, arp: Arp) -> Option<u64> {
        let Station { mac, host, .. } = self.stations[station];
        let worker = self.turns.below(self.hosts[host].workers.len());
        let number = self.model.books.len();
        let octets = frame::build_arp(&self.magic, number, to, mac, tag(vlan), &arp);
        let home = (to != MacAddr::BROADCAST)
            .then(|| frame::station_of(to).map_or(host, |to| self.stations[to].host));
        self.put_frame(host, worker, octets, home, tag(vlan))
    }

    /// What came out of a host's access port is heard by the stations behind it.
    pub(super) fn hear(&mut self, host: usize, octets: &[u8]) -> Checked {
        let Some(arp) = frame::read_arp(octets) else {
            return Ok(());
        };
        let (to, vlan) = (frame::mac_at(octets, 0), frame::vlan(octets));
        let number = if to == MacAddr::BROADCAST {
            Some(frame::station_with(arp.target_ip))
        } else {
            frame::station_of(to)
        };
        let Some(number) = number.filter(|&number| number < self.stations.len()) else {
            return Ok(());
        };
        let station = &self.stations[number];
        let is_here = station.host == host && (to == MacAddr::BROADCAST || to == station.mac);
        if !is_here {
            return Ok(());
        }
        if !arp.request {
            return self.learn(number, vlan, &arp);
        }
        if arp.target_ip == frame::station_ip(number, vlan) && arp.sender_mac != station.mac {
            let reply = Arp {
                request: false,
                sender_mac: station.mac,
                sender_ip: arp.target_ip,
                target_mac: arp.sender_mac,
                target_ip: arp.sender_ip,
            };
            let saying = Saying {
                vlan,
                to: arp.sender_mac,
                arp: reply,
            };
            let delay = self.turns.span(Duration::ZERO, ANSWERS_WITHIN);
            self.after(
                delay,
                Event::Answer {
                    station: number,
                    host,
                    saying,
                },
            );
        }
        Ok(())
    }

    /// A station says what it had to say, if it is still there.
    pub(super) fn answer(&mut self, station: usize, host: usize, saying: Saying) {
        let at = &self.stations[station];
        if at.host == host && at.mac == saying.arp.sender_mac {
            self.say(station, saying.vlan, saying.to, saying.arp);
        }
    }

    /// A station is told whose an IP address is: that must be so.
    fn learn(&mut self, station: usize, vlan: u16, arp: &Arp) -> Checked {
        let now = self.truth.instant;
        let whose = frame::station_with(arp.sender_ip);
        let Some(owner) = self.stations.get(whose) else {
            return Violation::because(format!("an answer of nobody's: {arp:?}"));
        };
        let is_recent = |&(mac, until): &_| mac == arp.sender_mac && now.since(until) < OUTDATED;
        let was = owner.before.iter().any(is_recent);
        let believed = self.rumours.believed.get(&(whose, vlan));
        let lie = believed.is_some_and(|liars| liars.contains(&arp.sender_mac));
        if arp.sender_mac != owner.mac && !was && !lie {
            return Violation::because(format!(
                "station {station} is told that {:?} of station {whose} is at {:?}, and it is at \
                 {:?}, before {:?}",
                arp.sender_ip, arp.sender_mac, owner.mac, owner.before
            ));
        }
        self.rumours.outdated += u64::from(was);
        let asked = self.rumours.asked.remove(&(station, whose, vlan));
        self.rumours.answered += u64::from(asked.is_some());
        Ok(())
    }

    /// How many questions of stations were answered.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.rumours.answered
    }

    /// How many answers named the address that a station had before.
    #[must_use]
    pub fn outdated_answers(&self) -> u64 {
        self.rumours.outdated
    }

    /// The first question that waits for an answer: who asks for whom.
    #[must_use]
    pub fn unanswered(&self) -> Option<(usize, usize)> {
        let first = self.rumours.asked.keys().next();
        first.map(|&(station, target, _)| (station, target))
    }

    /// Forgets what was asked before.
    pub fn forget_questions(&mut self) {
        self.rumours.asked.clear();
    }

    /// For which hosts a frame was sealed.
    #[must_use]
    pub fn sealed_for(&self, number: u64) -> Vec<usize> {
        let sealed = self.model.books.sealed(number);
        (0..self.hosts.len())
            .filter(|host| sealed >> host & 1 != 0)
            .collect()
    }

    /// The station that a frame is for; `None` when that is everybody.
    #[must_use]
    pub fn destination(&self, number: u64) -> Option<usize> {
        frame::station_of(frame::mac_at(self.model.books.octets(number), 0))
    }

    /// Whether a station's address is frozen on any host.
    #[must_use]
    pub fn is_frozen(&self, station: usize, vlan: u16) -> bool {
        let key = self.key_of(station, vlan);
        let mut hosts = self.hosts.iter();
        hosts.any(|host| host.control.alarms().any(|alarm| alarm.key == key))
    }

    /// Claims and releases that hosts did not follow, since each was last started.
    #[must_use]
    pub fn claims_refused(&self) -> u64 {
        let hosts = self.hosts.iter();
        hosts
            .map(|host| host.control.counters().claims_refused)
            .sum()
    }

    /// What every host knows of addresses, a line for each.
    #[must_use]
    pub fn tables(&self) -> Vec<String> {
        let of_host = |host: &Host| {
            let index = host.index;
            let owners = host.control.owners();
            let owners = owners.map(move |(key, owner)| format!("{index}: {key:?} {owner:?}"));
            let bindings = host.control.neighbors();
            let bindings = bindings.map(move |known| format!("{index}: {:?}", known.bound));
            owners.chain(bindings).collect::<Vec<_>>()
        };
        self.hosts.iter().flat_map(of_host).collect()
    }

    /// Whether a host can take a frame at all.
    pub(super) fn is_up(&self, host: usize) -> bool {
        self.hosts[host].state != State::Down
    }
}
