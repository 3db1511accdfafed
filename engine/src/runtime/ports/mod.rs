//! The interfaces that the engine works on: the underlay and the access ports, with their XDP
//! programs.

mod access;
mod mtu;
mod program;
mod revive;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use omni_config::{Config, Queues, XdpMode, ZeroCopy};
use omni_control::PublicKey;
use omni_control::message::PortId;
use omni_control::netlink::{Link, Netlink};
use omni_wire::{DropCounters, MacAddr};
use omni_xdp_redirect::{Kind, Redirect, RedirectError};
use tracing::{info, warn};

use super::EngineError;
use super::filter::Filter;
use crate::io::Port;
use crate::io::kernel::{BoundQueue, PortDriver, UdpPair, XskPort, receive_queues};
use crate::ways::{Seen, Way, Ways};
pub(super) use access::engine_mac;
use access::{AccessPort, Plan};
use mtu::Wish;
use program::Attached;

/// How each port's frames come and go.
type Drivers = Vec<(Port, PortDriver)>;

/// All interfaces.
pub(super) struct Ports {
    underlay: Link,
    underlay_queues: Vec<u32>,
    /// As configured.
    wanted_queues: Queues,
    /// The underlay was deleted, and is waited for.
    underlay_gone: bool,
    /// What keeps an interface from being served, as was logged: each trouble once.
    troubles: BTreeMap<String, String>,
    ways: Ways,
    /// The fabric's UDP port.
    port: u16,
    /// By [`PortId`], in the order of the configuration.
    access: Vec<AccessPort>,
    ipv6: bool,
    /// Octets that are made free before each frame from a host: by the programs, and by workers
    /// that read taps.
    room: Arc<AtomicU16>,
    workers: usize,
    xdp: XdpMode,
    zero_copy: ZeroCopy,
    local: BTreeSet<IpAddr>,
    underlay_xdp: Option<Attached>,
}

impl Ports {
    /// Looks at the underlay and makes, or borrows, the access ports. When one of them cannot be
    /// had, those made before it are removed.
    pub(super) async fn open(
        netlink: &Netlink,
        config: &Config,
        public_key: &PublicKey,
        cores: usize,
    ) -> Result<Self, EngineError> {
        let underlay = find(netlink, "underlay.interface", &config.underlay.interface).await?;
        let underlay_queues = wanted_queues(&config.underlay.queues, &underlay.name)?;
        let mut peers = config.peers.iter();
        let ipv6 = peers.any(|peer| peer.endpoint.is_some_and(|e| e.is_ipv6()));
        let seen = Seen::look(&underlay.name, config.underlay.zero_copy);
        let ways = Ways::choose(&config.underlay, &seen);
        let Ways { receive, send } = ways;
        info!(
            receive = ?receive.way,
            because = receive.why,
            send = ?send.way,
            why = send.why,
            "underlay"
        );
        let mut ports = Self {
            ways,
            underlay,
            underlay_queues,
            wanted_queues: config.underlay.queues.clone(),
            underlay_gone: false,
            troubles: BTreeMap::new(),
            port: config.underlay.port,
            access: Vec::new(),
            ipv6,
            room: Arc::new(AtomicU16::new(mtu::first_room(ipv6))),
            workers: 0,
            xdp: config.underlay.xdp,
            zero_copy: config.underlay.zero_copy,
            local: BTreeSet::new(),
            underlay_xdp: None,
        };
        match ports.open_access(netlink, config, public_key, cores).await {
            Ok(()) => Ok(ports),
            Err(error) => {
                ports.close(netlink).await;
                Err(error)
            }
        }
    }

    /// Looks at everything before anything is changed.
    async fn open_access(
        &mut self,
        netlink: &Netlink,
        config: &Config,
        public_key: &PublicKey,
        cores: usize,
    ) -> Result<(), EngineError> {
        let mut plans = Vec::new();
        for (n, spec) in config.access.iter().enumerate() {
            let wish = Wish::new(spec);
            let mtu = mtu::checked_mtu(n, wish, self.underlay.mtu, self.ipv6)?;
            plans.push((Plan::new(netlink, spec).await?, mtu));
        }
        check_names(&plans)?;
        let queues = plans.iter().filter_map(|(plan, _)| plan.queues());
        self.workers = worker_count(self.underlay_queues.len(), cores, queues);
        for (plan, mtu) in plans {
            let port = plan.open(netlink, public_key, self.workers, mtu).await?;
            if !port.is_made() {
                mtu::warn_of_mtu(&port.link, port.wish.most(self.underlay.mtu, self.ipv6));
            }
            self.access.push(port);
        }
        Ok(())
    }

