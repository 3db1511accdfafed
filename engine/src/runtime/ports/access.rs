//! An access port: made by the engine, or an existing interface that it borrows.
//!
//! ```text
//!  made, tap  hosts -- omni0 ===================== queues of a tap
//!  made, xdp  hosts -- omni0 ==veth== omni0-xdp -- program, sockets
//!  borrowed   hosts ----------------- eth1 ------- program, sockets
//! ```

use std::io;
use std::time::{Duration, Instant};

use omni_config::{Access, AccessDriver, XdpMode, ZeroCopy};
use omni_control::PublicKey;
use omni_control::netlink::{AccessPortSpec, Link, Netlink, engine_side_name};
use omni_wire::MacAddr;
use omni_xdp_redirect::{Kind, Redirect, RedirectError};
use ring::digest::{SHA256, digest};
use tracing::{error, info, warn};

use super::mtu::Wish;
use super::program::Attached;
use crate::io::kernel::{
    BoundQueue, PortDriver, Promiscuous, SwitchedOff, TapDevice, XskPort,
    disable_receive_vlan_offload, disable_transmit_offloads, receive_queues,
};
use crate::runtime::EngineError;

/// How long to wait for a killed engine's tap to go away.
const TAP_PATIENCE: Duration = Duration::from_secs(2);

/// What is to become an access port. Nothing is changed yet.
pub(super) struct Plan<'a> {
    spec: &'a Access,
    /// The interface, when there is one that is not ours.
    existing: Option<Link>,
}

impl<'a> Plan<'a> {
    /// Looks whether the interface is there.
    pub(super) async fn new(netlink: &Netlink, spec: &'a Access) -> Result<Self, EngineError> {
        let found = netlink.link(&spec.interface).await?;
        Ok(Self {
            spec,
            existing: found.filter(|link| !link.is_access_port()),
        })
    }

    /// The names that its interfaces will have.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let name = &self.spec.interface;
        let pair = self.existing.is_none() && !self.is_tap();
        [name.clone()]
            .into_iter()
            .chain(pair.then(|| engine_side_name(name)))
    }

    /// How many receive queues there are; `None` = as many as are wanted.
    pub(super) fn queues(&self) -> Option<usize> {
        let existing = self.existing.as_ref().filter(|_| !self.is_tap());
        existing.map(|link| receive_queues(&link.name) as usize)
    }

    fn is_tap(&self) -> bool {
        match self.spec.driver {
            AccessDriver::Tap => true,
            AccessDriver::Xdp => false,
            AccessDriver::Auto => self.existing.is_none(),
        }
    }

    /// Makes the port with so many queues and this MTU, or borrows the interface as it is.
    pub(super) async fn open(
        self,
        netlink: &Netlink,
        public_key: &PublicKey,
        queues: usize,
        mtu: u32,
    ) -> Result<AccessPort, EngineError> {
        let is_tap = self.is_tap();
        let Self { spec, existing } = self;
        let addresses = spec.addresses.iter().map(|a| (a.address, a.prefix));
        let wanted = AccessPortSpec {
            name: spec.interface.clone(),
            queues: queues as u32,
            mtu,
            mac: host_mac(public_key, &spec.interface),
            addresses: addresses.collect(),
        };
        let (link, origin, tap) = match existing {
            Some(link) if is_tap => {
                let tap = TapDevice::borrow(&link.name, queues);
                let tap = tap.map_err(|source| tap_error(&link.name, source))?;
                (link, Origin::BorrowedTap, Some(tap))
            }
            Some(link) => {
                let borrowed = Borrowed::new(&link)?;
                (link, Origin::Borrowed(Some(borrowed)), None)
            }
            None if is_tap => {
                let (link, tap) = make_tap(netlink, &wanted).await?;
                (link, Origin::MadeTap, Some(tap))
            }
            None => {
                let (link, origin) = make(netlink, &wanted).await?;
                (link, origin, None)
            }
        };
        let mut port = AccessPort {
            link,
            origin,
            queues: Vec::new(),
            tap,
            wish: Wish::new(spec),
            attached: None,
        };
        port.queues = (0..receive_queues(&port.engine_side().name)).collect();
        Ok(port)
    }
}

/// Where a port comes from.
enum Origin {
    /// The engine made it, with a side of its own.
    Made { engine_side: Link },
    /// The engine made it, and is its other side.
    MadeTap,
    /// Somebody else made it for the engine to be its other side.
    BorrowedTap,
    /// It existed before. `None` while it is gone, and waited for.
    Borrowed(Option<Borrowed>),
}

