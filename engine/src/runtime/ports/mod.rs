//! The interfaces that the engine works on: underlay and access port, their XDP programs and MTU.

use std::collections::BTreeSet;
use std::net::IpAddr;

use omni_config::{Config, Mtu, Queues, XdpMode, ZeroCopy};
use omni_control::PublicKey;
use omni_control::netlink::{AccessPortSpec, Link, Netlink};
use omni_wire::limits::{
    ENCAP_IPV4, ENCAP_IPV6, ETHERNET_LEN, HEADER_LEN, VLAN_TAG_LEN, inner_mtu,
};
use omni_wire::outer::{Path, Template};
use omni_wire::{DropCounters, DropReason, MacAddr};
use omni_xdp_redirect::{Kind, Mode, Redirect, RedirectError};
use ring::digest::{SHA256, digest};
use tracing::{error, info, warn};

use super::EngineError;
use super::filter::Filter;
use crate::io::Port;
use crate::io::xsk::{
    BoundQueue, Promiscuous, SwitchedOff, XskPort, disable_receive_vlan_offload,
    disable_transmit_offloads, receive_queues,
};

/// A port's program and how it runs.
struct Attached {
    program: Redirect,
    mode: Mode,
}

/// Both interfaces.
pub(super) struct Ports {
    underlay: Link,
    underlay_queues: Vec<u32>,
    port: u16,
    /// The side that hosts see; the same as `engine_side` when it existed before.
    access: Link,
    engine_side: Link,
    access_queues: Vec<u32>,
    made: bool,
    mtu: Mtu,
    ipv6: bool,
    room: u16,
    workers: usize,
    xdp: XdpMode,
    zero_copy: ZeroCopy,
    local: BTreeSet<IpAddr>,
    /// What was changed about an existing interface while it is the access port.
    _borrowed: Option<Borrowed>,
    underlay_xdp: Option<Attached>,
    access_xdp: Option<Attached>,
}

impl Ports {
    /// Looks at the underlay and makes, or finds, the access port.
    pub(super) async fn open(
        netlink: &Netlink,
        config: &Config,
        public_key: &PublicKey,
        cores: usize,
    ) -> Result<Self, EngineError> {
        let underlay = find(netlink, "underlay.interface", &config.underlay.interface).await?;
        let underlay_queues = wanted_queues(&config.underlay.queues, &underlay.name)?;
        let ipv6 = config
            .peers
            .iter()
            .any(|peer| peer.endpoint.is_some_and(|e| e.is_ipv6()));
        let most = inner_mtu(underlay.mtu, ipv6);
        let spec = &config.access[0];
        let mtu = checked_mtu(spec.mtu, underlay.mtu, ipv6)?;
        let existing = netlink.link(&spec.interface).await?;
        let made = existing.as_ref().is_none_or(Link::is_access_port);
        let Sides {
            access,
            engine_side,
            borrowed,
        } = match existing.filter(|_| !made) {
            Some(link) => existing_port(link, most)?,
            None => {
                let queues = underlay_queues.len().min(cores).max(1) as u32;
                let mac = host_mac(public_key, &spec.interface);
                let addresses = spec
                    .addresses
                    .iter()
                    .map(|a| (a.address, a.prefix))
                    .collect();
                let name = spec.interface.clone();
                make_port(
                    netlink,
                    &AccessPortSpec {
                        name,
                        queues,
                        mtu,
                        mac,
                        addresses,
                    },
                )
                .await?
            }
        };
        let access_queues: Vec<u32> = (0..receive_queues(&engine_side.name)).collect();
        let workers = underlay_queues
            .len()
            .min(access_queues.len())
            .min(cores)
            .max(1);
        Ok(Self {
            underlay,
            underlay_queues,
            port: config.underlay.port,
            access,
            engine_side,
            access_queues,
            made,
            mtu: spec.mtu,
            ipv6,
            room: if ipv6 { ENCAP_IPV6 } else { ENCAP_IPV4 } as u16,
            workers,
            xdp: config.underlay.xdp,
            zero_copy: config.underlay.zero_copy,
            local: BTreeSet::new(),
            _borrowed: borrowed,
            underlay_xdp: None,
            access_xdp: None,
        })
    }