    /// How many workers there are to be. Each has a queue of every port.
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    pub(super) fn underlay_index(&self) -> u32 {
        self.underlay.index
    }

    /// All access ports.
    pub(super) fn access_ids(&self) -> impl Iterator<Item = PortId> + use<> {
        (0..self.access.len()).map(|n| PortId(n as u8))
    }

    fn access_port(&self, port: PortId) -> Option<&AccessPort> {
        self.access.get(usize::from(port.0))
    }

    /// What hosts call an access port.
    pub(super) fn access_name(&self, port: PortId) -> &str {
        self.access_port(port)
            .map_or("?", |port| port.link.name.as_str())
    }

    /// The address of the host itself on an access port that the engine made.
    pub(super) fn host_mac(&self, port: PortId) -> Option<MacAddr> {
        let made = self.access_port(port).filter(|port| port.is_made());
        made.map(|port| port.link.mac)
    }

    /// Whether frames of hosts may come with checksums that are left to do.
    pub(super) fn has_partial_checksums(&self) -> bool {
        let mut ports = self.access.iter();
        ports.any(|port| !port.is_made() && !port.is_tap())
    }

    /// Octets before each frame from a host, as they are from now on.
    pub(super) fn room(&self) -> &Arc<AtomicU16> {
        &self.room
    }

    /// Every port's queues, the underlay's first, and what the workers send messages by, each its
    /// own, if not by the underlay's queues. Those of taps can be had once. `ipv6`: whether the
    /// host has that.
    pub(super) fn drivers(&mut self, ipv6: bool) -> Result<(Drivers, Vec<UdpPair>), EngineError> {
        let (port, workers) = (self.port, self.workers);
        let failed = |source| EngineError::UdpPort { port, source };
        let receives = self.ways.receive.way == Way::Udp;
        let count = if receives || self.ways.send.way == Way::Udp {
            workers
        } else {
            0
        };
        let pairs = UdpPair::open(port, ipv6, count, receives).map_err(failed)?;
        let (underlay, senders) = if receives {
            let senders = pairs.iter().map(UdpPair::try_clone);
            let senders = senders.collect::<io::Result<_>>().map_err(failed)?;
            (PortDriver::Udp(pairs, port), senders)
        } else {
            (PortDriver::Xsk(self.underlay_queues()), pairs)
        };
        let zero_copy = self.zero_copy;
        let access = self.access_ids().zip(&mut self.access);
        let access = access.map(|(id, port)| (Port::Access(id), port.driver(zero_copy)));
        let drivers = [(Port::Underlay, underlay)].into_iter().chain(access);
        Ok((drivers.collect(), senders))
    }

    fn underlay_queues(&self) -> XskPort {
        XskPort {
            interface: self.underlay.name.clone(),
            queues: self.underlay_queues.clone(),
            zero_copy: self.zero_copy,
        }
    }

    /// Loads and attaches all programs and gives them their sockets and the sessions to let
    /// through.
    pub(super) async fn attach(
        &mut self,
        netlink: &Netlink,
        bound: &[BoundQueue],
        filter: &mut Filter,
    ) -> Result<(), EngineError> {
        let sockets = |port: Port| bound.iter().filter(move |queue| queue.port == port);
        if self.ways.receive.way == Way::Afxdp {
            let mut underlay = Redirect::load(Kind::Underlay)?;
            underlay.set_port(self.port)?;
            for queue in sockets(Port::Underlay) {
                underlay.set_socket(queue.queue, queue)?;
            }
            filter.prepare(&mut underlay)?;
            self.underlay_xdp = Some(Attached::new(underlay, &self.underlay.name, self.xdp)?);
        }
        for (id, port) in self.access_ids().zip(&mut self.access) {
            let room = self.room.load(Ordering::Relaxed);
            port.attach(self.xdp, room, sockets(Port::Access(id)))?;
        }
        self.follow_addresses(netlink).await;
        for port in &self.access {
            port.set_up(netlink).await?;
        }
        Ok(())
    }

    /// The program on the underlay, while it is attached.
    pub(super) fn underlay_program(&mut self) -> Option<&mut Redirect> {
        self.underlay_xdp
            .as_mut()
            .map(|attached| &mut attached.program)
    }

