//! Which networks behind which ports are asked for multicast groups, and when.
//!
//! A port that carries few VLANs is asked in each of them. One that carries many is asked where
//! somebody spoke of late: nobody else is there to answer.

use std::collections::BTreeMap;
use std::time::Duration;

use omni_control::message::{Owner, PortId, VlanBits};
use omni_wire::Instant;

use super::Switch;
use super::deadlines::Deadlines;
use super::types::Send;

/// Between two general queries (RFC 3376 s.8.2, RFC 3810 s.9.2).
const QUERY_INTERVAL: Duration = Duration::from_secs(125);
/// How long hosts take to answer one (RFC 3376 s.8.3).
const RESPONSE_TIME: Duration = Duration::from_secs(10);
/// What answers take on their way.
const ON_THE_WAY: Duration = Duration::from_secs(2);
/// A port that carries more VLANs is asked only where somebody spoke.
pub(super) const ALWAYS_ASKED_MAX: usize = 64;
/// How lately.
const SPOKE_WITHIN: Duration = Duration::from_secs(300);
/// Reserved (IEEE 802.1Q s.9.6).
const VLAN_RESERVED: u16 = 4095;

/// (port, VLAN).
type SegmentKey = (PortId, u16);

/// A VLAN behind a port.
#[derive(Debug)]
struct Segment {
    asked: Option<Instant>,
    spoke: Instant,
    always: bool,
}

/// All that are asked.
#[derive(Debug, Default)]
pub(super) struct Segments {
    known: BTreeMap<SegmentKey, Segment>,
    due: Deadlines<SegmentKey>,
}

impl Segments {
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.due.next()
    }

    /// Adds one, due at once. Says whether it is new.
    fn add(&mut self, now: Instant, key: SegmentKey, always: bool) -> bool {
        if let Some(segment) = self.known.get_mut(&key) {
            segment.spoke = now;
            return false;
        }
        let segment = Segment {
            asked: None,
            spoke: now,
            always,
        };
        self.known.insert(key, segment);
        self.due.set(key, now);
        true
    }
}

/// The VLANs in which a port is always asked.
fn always_asked(carried: &VlanBits) -> Vec<u16> {
    let count: u32 = carried.0.iter().map(|word| word.count_ones()).sum();
    let most = if count as usize > ALWAYS_ASKED_MAX {
        0
    } else {
        VLAN_RESERVED - 1
    };
    (0..=most).filter(|&vlan| carried.contains(vlan)).collect()
}

impl Switch {
    /// Begins to ask, once. Until hosts had the time to answer, ports get everything.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.started.is_some() {
            return;
        }
        self.started = Some(now);
        for port in (0..self.config.ports).map(|port| PortId(port as u8)) {
            if !self.config.snoop {
                self.order_wants(Owner::Local(port), None, true);
                continue;
            }
            self.want_all(now, port, None, RESPONSE_TIME);
            let vlans = self.config.carried.get(usize::from(port.0));
            for vlan in vlans.map(always_asked).unwrap_or_default() {
                self.groups.segments.add(now, (port, vlan), true);
            }
        }
    }

    /// A host behind a port spoke.
    pub(super) fn segment_seen(&mut self, now: Instant, port: PortId, vlan: u16) {
        if self.config.snoop
            && self.port_carries(port, vlan)
            && self.groups.segments.add(now, (port, vlan), false)
        {
            self.want_all(now, port, Some(vlan), RESPONSE_TIME);
        }
    }

    /// Has the hosts of a segment asked, not too often. Says when all had the time to answer.
    pub(super) fn ask_soon(&mut self, now: Instant, port: PortId, vlan: u16) -> Instant {
        let key = (port, vlan);
        let segments = &mut self.groups.segments;
        segments.add(now, key, false);
        let asked = segments.known.get(&key).and_then(|segment| segment.asked);
        let at = asked.map_or(now, |asked| now.max(asked + RESPONSE_TIME));
        if segments.due.get(&key).is_none_or(|due| at < due) {
            segments.due.set(key, at);
        }
        at + RESPONSE_TIME + ON_THE_WAY
    }

    /// Asks where it is time to.
    pub(super) fn run_queries(&mut self, now: Instant) {
        let segments = &mut self.groups.segments;
        while let Some(key) = segments.due.pop_due(now) {
            let Some(segment) = segments.known.get_mut(&key) else {
                continue;
            };
            if !segment.always && now.since(segment.spoke) > SPOKE_WITHIN {
                segments.known.remove(&key);
                continue;
            }
            segment.asked = Some(now);
            segments.due.set(key, now + QUERY_INTERVAL);
            let (port, vlan) = key;
            for ipv6 in [false, true] {
                let query = Send::Query { port, vlan, ipv6 };
                self.counters.sends_left_out += u64::from(!self.outbox.push(query));
            }
        }
    }
}
