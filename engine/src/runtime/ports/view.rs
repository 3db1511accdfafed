//! The interfaces as `omni show` prints them.

use omni_config::{Access, PortVlans, VlanSet};
use omni_control::message::PortId;
use omni_control::netlink::{Link, LinkStats, Netlink};
use omni_wire::DropCounters;

use super::Ports;
use super::access::AccessPort;
use super::program::Attached;
use crate::io::Port;
use crate::show::PortView;
use crate::ways::Way;

impl Ports {
    /// The underlay, then every access port; `access` is the configuration of those.
    pub(in crate::runtime) async fn views(
        &self,
        netlink: &Netlink,
        access: &[Access],
    ) -> Vec<PortView> {
        let mut views = vec![self.underlay_view(netlink).await];
        for ((id, port), configured) in self.access_ids().zip(&self.access).zip(access) {
            views.push(self.access_view(netlink, id, port, configured).await);
        }
        views
    }

    async fn underlay_view(&self, netlink: &Netlink) -> PortView {
        let word = |way| match way {
            Way::Afxdp => "afxdp",
            Way::Udp => "udp",
        };
        let view = PortView {
            name: self.underlay.name.clone(),
            side: "underlay".to_owned(),
            driver: word(self.ways.receive.way).to_owned(),
            sends_by: word(self.ways.send.way).to_owned(),
            mode: self.mode_of(Port::Underlay).to_owned(),
            made: false,
            mtu: self.underlay.mtu,
            vlans: None,
            vlan_mode: None,
            state: state(&self.underlay, self.underlay_gone).to_owned(),
            ..carried(&since_start(netlink, &self.underlay).await)
        };
        with_program(view, self.underlay_xdp.as_ref())
    }

    async fn access_view(
        &self,
        netlink: &Netlink,
        id: PortId,
        port: &AccessPort,
        configured: &Access,
    ) -> PortView {
        let driver = if port.is_tap() { "tap" } else { "afxdp" };
        let (vlan_mode, vlans) = match &configured.vlans {
            PortVlans::Trunk(vlans) => ("trunk", text(vlans)),
            PortVlans::Access(vlan) => ("access", vlan.to_string()),
        };
        let engine_side = since_start(netlink, port.engine_side()).await;
        let counted = if port.is_tap() {
            carried(&mirrored(&engine_side))
        } else if port.is_made() {
            // What hosts send is dropped on their side of the pair.
            let hosts = since_start(netlink, &port.link).await;
            PortView {
                rx_dropped: hosts.tx_dropped,
                ..carried(&engine_side)
            }
        } else {
            carried(&engine_side)
        };
        let view = PortView {
            name: port.link.name.clone(),
            side: "access".to_owned(),
            driver: driver.to_owned(),
            sends_by: driver.to_owned(),
            mode: self.mode_of(Port::Access(id)).to_owned(),
            made: port.is_made(),
            mtu: port.link.mtu,
            vlans: Some(vlans),
            vlan_mode: Some(vlan_mode.to_owned()),
            state: state(&port.link, port.is_gone()).to_owned(),
            ..counted
        };
        with_program(view, port.attached())
    }
}

/// What an interface counted since the engine knows it; nothing while it is gone.
async fn since_start(netlink: &Netlink, link: &Link) -> LinkStats {
    match netlink.link_by_index(link.index).await {
        Ok(Some(now)) => difference(&now.stats, &link.stats),
        _ => LinkStats::default(),
    }
}

fn difference(now: &LinkStats, start: &LinkStats) -> LinkStats {
    let since = |of: fn(&LinkStats) -> u64| of(now).saturating_sub(of(start));
    LinkStats {
        rx_packets: since(|stats| stats.rx_packets),
        tx_packets: since(|stats| stats.tx_packets),
        rx_bytes: since(|stats| stats.rx_bytes),
        tx_bytes: since(|stats| stats.tx_bytes),
        rx_errors: since(|stats| stats.rx_errors),
        tx_errors: since(|stats| stats.tx_errors),
        rx_dropped: since(|stats| stats.rx_dropped),
        tx_dropped: since(|stats| stats.tx_dropped),
        rx_missed_errors: since(|stats| stats.rx_missed_errors),
    }
}