    /// Ends the steering: frames go to the kernel again.
    pub(super) fn detach(&mut self) {
        self.underlay_xdp = None;
        for port in &mut self.access {
            port.detach();
        }
    }

    /// Removes what the engine made.
    pub(super) async fn close(&mut self, netlink: &Netlink) {
        self.detach();
        for port in &self.access {
            port.remove(netlink).await;
        }
    }

    /// The underlay's own addresses.
    pub(super) fn local_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.local.iter().copied().filter(is_routed)
    }

    /// Steers messages to the addresses that the underlay has now.
    pub(super) async fn follow_addresses(&mut self, netlink: &Netlink) {
        let current: BTreeSet<IpAddr> = match netlink.local_addresses(self.underlay.index).await {
            Ok(addresses) => addresses.into_iter().collect(),
            Err(error) => {
                return warn!(%error, "cannot read the underlay's addresses; keeping those known");
            }
        };
        let change = |result: Result<(), RedirectError>, address: &IpAddr| {
            if let Err(error) = result {
                warn!(%address, %error, "cannot steer messages to an address");
            }
        };
        if let Some(attached) = &mut self.underlay_xdp {
            for address in current.difference(&self.local) {
                change(attached.program.add_local(*address), address);
            }
            for address in self.local.difference(&current) {
                change(attached.program.remove_local(*address), address);
            }
        }
        if current.is_empty() && !self.local.is_empty() {
            warn!(
                interface = self.underlay.name,
                "the underlay has no address any more"
            );
        }
        self.local = current;
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        let access = self.access.iter().flat_map(AccessPort::links);
        [&self.underlay].into_iter().chain(access)
    }

    fn links_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        let access = self.access.iter_mut().flat_map(AccessPort::links_mut);
        [&mut self.underlay].into_iter().chain(access)
    }

    /// As after a loss of notifications: looks whether all interfaces are still there.
    pub(super) async fn recheck(&mut self, netlink: &Netlink) -> Result<(), EngineError> {
        let known: Vec<u32> = self.links().map(|link| link.index).collect();
        for index in known {
            match netlink.link_by_index(index).await? {
                None => self.note_gone(index)?,
                Some(link) => {
                    self.link_changed(index, link.is_running(), link.mtu);
                    self.rename(index, &link.name);
                }
            }
        }
        Ok(())
    }

    /// Follows the name of an interface that was told to be `told`. What is told may be from before
    /// the name that is known was read; then the kernel knows better.
    pub(super) async fn follow_name(&mut self, netlink: &Netlink, ifindex: u32, told: &str) {
        let other = |link: &Link| link.index == ifindex && link.name != told;
        if !self.links().any(other) {
            return;
        }
        match netlink.link_by_index(ifindex).await {
            Ok(Some(link)) => self.rename(ifindex, &link.name),
            // It has just gone, which is told next.
            Ok(None) => {}
            Err(error) => warn!(name = told, %error, "cannot read an interface's name"),
        }
    }

    /// Programs and sockets are bound to the index: only what it is called changes.
    fn rename(&mut self, ifindex: u32, name: &str) {
        for link in self.links_mut() {
            if link.index == ifindex && link.name != name {
                info!(from = link.name, to = name, "interface renamed");
                name.clone_into(&mut link.name);
            }
        }
    }

    /// Notes a change of an interface. Says whether limits may have changed with it: the MTU of a
    /// port that was made follows, and leads nobody.
    pub(super) fn link_changed(&mut self, ifindex: u32, up: bool, mtu: u32) -> bool {
        let mut leads = false;
        for link in self.links_mut().filter(|link| link.index == ifindex) {
            leads |= note_change(link, up, mtu);
        }
        let made = self.access.iter().filter(|port| port.is_made());
        let follows = made.flat_map(AccessPort::links);
        leads && !follows.map(|link| link.index).any(|index| index == ifindex)
    }

    /// Frames that the kernel dropped between hosts and engine, and those that an interface of the
    /// engine's could not send, since the start.
    pub(super) async fn link_drops(&self, netlink: &Netlink) -> (u64, u64) {
        let since = async |link: &Link| match netlink.link_by_index(link.index).await {
            Ok(Some(now)) => now.stats.tx_dropped.saturating_sub(link.stats.tx_dropped),
            _ => 0,
        };
        let (mut received, mut sent) = (0, since(&self.underlay).await);
        for port in &self.access {
            // What hosts send is received here, and the other way round.
            if port.is_made() || port.is_tap() {
                received += since(&port.link).await;
            }
            if !port.is_tap() {
                sent += since(port.engine_side()).await;
            }
        }
        (received, sent)
    }

    /// What all programs dropped.
    pub(super) fn count_xdp_drops(&self, drops: &mut DropCounters) {
        let access = self.access.iter().map(AccessPort::attached);
        let attached = access.chain([self.underlay_xdp.as_ref()]);
        for attached in attached.flatten() {
            attached.count_drops(drops);
        }
    }

    pub(super) fn name_of(&self, port: Port) -> &str {
        match port {
            Port::Underlay => &self.underlay.name,
            Port::Access(id) => self.access_name(id),
        }
    }

    /// Whether messages leave by the kernel's own stack.
    pub(super) fn sends_by_kernel(&self) -> bool {
        self.ways.send.way == Way::Udp
    }

    pub(super) fn mode_of(&self, port: Port) -> &'static str {
        let port = match port {
            Port::Underlay if self.ways.receive.way == Way::Udp => return "udp",
            Port::Underlay => return Attached::mode_name(self.underlay_xdp.as_ref()),
            Port::Access(id) => self.access_port(id),
        };
        match port {
            Some(port) if port.is_tap() => "tap",
            _ => Attached::mode_name(port.and_then(AccessPort::attached)),
        }
    }
}

