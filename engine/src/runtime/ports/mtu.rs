//! What fits: the MTU of the access ports, the longest frame, and the room before frames.

use std::sync::atomic::Ordering;

use omni_config::{Access, Mtu, PortVlans};
use omni_control::netlink::{Link, Netlink};
use omni_wire::limits::{
    ENCAP_IPV4, ENCAP_IPV6, ETHERNET_LEN, HEADER_LEN, VLAN_TAG_LEN, inner_mtu,
};
use omni_wire::outer::{Path, Template};
use omni_xdp_redirect::RedirectError;
use tracing::warn;

use super::Ports;
use crate::runtime::EngineError;

/// The room before each frame from a host for outer headers of `encap` octets, and for a VLAN tag
/// that the frame may get before it is sealed.
const fn room_for(encap: usize) -> u16 {
    (encap + VLAN_TAG_LEN) as u16
}

/// The room to begin with.
pub(super) const fn first_room(ipv6: bool) -> u16 {
    room_for(if ipv6 { ENCAP_IPV6 } else { ENCAP_IPV4 })
}

/// The MTU that an access port is to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// As configured.
    mtu: Mtu,
    /// Octets of the tag that its frames get on the fabric.
    tag_len: u32,
}

impl Wish {
    pub(super) fn new(spec: &Access) -> Self {
        let is_untagged = matches!(spec.vlans, PortVlans::Access(_));
        Self {
            mtu: spec.mtu,
            tag_len: if is_untagged { VLAN_TAG_LEN as u32 } else { 0 },
        }
    }

    /// The most that it can be over an underlay of `underlay` octets.
    pub(super) const fn most(self, underlay: u32, ipv6: bool) -> u32 {
        inner_mtu(underlay, ipv6).saturating_sub(self.tag_len)
    }
}

/// The MTU that the access port `port` gets over an underlay of `underlay` octets.
pub(super) fn checked_mtu(
    port: usize,
    wish: Wish,
    underlay: u32,
    ipv6: bool,
) -> Result<u32, EngineError> {
    let most = wish.most(underlay, ipv6);
    match wish.mtu {
        Mtu::Auto => Ok(most),
        Mtu::Octets(wanted) if u32::from(wanted) <= most => Ok(wanted.into()),
        Mtu::Octets(wanted) => Err(EngineError::MtuTooBig {
            port,
            wanted: wanted.into(),
            underlay,
            most,
        }),
    }
}

/// Says when hosts behind a borrowed interface may send what is not carried.
pub(super) fn warn_of_mtu(link: &Link, most: u32) {
    if link.mtu > most {
        warn!(
            interface = link.name,
            mtu = link.mtu,
            carried = most,
            "longer packets from this interface are dropped: lower its MTU, or raise the underlay's"
        );
    }
}

impl Ports {
    /// The longest inner frame, in octets from the destination MAC on: what the underlay carries,
    /// and any access port with one VLAN tag takes.
    pub(in crate::runtime) fn max_frame(&self) -> usize {
        let carried = inner_mtu(self.underlay.mtu, self.ipv6) as usize + ETHERNET_LEN;
        let mtus = self.access.iter().map(|port| port.link.mtu as usize);
        let taken = mtus.max().unwrap_or(0) + ETHERNET_LEN + VLAN_TAG_LEN;
        carried.min(taken).min(usize::from(u16::MAX))
    }

    /// Makes more room before the hosts' frames when a path needs it.
    pub(in crate::runtime) fn make_room_for(&mut self, path: &Path) -> Result<(), RedirectError> {
        let encap = Template::new(path).map_or(0, |template| template.len() + HEADER_LEN);
        let needed = room_for(encap);
        if needed > self.room.load(Ordering::Relaxed) {
            for port in &mut self.access {
                port.set_room(needed)?;
            }
            self.room.store(needed, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether an access port, by its place in the configuration, could have this MTU now.
    ///
    /// # Errors
    /// `MtuTooBig`.
    pub(in crate::runtime) fn check_mtu(&self, port: usize, mtu: Mtu) -> Result<(), EngineError> {
        let wish = Wish {
            mtu,
            ..self.access[port].wish
        };
        checked_mtu(port, wish, self.underlay.mtu, self.ipv6).map(|_| ())
    }

    /// Notes the MTU that an access port is to have; [`Ports::fit_mtu`] sets it.
    pub(in crate::runtime) fn want_mtu(&mut self, port: usize, mtu: Mtu) {
        self.access[port].wish.mtu = mtu;
    }

    /// An access port's MTU.
    pub(in crate::runtime) fn access_mtu(&self, port: usize) -> u32 {
        self.access[port].link.mtu
    }

    /// Brings the access ports' MTU in line with the underlay's and the address families in use.
    /// Says whether the limits changed.
    pub(in crate::runtime) async fn fit_mtu(&mut self, netlink: &Netlink, ipv6: bool) -> bool {
        let before = self.max_frame();
        // A shorter limit is not taken back while the engine runs: a peer may come and go.
        self.ipv6 |= ipv6;
        for port in &mut self.access {
            let most = port.wish.most(self.underlay.mtu, self.ipv6);
            let wanted = match port.wish.mtu {
                Mtu::Auto => most,
                Mtu::Octets(wanted) => u32::from(wanted).min(most),
            };
            port.set_mtu(netlink, wanted).await;
        }
        self.max_frame() != before
    }
}

#[cfg(test)]
mod tests {
    use omni_wire::limits::ENCAP_MAX;
    use omni_xdp_redirect::MAX_ROOM;

    use super::*;

    #[test]
    fn the_program_can_make_room_for_any_headers_and_a_tag() {
        assert!(room_for(ENCAP_MAX) <= MAX_ROOM);
        assert_eq!((first_room(false), first_room(true)), (78, 98));
    }

    #[test]
    fn an_mtu_that_does_not_fit_is_refused_by_its_key_with_what_would() {
        let wish = |mtu, tag_len| Wish { mtu, tag_len };
        let refused = checked_mtu(3, wish(Mtu::Octets(1427), 0), 1500, false);
        let text = refused.expect_err("too long").to_string();
        assert!(text.starts_with("access[3].mtu: 1427"), "{text}");
        assert!(text.contains("1426"), "{text}");
        assert_eq!(
            checked_mtu(0, wish(Mtu::Octets(1426), 0), 1500, false).ok(),
            Some(1426)
        );
        let auto = |tag_len, ipv6| checked_mtu(0, wish(Mtu::Auto, tag_len), 1500, ipv6).ok();
        assert_eq!((auto(0, true), auto(4, false)), (Some(1406), Some(1422)));
    }
}
