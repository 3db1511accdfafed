//! IP addresses that are at another MAC address than before: a host that was replaced, an
//! interface that was made anew. Hosts that go by the old one hear of it from us: where the new one
//! says nothing by itself and its questions are answered by its own node, nobody else tells them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use omni_control::message::{Owner, PortId};
use omni_wire::{Instant, MacAddr};

use super::Switch;
use super::bindings::{BINDING_LIFETIME, BindKey, Word};
use super::deadlines::{Bucket, Deadlines};
use super::types::Send;

/// The most addresses whose last place is remembered; the oldest goes first.
pub(super) const FORMERS_MAX: usize = 4096;
/// Hosts are told of so many addresses a second, and at once.
const TOLD: (u32, u32) = (64, 256);

/// Where addresses were that are gone. Hosts remember for about as long as bindings last.
#[derive(Debug)]
pub(super) struct Formers {
    macs: BTreeMap<BindKey, MacAddr>,
    /// When they went.
    gone: Deadlines<BindKey>,
    allowed: Bucket,
}

impl Default for Formers {
    fn default() -> Self {
        let (rate, burst) = TOLD;
        Self {
            macs: BTreeMap::new(),
            gone: Deadlines::default(),
            allowed: Bucket::new(rate, burst),
        }
    }
}

impl Formers {
    /// A binding is gone.
    pub(super) fn note(&mut self, now: Instant, key: BindKey, mac: MacAddr) {
        self.macs.insert(key, mac);
        self.gone.set(key, now);
        if self.macs.len() > FORMERS_MAX
            && let Some(oldest) = self.gone.pop_due(Instant(u64::MAX))
        {
            self.macs.remove(&oldest);
        }
    }

    /// Where an address was last, to be asked when it is bound again.
    fn take(&mut self, now: Instant, key: BindKey) -> Option<MacAddr> {
        let mac = self.macs.remove(&key)?;
        let gone = self.gone.remove(&key)?;
        (now.since(gone) < BINDING_LIFETIME).then_some(mac)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.macs.len().max(self.gone.len())
    }
}

impl Switch {
    /// An address is bound: hosts that know it at another MAC address are told. Not those behind
    /// the port where it is, which hear it themselves, and nobody of a link-local IPv6 address,
    /// which may be a router's.
    pub(super) fn tell_hosts(&mut self, now: Instant, key: BindKey, word: Word) {
        let former = self.formers.take(now, key);
        let (vlan, ip) = key;
        let is_router = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        if former.is_none_or(|mac| mac == word.mac) || !self.config.tells_hosts || is_router {
            return;
        }
        if !self.formers.allowed.take(now) {
            self.counters.sends_left_out += 1;
            return;
        }
        let ports = (0..self.config.ports).filter_map(|port| u8::try_from(port).ok());
        for port in ports.map(PortId) {
            if word.owner == Owner::Local(port) || !self.port_carries(port, vlan) {
                continue;
            }
            let told = self.outbox.push(Send::Tell {
                port,
                vlan,
                mac: word.mac,
                ip,
            });
            self.counters.sends_left_out += u64::from(!told);
        }
    }
}