    /// One worker for each pair of queues, and no more than cores.
    pub(super) fn workers(&self) -> usize {
        self.workers
    }

    pub(super) fn underlay_index(&self) -> u32 {
        self.underlay.index
    }

    pub(super) fn access_name(&self) -> &str {
        &self.access.name
    }

    /// Whether the access port is the engine's own.
    pub(super) fn is_made(&self) -> bool {
        self.made
    }

    /// The address of the host itself on an access port that the engine made.
    pub(super) fn host_mac(&self) -> Option<MacAddr> {
        self.made.then_some(self.access.mac)
    }

    pub(super) fn underlay_queues(&self) -> XskPort {
        let (interface, queues) = (self.underlay.name.clone(), self.underlay_queues.clone());
        XskPort {
            interface,
            queues,
            zero_copy: self.zero_copy,
        }
    }

    pub(super) fn access_queues(&self) -> XskPort {
        let (interface, queues) = (self.engine_side.name.clone(), self.access_queues.clone());
        // No veth can do without copies, and asking costs a failed bind for each queue.
        let zero_copy = if self.made {
            ZeroCopy::Off
        } else {
            self.zero_copy
        };
        XskPort {
            interface,
            queues,
            zero_copy,
        }
    }

    /// The longest inner frame, in octets from the destination MAC on: what the underlay carries,
    /// and the access port with one VLAN tag takes.
    pub(super) fn max_frame(&self) -> usize {
        let carried = inner_mtu(self.underlay.mtu, self.ipv6) as usize + ETHERNET_LEN;
        let taken = self.access.mtu as usize + ETHERNET_LEN + VLAN_TAG_LEN;
        carried.min(taken).min(usize::from(u16::MAX))
    }