/// An access port.
pub(super) struct AccessPort {
    /// The side that hosts see.
    pub(super) link: Link,
    origin: Origin,
    queues: Vec<u32>,
    /// Its queues, until a worker has them.
    tap: Option<TapDevice>,
    /// What its MTU is to be.
    pub(super) wish: Wish,
    attached: Option<Attached>,
}

impl AccessPort {
    /// Whether the engine made it.
    pub(super) fn is_made(&self) -> bool {
        matches!(self.origin, Origin::Made { .. } | Origin::MadeTap)
    }

    /// Whether it is a tap.
    pub(super) fn is_tap(&self) -> bool {
        matches!(self.origin, Origin::MadeTap | Origin::BorrowedTap)
    }

    /// Whether somebody else made the interface, and can make it again.
    pub(super) fn is_borrowed(&self) -> bool {
        matches!(self.origin, Origin::Borrowed(_))
    }

    /// Whether the interface was deleted, and is waited for.
    pub(super) fn is_gone(&self) -> bool {
        matches!(self.origin, Origin::Borrowed(None))
    }

    /// A borrowed interface was deleted.
    pub(super) fn lose(&mut self) {
        self.origin = Origin::Borrowed(None);
        self.link.carrier = false;
    }

    /// A borrowed interface is there again, with so many queues.
    pub(super) fn find(&mut self, link: Link, queues: u32) -> Result<(), EngineError> {
        self.origin = Origin::Borrowed(Some(Borrowed::new(&link)?));
        self.link = link;
        self.queues = (0..queues).collect();
        Ok(())
    }

    /// How many queues are served; `None` when they are the engine's own choice.
    pub(super) fn queues_served(&self) -> Option<usize> {
        (self.is_borrowed() && !self.is_gone()).then_some(self.queues.len())
    }

    /// From now on, so many queues are to be served.
    pub(super) fn set_queues(&mut self, queues: u32) {
        self.queues = (0..queues).collect();
    }

    /// Its queues, to be bound again. `None` for taps, and while it is gone.
    pub(super) fn xsk_port(&self, zero_copy: ZeroCopy) -> Option<XskPort> {
        if self.is_tap() || self.is_gone() {
            return None;
        }
        Some(XskPort {
            interface: self.engine_side().name.clone(),
            queues: self.queues.clone(),
            // No veth can do without copies, and asking costs a failed bind for each queue.
            zero_copy: if self.is_made() {
                ZeroCopy::Off
            } else {
                zero_copy
            },
        })
    }

    /// Its program, to change it.
    pub(super) fn attached_mut(&mut self) -> Option<&mut Attached> {
        self.attached.as_mut()
    }

    /// The interface that the engine receives from and sends to.
    pub(super) fn engine_side(&self) -> &Link {
        match &self.origin {
            Origin::Made { engine_side } => engine_side,
            Origin::MadeTap | Origin::BorrowedTap | Origin::Borrowed(_) => &self.link,
        }
    }

    /// Its interfaces, each once.
    pub(super) fn links(&self) -> impl Iterator<Item = &Link> {
        let other = match &self.origin {
            Origin::Made { engine_side } => Some(engine_side),
            Origin::MadeTap | Origin::BorrowedTap | Origin::Borrowed(_) => None,
        };
        [&self.link].into_iter().chain(other)
    }