/// Notes what is told of an interface. Says whether its MTU is another one.
fn note_change(link: &mut Link, up: bool, mtu: u32) -> bool {
    // `carrier` stands for "on and with a carrier" from the first event on.
    let was_up = std::mem::replace(&mut link.carrier, up);
    let interface = &link.name;
    if was_up != up && up {
        info!(interface, "interface is up");
    } else if was_up != up {
        warn!(interface, "interface is down; frames wait or are dropped");
    }
    if link.mtu == mtu {
        return false;
    }
    info!(interface, from = link.mtu, to = mtu, "MTU changed");
    link.mtu = mtu;
    true
}

/// The other side of a port that is made has a name of its own, which must be no other port's.
fn check_names(plans: &[(Plan<'_>, u32)]) -> Result<(), EngineError> {
    let mut seen = BTreeSet::new();
    let mut names = plans.iter().flat_map(|(plan, _)| plan.names());
    match names.find(|name| !seen.insert(name.clone())) {
        Some(name) => Err(EngineError::NameTaken { name }),
        None => Ok(()),
    }
}

/// A worker for each of the underlay's queues, and no more than cores. As each sends to every
/// port, and a queue has one owner, an existing interface with fewer queues sets the number.
fn worker_count(underlay: usize, cores: usize, existing: impl Iterator<Item = usize>) -> usize {
    let most = underlay.min(cores).max(1);
    let count = existing.min().unwrap_or(most).clamp(1, most);
    if count < most {
        info!(
            workers = count,
            possible = most,
            "an access interface with few queues limits the workers"
        );
    }
    count
}

async fn find(netlink: &Netlink, key: &'static str, name: &str) -> Result<Link, EngineError> {
    let found = netlink.link(name).await?;
    found.ok_or_else(|| EngineError::NoInterface {
        key,
        name: name.to_owned(),
    })
}

/// The underlay's queues that get a worker.
fn wanted_queues(wanted: &Queues, interface: &str) -> Result<Vec<u32>, EngineError> {
    let count = receive_queues(interface);
    match wanted {
        Queues::Auto => Ok((0..count).collect()),
        Queues::List(list) => match list.iter().find(|&&queue| queue >= count) {
            Some(&queue) => Err(EngineError::NoQueue {
                interface: interface.to_owned(),
                queue,
                count,
            }),
            None => Ok(list.clone()),
        },
    }
}

/// Whether an address means the same host to others as to itself.
fn is_routed(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local() && !v6.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_gets_a_queue_of_every_port() {
        let none = || [].into_iter();
        assert_eq!(worker_count(4, 8, none()), 4);
        assert_eq!(worker_count(4, 2, none()), 2);
        assert_eq!(worker_count(4, 8, [8, 3].into_iter()), 3);
        assert_eq!(worker_count(4, 8, [0].into_iter()), 1);
    }
}