    /// Loads and attaches both programs and gives them their sockets and the sessions to let
    /// through.
    pub(super) async fn attach(
        &mut self,
        netlink: &Netlink,
        bound: &[BoundQueue],
        filter: &mut Filter,
    ) -> Result<(), EngineError> {
        let sockets = |port: Port| bound.iter().filter(move |queue| queue.port == port);
        let mut underlay = Redirect::load(Kind::Underlay)?;
        underlay.set_port(self.port)?;
        for queue in sockets(Port::Underlay) {
            underlay.set_socket(queue.queue, queue)?;
        }
        filter.prepare(&mut underlay)?;
        let mut access = Redirect::load(Kind::Access)?;
        access.set_room(self.room)?;
        for queue in bound.iter().filter(|queue| queue.port != Port::Underlay) {
            access.set_socket(queue.queue, queue)?;
        }
        let mode = attach(&mut underlay, &self.underlay.name, self.xdp)?;
        self.underlay_xdp = Some(Attached {
            program: underlay,
            mode,
        });
        let mode = attach(&mut access, &self.engine_side.name, self.xdp)?;
        self.access_xdp = Some(Attached {
            program: access,
            mode,
        });
        self.follow_addresses(netlink).await;
        if self.made {
            // Only now: what a host sends before anybody receives it would be lost uncounted.
            netlink.set_up(self.engine_side.index).await?;
            netlink.set_up(self.access.index).await?;
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
        self.access_xdp = None;
    }

    /// Removes what the engine made.
    pub(super) async fn close(&mut self, netlink: &Netlink) {
        self.detach();
        if self.made
            && let Err(error) = netlink.delete_link(self.access.index).await
        {
            // Whoever deleted it before us did our work.
            info!(interface = self.access.name, %error, "access port not deleted");
        }
    }

    /// Steers messages to the addresses that the underlay has now.
    pub(super) async fn follow_addresses(&mut self, netlink: &Netlink) {
        let Some(attached) = &mut self.underlay_xdp else {
            return;
        };
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
        for address in current.difference(&self.local) {
            change(attached.program.add_local(*address), address);
        }
        for address in self.local.difference(&current) {
            change(attached.program.remove_local(*address), address);
        }
        if current.is_empty() && !self.local.is_empty() {
            warn!(
                interface = self.underlay.name,
                "the underlay has no address any more"
            );
        }
        self.local = current;
    }

    /// Makes more room before the host's frames when a path needs it.
    pub(super) fn make_room_for(&mut self, path: &Path) -> Result<(), RedirectError> {
        let needed = Template::new(path).map_or(0, |template| template.len() + HEADER_LEN) as u16;
        if needed > self.room {
            if let Some(attached) = &mut self.access_xdp {
                attached.program.set_room(needed)?;
            }
            self.room = needed;
        }
        Ok(())
    }

    /// Whether the engine can go on without the interface that was deleted.
    pub(super) fn check_gone(&self, ifindex: u32) -> Result<(), EngineError> {
        for link in [&self.underlay, &self.engine_side, &self.access] {
            if link.index == ifindex {
                return Err(EngineError::InterfaceGone {
                    name: link.name.clone(),
                });
            }
        }
        Ok(())
    }

    /// As after a loss of notifications: looks whether all interfaces are still there.
    pub(super) async fn recheck(&mut self, netlink: &Netlink) -> Result<(), EngineError> {
        let links = [&self.underlay, &self.engine_side, &self.access];
        for index in links.map(|link| link.index) {
            match netlink.link_by_index(index).await? {
                None => self.check_gone(index)?,
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
        let links = [&self.underlay, &self.engine_side, &self.access];
        let other = |link: &&Link| link.index == ifindex && link.name != told;
        if !links.into_iter().any(|link| other(&link)) {
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
        for link in [&mut self.underlay, &mut self.engine_side, &mut self.access] {
            if link.index == ifindex && link.name != name {
                info!(from = link.name, to = name, "interface renamed");
                name.clone_into(&mut link.name);
            }
        }
    }

    /// Notes a change of an interface. Says whether limits may have changed with it.
    pub(super) fn link_changed(&mut self, ifindex: u32, up: bool, mtu: u32) -> bool {
        let is_underlay = self.underlay.index == ifindex;
        let mut changed = false;
        for link in [&mut self.underlay, &mut self.engine_side, &mut self.access] {
            if link.index != ifindex {
                continue;
            }
            // `carrier` stands for "on and with a carrier" from the first event on.
            let was_up = std::mem::replace(&mut link.carrier, up);
            if was_up != up && up {
                info!(interface = link.name, "interface is up");
            } else if was_up != up {
                warn!(
                    interface = link.name,
                    "interface is down; frames wait or are dropped"
                );
            }
            if link.mtu != mtu {
                info!(
                    interface = link.name,
                    from = link.mtu,
                    to = mtu,
                    "MTU changed"
                );
                link.mtu = mtu;
                changed = true;
            }
        }
        changed && (is_underlay || !self.made)
    }

    /// Whether the access port could have this MTU now.
    ///
    /// # Errors
    /// `MtuTooBig`.
    pub(super) fn check_mtu(&self, mtu: Mtu) -> Result<(), EngineError> {
        checked_mtu(mtu, self.underlay.mtu, self.ipv6).map(|_| ())
    }

    /// Notes the MTU that the access port is to have; [`Ports::fit_mtu`] sets it.
    pub(super) fn want_mtu(&mut self, mtu: Mtu) {
        self.mtu = mtu;
    }

    /// The access port's MTU.
    pub(super) fn access_mtu(&self) -> u32 {
        self.access.mtu
    }

    /// Brings the access port's MTU in line with the underlay's and the address families in use.
    /// Says whether the limits changed.
    pub(super) async fn fit_mtu(&mut self, netlink: &Netlink, ipv6: bool) -> bool {
        let before = self.max_frame();
        // A shorter limit is not taken back while the engine runs: a peer may come and go.
        self.ipv6 |= ipv6;
        let most = inner_mtu(self.underlay.mtu, self.ipv6);
        let wanted = match self.mtu {
            Mtu::Auto => most,
            Mtu::Octets(wanted) => u32::from(wanted).min(most),
        };
        if self.made && self.access.mtu != wanted {
            for link in [&mut self.engine_side, &mut self.access] {
                match netlink.set_mtu(link.index, wanted).await {
                    Ok(()) => link.mtu = wanted,
                    Err(error) => {
                        error!(interface = link.name, wanted, %error, "cannot set the MTU");
                    }
                }
            }
            info!(
                interface = self.access.name,
                mtu = wanted,
                "access port's MTU set"
            );
        }
        self.max_frame() != before
    }

    /// Frames that the kernel dropped between host and engine, and those that an interface of the
    /// engine's could not send, since the start.
    pub(super) async fn link_drops(&self, netlink: &Netlink) -> (u64, u64) {
        let since = async |link: &Link| match netlink.link_by_index(link.index).await {
            Ok(Some(now)) => now.stats.tx_dropped.saturating_sub(link.stats.tx_dropped),
            _ => 0,
        };
        let sent = since(&self.underlay).await + since(&self.engine_side).await;
        let received = if self.made {
            since(&self.access).await
        } else {
            0
        };
        (received, sent)
    }

    /// What both programs dropped.
    pub(super) fn count_xdp_drops(&self, drops: &mut DropCounters) {
        let attached = [&self.underlay_xdp, &self.access_xdp].into_iter().flatten();
        for counted in attached.filter_map(|attached| attached.program.counters().ok()) {
            drops.add(DropReason::NoSocket, counted.no_socket);
            drops.add(DropReason::XdpNoHeadroom, counted.no_headroom);
            drops.add(DropReason::UnknownSession, counted.no_session);
            drops.add(DropReason::LaneUnknown, counted.no_lane);
            drops.add(DropReason::MessageMalformed, counted.not_handshake);
            drops.add(DropReason::HandshakeRateLimited, counted.too_many);
            drops.add(DropReason::Elsewhere, counted.elsewhere);
        }
    }

    pub(super) fn name_of(&self, port: Port) -> &str {
        match port {
            Port::Underlay => &self.underlay.name,
            Port::Access(_) => &self.access.name,
        }
    }

    pub(super) fn mode_of(&self, port: Port) -> &'static str {
        let attached = match port {
            Port::Underlay => &self.underlay_xdp,
            Port::Access(_) => &self.access_xdp,
        };
        match attached.as_ref().map(|attached| attached.mode) {
            Some(Mode::Native) => "native",
            Some(Mode::Generic) => "generic",
            None => "detached",
        }
    }
}

/// Both sides of an access port; one interface that existed before is both.
struct Sides {
    access: Link,
    engine_side: Link,
    borrowed: Option<Borrowed>,
}

/// What was changed about an interface that is not ours. Giving it back undoes it.
struct Borrowed {
    switched_off: Option<SwitchedOff>,
    /// The kernel takes it back by itself.
    _promiscuous: Promiscuous,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.switched_off.as_ref().map(SwitchedOff::undo) {
            info!(%error, "VLAN receive offload of the access interface stays off");
        }
    }
}

/// Makes an access port, or takes over what a killed engine left.
async fn make_port(netlink: &Netlink, spec: &AccessPortSpec) -> Result<Sides, EngineError> {
    let port = netlink.make_access_port(spec).await?;
    if let Err(source) = disable_transmit_offloads(&spec.name) {
        let _ = netlink.delete_link(port.user.index).await;
        return Err(EngineError::Offload {
            interface: spec.name.clone(),
            source,
        });
    }
    let (interface, mtu, taken_over) = (&spec.name, spec.mtu, port.taken_over);
    info!(interface, mtu, taken_over, "access port made");
    Ok(Sides {
        access: port.user,
        engine_side: port.engine,
        borrowed: None,
    })
}

/// Uses an interface that is not ours. What it carries must reach XDP whole, and all of it: also
/// what is addressed to hosts behind other nodes.
fn existing_port(link: Link, most: u32) -> Result<Sides, EngineError> {
    warn_of_mtu(&link, most);
    let borrowed = Borrowed {
        switched_off: keep_vlan_tags(&link.name)?,
        _promiscuous: Promiscuous::new(link.index).map_err(|source| EngineError::System {
            what: "make the access interface promiscuous",
            source,
        })?,
    };
    if !link.is_running() {
        warn!(interface = link.name, "the access interface is down");
    }
    Ok(Sides {
        access: link.clone(),
        engine_side: link,
        borrowed: Some(borrowed),
    })
}

async fn find(netlink: &Netlink, key: &'static str, name: &str) -> Result<Link, EngineError> {
    let found = netlink.link(name).await?;
    found.ok_or_else(|| EngineError::NoInterface {
        key,
        name: name.to_owned(),
    })
}

/// The MTU that `mtu` stands for over an underlay of `underlay` octets.
fn checked_mtu(mtu: Mtu, underlay: u32, ipv6: bool) -> Result<u32, EngineError> {
    let most = inner_mtu(underlay, ipv6);
    match mtu {
        Mtu::Auto => Ok(most),
        Mtu::Octets(wanted) if u32::from(wanted) <= most => Ok(wanted.into()),
        Mtu::Octets(wanted) => Err(EngineError::MtuTooBig {
            wanted: wanted.into(),
            underlay,
            most,
        }),
    }
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

/// A MAC address for the host's side that stays the same over restarts, so that what others
/// remember stays true: from the node's key and the interface's name.
fn host_mac(public_key: &PublicKey, interface: &str) -> MacAddr {
    let hash = digest(&SHA256, &[&public_key.0, interface.as_bytes()].concat());
    let mut mac = [0; 6];
    mac.copy_from_slice(&hash.as_ref()[..6]);
    // Locally administered, unicast (IEEE 802, clause 8.2).
    mac[0] = mac[0] & 0xfc | 0x02;
    MacAddr(mac)
}

/// A driver that takes VLAN tags out of frames would put every VLAN into the untagged one.
fn keep_vlan_tags(interface: &str) -> Result<Option<SwitchedOff>, EngineError> {
    let changed =
        disable_receive_vlan_offload(interface).map_err(|source| EngineError::Offload {
            interface: interface.to_owned(),
            source,
        })?;
    if changed.is_some() {
        info!(
            interface,
            "switched VLAN receive offload off, until the end: tags stay in frames"
        );
    }
    Ok(changed)
}

fn warn_of_mtu(link: &Link, most: u32) {
    if link.mtu > most {
        warn!(
            interface = link.name,
            mtu = link.mtu,
            carried = most,
            "longer packets from this interface are dropped: lower its MTU, or raise the underlay's"
        );
    }
}

/// Attaches a program, in the driver where that is wanted and possible.
fn attach(program: &mut Redirect, interface: &str, wanted: XdpMode) -> Result<Mode, RedirectError> {
    match wanted {
        XdpMode::Native => program
            .attach(interface, Mode::Native)
            .map(|()| Mode::Native),
        XdpMode::Generic => program
            .attach(interface, Mode::Generic)
            .map(|()| Mode::Generic),
        XdpMode::Auto => match program.attach(interface, Mode::Native) {
            Ok(()) => Ok(Mode::Native),
            Err(refused @ RedirectError::Permission { .. }) => Err(refused),
            Err(refused) => {
                program.attach(interface, Mode::Generic)?;
                warn!(interface, %refused, "no native XDP here: generic mode is slower");
                Ok(Mode::Generic)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_address_stays_and_is_local_unicast() {
        let (alpha, beta) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let mac = host_mac(&alpha, "omni0");
        assert_eq!(mac, host_mac(&alpha, "omni0"));
        assert_ne!(mac, host_mac(&alpha, "omni1"));
        assert_ne!(mac, host_mac(&beta, "omni0"));
        assert_eq!(mac.0[0] & 3, 2);
    }
}
