//! How messages are received from the underlay and sent to it: by AF_XDP or by UDP sockets, each
//! side chosen apart. Who starts a node and who asks `omni doctor` get the same answer.

use omni_config::{Driver, Underlay, ZeroCopy};
use serde::Serialize;

use crate::io::kernel::{afxdp_is_there, driver_of, has_feature, receive_queues};

/// One of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// AF_XDP sockets.
    Afxdp,
    /// UDP sockets.
    Udp,
}

/// A way, and what speaks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Choice {
    /// Which.
    pub way: Way,
    /// In words for people.
    pub why: &'static str,
}

/// What was chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Ways {
    /// How messages are received.
    pub receive: Choice,
    /// How they are sent.
    pub send: Choice,
}

/// What the choice depends on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Seen {
    /// The interface's driver, as ethtool calls it; empty where it has no name.
    pub driver: String,
    /// Receive queues in use.
    pub queues: u32,
    /// The kernel has AF_XDP, and gives this process sockets of it.
    pub afxdp: bool,
    /// What arrives is put together before it is delivered (ethtool's `rx-gro`).
    pub gro: bool,
    /// The device cuts UDP datagrams, or hands them on uncut (ethtool's `tx-udp-segmentation`).
    pub cuts_udp: bool,
    /// The engine may ask the driver to work in its buffers.
    pub zero_copy: bool,
}

impl Seen {
    /// Looks at an interface.
    #[must_use]
    pub fn look(interface: &str, zero_copy: ZeroCopy) -> Self {
        let driver = driver_of(interface).unwrap_or_default();
        Self {
            queues: receive_queues(interface),
            afxdp: afxdp_is_there(),
            gro: has_feature(interface, "rx-gro"),
            cuts_udp: has_feature(interface, "tx-udp-segmentation"),
            zero_copy: zero_copy != ZeroCopy::Off && !is_virtual(&driver),
            driver,
        }
    }

    /// What `auto` for both sides comes to.
    #[must_use]
    pub fn best(&self) -> Ways {
        let receive = self.receive();
        let send = self.send(receive.way);
        Ways { receive, send }
    }

    fn receive(&self) -> Choice {
        let (way, why) = if !self.afxdp {
            (Way::Udp, "this process gets no AF_XDP sockets")
        } else if self.driver == "veth" && (self.gro || self.cuts_udp) {
            (Way::Udp, "a veth hands over many messages at once")
        } else {
            (Way::Afxdp, "past the kernel's network stack")
        };
        Choice { way, why }
    }

    fn send(&self, receive: Way) -> Choice {
        let (way, why) = if receive == Way::Udp {
            (Way::Udp, "there are no AF_XDP sockets to send by")
        } else if self.zero_copy {
            (Way::Afxdp, "the driver may send from the engine's memory")
        } else {
            (
                Way::Udp,
                "one call for many messages, which AF_XDP copies one by one",
            )
        };
        Choice { way, why }
    }
}

/// Interfaces without a card, whose drivers copy.
fn is_virtual(driver: &str) -> bool {
    matches!(
        driver,
        "" | "veth" | "tun" | "bridge" | "802.1Q VLAN Support" | "dummy"
    )
}

impl Ways {
    /// As configured; what is `auto` is what is best.
    #[must_use]
    pub fn choose(underlay: &Underlay, seen: &Seen) -> Self {
        let why = "configured";
        let configured = |driver, best: &dyn Fn() -> Choice| match driver {
            Driver::Afxdp => Choice {
                way: Way::Afxdp,
                why,
            },
            Driver::Udp => Choice { way: Way::Udp, why },
            Driver::Auto => best(),
        };
        let receive = configured(underlay.driver, &|| seen.receive());
        let send = match receive.way {
            // Without AF_XDP sockets there is nothing else.
            Way::Udp => seen.send(Way::Udp),
            Way::Afxdp => configured(underlay.send, &|| seen.send(Way::Afxdp)),
        };
        Self { receive, send }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_gets_what_serves_it() {
        let chosen = |driver: &str, afxdp, uncut, zero_copy| {
            let ways = Seen {
                driver: driver.to_owned(),
                queues: 1,
                afxdp,
                gro: false,
                cuts_udp: uncut,
                zero_copy,
            }
            .best();
            (ways.receive.way, ways.send.way)
        };
        let (afxdp, udp) = (Way::Afxdp, Way::Udp);
        // A card, one that is not to share its buffers, namespaces, those whose wire cuts, and a
        // container without capabilities.
        assert_eq!(chosen("ixgbe", true, true, true), (afxdp, afxdp));
        assert_eq!(chosen("ixgbe", true, true, false), (afxdp, udp));
        assert_eq!(chosen("veth", true, true, false), (udp, udp));
        assert_eq!(chosen("veth", true, false, false), (afxdp, udp));
        assert_eq!(chosen("ixgbe", false, true, true), (udp, udp));
    }
}
