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

    /// The first who says to have an address has it, and only from its own MAC address. Which of
    /// its hosts has one is for a peer to say.
    pub(super) fn judge(&mut self, frame: &Entry, arp: &Arp, owner: Owner) -> Judged {
        if arp.sender_mac != frame.source {
            return Judged::Refused;
        }
        if arp.sender_ip != [0; 4] {
            let key = (frame.vlan, arp.sender_ip);
            let held = self.0.entry(key).or_insert((owner, arp.sender_mac));
            let is_other = matches!(owner, Owner::Local(_)) && held.1 != arp.sender_mac;
            if held.0 != owner || is_other {
                return Judged::Refused;
            }
            held.1 = arp.sender_mac;
        }
        let asks = arp.request && arp.sender_ip != arp.target_ip && frame.is_broadcast();
        let found = self.0.get(&(frame.vlan, arp.target_ip));
        match found {
            Some(&(holder, mac)) if asks && holder != owner && mac != frame.source => {
                Judged::Known(mac)
            }
            _ => Judged::PassOn,
        }
    }
}
