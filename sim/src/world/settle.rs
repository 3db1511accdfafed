//! Once nothing is in the way any more: every station has to be found where it is, and every
//! question has to be answered.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use omni_engine::switch::AGEING;
use omni_wire::MacAddr;

use super::World;
use super::stations::{Station, tag};
use crate::frame;
use crate::model::Checked;
use crate::report::Violation;

/// How long the fabric may take, once nothing is in its way, until every station is where its
/// frames come from: its old host may have to wait for it for 36 s, and is asked every 5 s.
const SETTLED_WITHIN: Duration = Duration::from_secs(45);
/// The same where its old host was restarted, or cut off for long, and has forgotten that it was
/// there: all that others know of the station has to age out.
const AGED_WITHIN: Duration = Duration::from_secs(AGEING.as_secs() + 45);
/// So long stations speak often, and those that were forgotten are waited for as well: mostly they
/// were not.
const EAGER: Duration = Duration::from_secs(3);
/// How long an asker may have to wait when nothing is in the way.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

impl World {
    /// Stations that some of these hosts believe to be where they are not, and in which VLAN; and
    /// whether whoever is believed to have it can give it away.
    fn misplaced(&self, hosts: Range<usize>) -> BTreeMap<(usize, u16), bool> {
        let mut found = BTreeMap::new();
        for host in hosts {
            for (key, _) in self.hosts[host].control.owners() {
                let station = frame::station_of(key.mac);
                let Some(station) = station.filter(|&s| self.stations[s].mac == key.mac) else {
                    continue;
                };
                let Some(place) = self.believed_place(host, station, key.vlan) else {
                    continue;
                };
                if place == self.stations[station].host || self.is_frozen(station, key.vlan) {
                    continue;
                }
                // It does, as long as it believes to have it. When that is no more so, it may not
                // remember to whom it gave it.
                let has = self.believed_place(place, station, key.vlan) == Some(place);
                let can_give = found.entry((station, key.vlan)).or_insert(true);
                *can_give &= has && self.is_up(place);
            }
        }
        found
    }

    /// Lets every station that is not where some host believes it to be go on speaking, and
    /// everybody to it, until it is. Those that their old host may have forgotten are waited for
    /// only `until_aged`. Says how long it took.
    ///
    /// # Errors
    /// When a rule is broken, or it takes too long.
    pub fn settle(&mut self, until_aged: bool) -> Checked<Duration> {
        self.settle_among(0..self.hosts.len(), until_aged)
    }

    /// The same, for what these hosts believe.
    ///
    /// # Errors
    /// When a rule is broken, or it takes too long.
    pub fn settle_among(&mut self, hosts: Range<usize>, until_aged: bool) -> Checked<Duration> {
        let start = self.truth.instant;
        loop {
            let misplaced = self.misplaced(hosts.clone());
            let waited = self.truth.instant.since(start);
            let late = |entry: &(_, &bool)| {
                let can_give = *entry.1;
                waited
                    > if can_give {
                        SETTLED_WITHIN
                    } else {
                        AGED_WITHIN
                    }
            };
            let is_eager = waited < EAGER;
            let must_wait = misplaced.values().any(|&can_give| can_give || until_aged);
            if misplaced.is_empty() || !is_eager && !must_wait {
                return Ok(waited);
            }
            if let Some((&(station, vlan), _)) = misplaced.iter().find(late) {
                return Violation::because(format!(
                    "{waited:?} after the last fault, a station is still not known to be where it \
                     is in VLAN {vlan}: {}",
                    self.whereabouts(station, vlan)
                ));
            }
            for (station, vlan) in misplaced.into_keys() {
                self.announce(station, vlan);
                // Should somebody else be believed to have its IP address, that is heard.
                self.send(station, None, tag(vlan), 0);
                // Whoever sends to where it was is told where it is.
                for host in hosts.clone() {
                    self.send(host, Some(station), tag(vlan), 0);
                }
            }
            let pause = if is_eager { 200 } else { 2000 };
            self.advance(Duration::from_millis(pause))?;
        }
    }

    /// Every station asks for some others, and must be answered: if not at once, then when it asks
    /// again, as hosts do.
    ///
    /// # Errors
    /// When a rule is broken, or a question was not answered.
    pub fn everybody_asks(&mut self) -> Checked {
        self.come_to_agree()?;
        self.forget_questions();
        let misplaced = self.misplaced(0..self.hosts.len());
        let is_known = |station| !misplaced.contains_key(&(station, 0));
        let count = self.stations.len();
        for station in 0..count {
            for step in [1, 3, count / 2] {
                let target = (station + step) % count;
                let together = self.stations[target].host == self.stations[station].host;
                // Those behind one port hear each other without its help.
                let both = is_known(station) && is_known(target);
                if both && !together && !self.is_held_up(station, 0) {
                    self.ask(station, target, 0);
                }
            }
            self.advance(Duration::from_millis(5))?;
        }
        self.advance(ANSWERED_WITHIN)?;
        let waiting: Vec<_> = self.rumours.asked.keys().copied().collect();
        for (station, target, vlan) in waiting {
            self.ask(station, target, vlan);
        }
        self.advance(ANSWERED_WITHIN)?;
        let is_missed = |asked: &(&(usize, usize, u16), &u64)| {
            let &(_, target, vlan) = asked.0;
            !self.is_held_up(target, vlan)
        };
        match self.rumours.asked.iter().find(is_missed) {
            Some((&(station, target, vlan), &number)) => Violation::because(format!(
                "nobody answered station {station}, which asked for {target}: question {number} \
                 came out behind {:?} of {:?}; {}; {}",
                self.receivers(number),
                self.sealed_for(number),
                self.whereabouts(station, vlan),
                self.whereabouts(target, vlan),
            )),
            None => Ok(()),
        }
    }

    /// Whether a station is frozen elsewhere, or some host believes that somebody else has its IP
    /// address: the one that it had before, or a liar who was the first to say so. That ends when
    /// the binding does.
    fn is_held_up(&self, station: usize, vlan: u16) -> bool {
        let Station { mac, before, .. } = &self.stations[station];
        let believed = self.rumours.believed.get(&(station, vlan));
        let is_other = |bound: MacAddr| {
            bound != *mac
                && (before.iter().any(|(before, _)| *before == bound)
                    || believed.is_some_and(|liars| liars.contains(&bound)))
        };
        let mut bound = (0..self.hosts.len()).filter_map(|at| self.bound_to(at, station, vlan));
        bound.any(is_other) || self.is_frozen(station, vlan)
    }

    /// What is known of a station by all hosts.
    fn whereabouts(&self, station: usize, vlan: u16) -> String {
        let Station { mac, host, .. } = self.stations[station];
        let known = |at: usize| {
            let place = self.believed_place(at, station, vlan);
            let place = place.map_or_else(|| "?".to_owned(), |place| place.to_string());
            match self.bound_to(at, station, vlan) {
                Some(bound) if bound == mac => format!("{at}: {place}"),
                other => format!("{at}: {place}, IP at {other:?}"),
            }
        };
        let known: Vec<String> = (0..self.hosts.len()).map(known).collect();
        format!(
            "station {station} is at {mac:?} behind {host}; {}",
            known.join("; ")
        )
    }
}