    /// The same, to change what is known of them.
    pub(super) fn links_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        let other = match &mut self.origin {
            Origin::Made { engine_side } => Some(engine_side),
            Origin::MadeTap | Origin::BorrowedTap | Origin::Borrowed(_) => None,
        };
        [&mut self.link].into_iter().chain(other)
    }

    /// Its queues, for the workers. Those of a tap can be had once.
    pub(super) fn driver(&mut self, zero_copy: ZeroCopy) -> PortDriver {
        if let Some(tap) = self.tap.take() {
            return PortDriver::Tap(tap);
        }
        let queues = self.xsk_port(zero_copy);
        PortDriver::Xsk(queues.unwrap_or_else(|| XskPort {
            interface: self.link.name.clone(),
            queues: Vec::new(),
            zero_copy,
        }))
    }

    /// Loads and attaches its program and gives it its sockets.
    pub(super) fn attach<'q>(
        &mut self,
        wanted: XdpMode,
        room: u16,
        sockets: impl Iterator<Item = &'q BoundQueue>,
    ) -> Result<(), RedirectError> {
        if self.is_tap() {
            return Ok(());
        }
        let mut program = Redirect::load(Kind::Access)?;
        program.set_room(room)?;
        for queue in sockets {
            program.set_socket(queue.queue, queue)?;
        }
        let attached = Attached::new(program, &self.engine_side().name, wanted)?;
        self.attached = Some(attached);
        Ok(())
    }

    /// Its program, while it is attached.
    pub(super) fn attached(&self) -> Option<&Attached> {
        self.attached.as_ref()
    }

    /// Changes the room before each frame.
    pub(super) fn set_room(&mut self, room: u16) -> Result<(), RedirectError> {
        match &mut self.attached {
            Some(attached) => attached.program.set_room(room),
            None => Ok(()),
        }
    }

    /// Switches on what was made. Only once it is served: what a host sends before anybody
    /// receives it would be lost uncounted.
    pub(super) async fn set_up(&self, netlink: &Netlink) -> Result<(), EngineError> {
        if let Origin::Made { engine_side } = &self.origin {
            netlink.set_up(engine_side.index).await?;
        }
        if self.is_made() {
            netlink.set_up(self.link.index).await?;
        }
        Ok(())
    }

    /// Ends the steering.
    pub(super) fn detach(&mut self) {
        self.attached = None;
    }

    /// Removes what was made. A tap goes with the last of its queues.
    pub(super) async fn remove(&self, netlink: &Netlink) {
        if matches!(self.origin, Origin::Made { .. })
            && let Err(error) = netlink.delete_link(self.link.index).await
        {
            // Whoever deleted it before us did our work.
            info!(interface = self.link.name, %error, "access port not deleted");
        }
    }

    /// Gives what was made this MTU.
    pub(super) async fn set_mtu(&mut self, netlink: &Netlink, wanted: u32) {
        if !self.is_made() || self.link.mtu == wanted {
            return;
        }
        for link in self.links_mut() {
            match netlink.set_mtu(link.index, wanted).await {
                Ok(()) => link.mtu = wanted,
                Err(error) => {
                    error!(interface = link.name, wanted, %error, "cannot set the MTU");
                }
            }
        }
        let interface = &self.link.name;
        info!(interface, mtu = wanted, "access port's MTU set");
    }
}

/// What was changed about an interface that is not ours. Dropping it undoes that.
struct Borrowed {
    switched_off: Option<SwitchedOff>,
    /// The kernel takes it back by itself.
    _promiscuous: Promiscuous,
}

impl Borrowed {
    /// What an interface carries must reach XDP whole, and all of it: also what is addressed to
    /// hosts behind other nodes.
    fn new(link: &Link) -> Result<Self, EngineError> {
        let borrowed = Self {
            switched_off: keep_vlan_tags(&link.name)?,
            _promiscuous: Promiscuous::new(link.index).map_err(|source| EngineError::System {
                what: "make the access interface promiscuous",
                source,
            })?,
        };
        if !link.is_running() {
            warn!(interface = link.name, "the access interface is down");
        }
        Ok(borrowed)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.switched_off.as_ref().map(SwitchedOff::undo) {
            info!(%error, "VLAN receive offload of the access interface stays off");
        }
    }
}

/// Makes an access port, or takes over what a killed engine left.
async fn make(netlink: &Netlink, spec: &AccessPortSpec) -> Result<(Link, Origin), EngineError> {
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
    let engine_side = port.engine;
    Ok((port.user, Origin::Made { engine_side }))
}

/// Makes an access port that is a tap.
async fn make_tap(
    netlink: &Netlink,
    spec: &AccessPortSpec,
) -> Result<(Link, TapDevice), EngineError> {
    netlink.clear_access_port(spec).await?;
    let deadline = Instant::now() + TAP_PATIENCE;
    let tap = loop {
        match TapDevice::make(&spec.name, spec.queues as usize) {
            Ok(tap) => break tap,
            // A killed engine's tap goes a moment after it.
            Err(error)
                if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(source) => return Err(tap_error(&spec.name, source)),
        }
    };
    // Should this fail, the tap goes with its queues.
    let link = netlink.set_up_tap(spec).await?;
    let (interface, mtu, queues, udp) = (&spec.name, spec.mtu, spec.queues, tap.cuts_udp());
    info!(interface, mtu, queues, udp, "access port made, a tap");
    Ok((link, tap))
}

fn tap_error(interface: &str, source: io::Error) -> EngineError {
    EngineError::Tap {
        interface: interface.to_owned(),
        source,
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

/// The address that the engine asks hosts from. No interface is without a name, so no host has it.
pub(in crate::runtime) fn engine_mac(public_key: &PublicKey) -> MacAddr {
    host_mac(public_key, "")
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
        assert_ne!(mac, engine_mac(&alpha));
    }
}