/// A tap is seen from the hosts: what it sends is what the engine receives. What it drops of what
/// it received was for want of a taker among the hosts.
fn mirrored(tap: &LinkStats) -> LinkStats {
    LinkStats {
        rx_packets: tap.tx_packets,
        tx_packets: tap.rx_packets,
        rx_bytes: tap.tx_bytes,
        tx_bytes: tap.rx_bytes,
        rx_errors: tap.tx_errors,
        tx_errors: tap.rx_errors,
        rx_dropped: 0,
        tx_dropped: 0,
        rx_missed_errors: tap.tx_dropped,
    }
}

/// A view with the counts alone. `rx_dropped` of the kernel is left out: it has what nobody wants,
/// such as LLDP.
fn carried(stats: &LinkStats) -> PortView {
    PortView {
        name: String::new(),
        side: String::new(),
        driver: String::new(),
        sends_by: String::new(),
        mode: String::new(),
        made: false,
        mtu: 0,
        vlans: None,
        vlan_mode: None,
        state: String::new(),
        rx_frames: stats.rx_packets,
        rx_bytes: stats.rx_bytes,
        tx_frames: stats.tx_packets,
        tx_bytes: stats.tx_bytes,
        rx_dropped: stats.rx_missed_errors,
        tx_dropped: stats.tx_dropped,
    }
}

/// The same, with what the port's program dropped.
fn with_program(view: PortView, attached: Option<&Attached>) -> PortView {
    let mut drops = DropCounters::new();
    if let Some(attached) = attached {
        attached.count_drops(&mut drops);
    }
    let dropped: u64 = drops.iter().map(|(_, count)| count).sum();
    PortView {
        rx_dropped: view.rx_dropped.saturating_add(dropped),
        ..view
    }
}

fn state(link: &Link, is_gone: bool) -> &'static str {
    match (is_gone, link.carrier) {
        (true, _) => "gone",
        // Followed since the start: on, and with a carrier.
        (false, true) => "up",
        (false, false) => "down",
    }
}

/// As in the configuration.
fn text(vlans: &VlanSet) -> String {
    if *vlans == VlanSet::all() {
        return "all".to_owned();
    }
    let ranges = vlans.ranges().map(|range| {
        let (first, last) = (*range.start(), *range.end());
        match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        }
    });
    ranges.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_are_written_as_in_the_configuration() {
        assert_eq!(text(&VlanSet::all()), "all");
        let set = omni_config::text::vlans("0,10,100-200").expect("a set");
        assert_eq!(text(&set), "0,10,100-200");
    }

    #[test]
    fn a_tap_is_turned_round_and_counts_begin_with_the_engine() {
        let start = LinkStats {
            rx_packets: 5,
            tx_packets: 100,
            ..LinkStats::default()
        };
        let now = LinkStats {
            rx_packets: 9,
            rx_bytes: 900,
            tx_packets: 103,
            tx_bytes: 30,
            rx_dropped: 7,
            tx_dropped: 2,
            ..LinkStats::default()
        };
        let since = difference(&now, &start);
        let wire = carried(&since);
        let seen = (wire.rx_frames, wire.rx_bytes, wire.tx_frames, wire.tx_bytes);
        assert_eq!(seen, (4, 900, 3, 30));
        assert_eq!((wire.rx_dropped, wire.tx_dropped), (0, 2));
        let tap = carried(&mirrored(&since));
        let seen = (tap.rx_frames, tap.rx_bytes, tap.tx_frames, tap.tx_bytes);
        assert_eq!(seen, (3, 30, 4, 900));
        assert_eq!((tap.rx_dropped, tap.tx_dropped), (2, 0));
    }
}
