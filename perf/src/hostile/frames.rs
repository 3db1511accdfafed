//! What a hostile peer puts into its session.

use std::net::Ipv4Addr;

use clap::ValueEnum;
use omni_wire::MacAddr;
use omni_wire::arp::{Arp, Operation};
use omni_wire::record::CLAIM;

/// Kinds of frames and records.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Frames from ever new addresses.
    Macs,
    /// Frames from an address of somebody else.
    Theft,
    /// ARP that claims an IP address of somebody else, from ever new addresses.
    Bindings,
    /// Broadcasts.
    Broadcast,
    /// A frame in each VLAN, and over again.
    Vlans,
    /// Frames that are none: cut off, tagged too often, wrapped, with ARP and IPv6 that are not
    /// valid.
    Malformed,
    /// Control records that claim addresses of somebody else.
    Claims,
    /// Control records of any octets.
    Records,
}

/// Some protocol of which nothing is known.
const OTHER: [u8; 2] = [0x88, 0xb5];
/// Octets of a frame, and a payload to tell these frames by.
const PAYLOAD: &[u8; 50] = b"this frame should never be seen by any other host!";

/// Makes one after the other.
pub(crate) struct Forger {
    kind: Kind,
    victim: MacAddr,
    victim_ip: Ipv4Addr,
    count: u64,
}

impl Forger {
    pub(crate) fn new(kind: Kind, victim: MacAddr, victim_ip: Ipv4Addr) -> Self {
        Self {
            kind,
            victim,
            victim_ip,
            count: 0,
        }
    }

    /// Appends the next one. Says whether it is a control record.
    pub(crate) fn next_into(&mut self, out: &mut Vec<u8>) -> bool {
        let nth = self.count;
        self.count += 1;
        let new = fresh(nth);
        match self.kind {
            Kind::Macs => put(out, self.victim, new, &OTHER, PAYLOAD),
            Kind::Theft => put(out, MacAddr::BROADCAST, self.victim, &OTHER, PAYLOAD),
            Kind::Broadcast => put(out, MacAddr::BROADCAST, fresh(0), &OTHER, PAYLOAD),
            Kind::Bindings => {
                let claimed = Arp {
                    operation: Operation::Request,
                    sender_mac: new,
                    sender_ip: self.victim_ip,
                    target_mac: MacAddr::ZERO,
                    target_ip: self.victim_ip,
                };
                put(out, MacAddr::BROADCAST, new, &[8, 6], &claimed.emit());
            }
            Kind::Vlans => {
                let [high, low] = ((nth % 4096) as u16).to_be_bytes();
                let tagged = [0x81, 0, high, low, OTHER[0], OTHER[1]];
                put(out, MacAddr::BROADCAST, fresh(0), &tagged, PAYLOAD);
            }
            Kind::Malformed => self.put_malformed(nth, out),
            Kind::Claims => {
                let mut entry = vec![0, 0];
                entry.extend(self.victim.0);
                entry.extend(u32::MAX.to_be_bytes());
                put_record(out, CLAIM, &entry);
                return true;
            }
            Kind::Records => {
                let octets = noise(nth);
                put_record(out, octets[0] % 20, &octets[..usize::from(octets[1]) % 60]);
                return true;
            }
        }
        false
    }

    fn put_malformed(&self, nth: u64, out: &mut Vec<u8>) {
        let (new, octets) = (fresh(nth % 8), noise(nth));
        let all = MacAddr::BROADCAST;
        match nth % 8 {
            0 => out.extend(&octets[..usize::from(octets[0] % 14)]),
            1 => put(
                out,
                all,
                new,
                &[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3],
                PAYLOAD,
            ),
            2 => put(
                out,
                all,
                new,
                &[0, 40, 0xaa, 0xaa, 3, 0, 0, 0, 8, 6],
                PAYLOAD,
            ),
            3 => put(out, all, new, &[8, 6], &octets),
            4 => put(
                out,
                all,
                new,
                &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, 58, 255],
                &octets,
            ),
            5 => put(out, MacAddr([1, 0x80, 0xc2, 0, 0, 0]), new, &OTHER, PAYLOAD),
            6 => put(out, all, MacAddr::BROADCAST, &OTHER, PAYLOAD),
            _ => put(out, all, new, &[0x81, 0, 0x0f, 0xff, 8, 0], PAYLOAD),
        }
    }
}

/// A locally administered address for each number.
fn fresh(number: u64) -> MacAddr {
    let [.., a, b, c, d] = number.to_be_bytes();
    MacAddr([0x06, 0x66, a, b, c, d])
}

fn put(out: &mut Vec<u8>, to: MacAddr, from: MacAddr, kind: &[u8], payload: &[u8]) {
    out.extend(to.0);
    out.extend(from.0);
    out.extend(kind);
    out.extend(payload);
}

fn put_record(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.extend([kind, 0]);
    out.extend((body.len() as u16).to_be_bytes());
    out.extend(body);
}

/// The same octets for the same number, without pattern (splitmix64).
fn noise(number: u64) -> [u8; 64] {
    let mut octets = [0; 64];
    let mut state = number.wrapping_mul(0x2545_f491_4f6c_dd1d);
    for word in octets.chunks_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(mixed ^ mixed >> 31).to_be_bytes());
    }
    octets
}

#[cfg(test)]
mod tests {
    use omni_wire::ethernet::Ethernet;

    use super::*;

    #[test]
    fn every_kind_makes_what_it_is_called_after() {
        let victim = MacAddr([2, 0, 0, 0, 0, 1]);
        let ip = Ipv4Addr::new(10, 7, 0, 1);
        for &kind in Kind::value_variants() {
            let mut forger = Forger::new(kind, victim, ip);
            let mut made = Vec::new();
            for _ in 0..5000 {
                let mut octets = Vec::new();
                let is_record = forger.next_into(&mut octets);
                assert_eq!(is_record, matches!(kind, Kind::Claims | Kind::Records));
                made.push(octets);
            }
            let sources: std::collections::BTreeSet<_> = made
                .iter()
                .filter_map(|octets| Some(Ethernet::parse(octets).ok()?.source))
                .collect();
            match kind {
                Kind::Macs | Kind::Bindings => assert_eq!(sources.len(), 5000),
                Kind::Theft => assert_eq!(Vec::from_iter(sources), [victim]),
                Kind::Broadcast | Kind::Vlans => assert_eq!(sources.len(), 1),
                Kind::Malformed => assert!(sources.len() < 20),
                Kind::Claims => assert!(made.iter().all(|record| record[0] == CLAIM)),
                Kind::Records => assert!(made.iter().any(|record| record.len() == 4)),
            }
        }
    }
}
