//! Who has which IP address, as one worker knows it, naively.

use std::collections::BTreeMap;

use omni_control::message::Owner;
use omni_wire::MacAddr;

use super::tables::Entry;
use crate::frame::Arp;

/// (VLAN, IPv4 address).
pub(super) type IpKey = (u16, [u8; 4]);

/// What becomes of an ARP message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Judged {
    /// It claims what is somebody else's.
    Refused,
    /// It goes where its frame goes.
    PassOn,
    /// It asks for what is at this address.
    Known(MacAddr),
    /// It asks for what is behind the port that it came in at.
    Nearby,
}

/// One worker's bindings: behind whom each is, and at which MAC address.
#[derive(Debug, Default)]
pub(super) struct Neighbors(BTreeMap<IpKey, (Owner, MacAddr)>);

impl Neighbors {
    pub(super) fn insert(&mut self, key: IpKey, owner: Owner, mac: MacAddr) {
        self.0.insert(key, (owner, mac));
    }

    pub(super) fn remove(&mut self, key: IpKey) {
        self.0.remove(&key);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&IpKey, &(Owner, MacAddr))> {
        self.0.iter()
    }

    /// The first who says to have an address has it, and only from its own MAC address.
    pub(super) fn judge(&mut self, frame: &Entry, arp: &Arp, owner: Owner) -> Judged {
        if arp.sender_mac != frame.source {
            return Judged::Refused;
        }
        if arp.sender_ip != [0; 4] {
            let key = (frame.vlan, arp.sender_ip);
            let told = (owner, arp.sender_mac);
            if *self.0.entry(key).or_insert(told) != told {
                return Judged::Refused;
            }
        }
        let asks = arp.request && arp.sender_ip != arp.target_ip && frame.is_broadcast();
        let found = self.0.get(&(frame.vlan, arp.target_ip));
        match found {
            Some(&(_, mac)) if !asks || mac == frame.source => Judged::PassOn,
            Some(&(holder, _)) if holder == owner => Judged::Nearby,
            Some(&(_, mac)) => Judged::Known(mac),
            None => Judged::PassOn,
        }
    }
}
