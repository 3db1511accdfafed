//! Questions for addresses, by the tools that ask them: `arping`, `ndisc6`, and what of them
//! arrived.

use std::net::IpAddr;
use std::time::Duration;

use super::netns::Namespace;
use super::packet::PacketSocket;

/// No frame comes for this long: all are here.
const QUIET: Duration = Duration::from_millis(300);

/// EtherTypes.
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
/// ICMPv6 types of neighbour discovery (RFC 4861 s.4).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// What `arping` or `ndisc6` came to.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Whether its exit status is 0.
    pub(crate) succeeded: bool,
    /// How often it was answered.
    pub(crate) answers: usize,
    /// All that it printed.
    pub(crate) text: String,
}

/// Asks for an IPv4 address by `arping` with these options.
pub(crate) fn arping(
    namespace: &Namespace,
    interface: &str,
    address: IpAddr,
    options: &str,
) -> Asked {
    let asked = ask(
        namespace,
        "arping",
        &format!("-I {interface} {options} {address}"),
    );
    let needs = "arping (Debian, Ubuntu: apt install iputils-arping)";
    assert!(asked.text.contains("ARPING"), "{needs}: {}", asked.text);
    Asked {
        answers: asked.text.matches("reply from").count(),
        ..asked
    }
}

/// Asks for an IPv6 address by `ndisc6`; what it prints is the answer's MAC address.
pub(crate) fn ndisc6(namespace: &Namespace, interface: &str, address: IpAddr) -> Asked {
    let asked = ask(
        namespace,
        "ndisc6",
        &format!("-n -q -r 1 {address} {interface}"),
    );
    let known = !asked.text.contains("No such file");
    assert!(known, "ndisc6 (Debian, Ubuntu: apt install ndisc6)");
    Asked {
        answers: asked.text.lines().filter(|line| is_mac(line)).count(),
        ..asked
    }
}

fn ask(namespace: &Namespace, program: &str, arguments: &str) -> Asked {
    let output = namespace.run(program, arguments);
    let text = [output.stdout, output.stderr].concat();
    Asked {
        succeeded: output.status.success(),
        answers: 0,
        text: String::from_utf8_lossy(&text).into_owned(),
    }
}

fn is_mac(text: &str) -> bool {
    text.trim().split(':').count() == 6
}

/// Frames of address resolution, as they came in.
#[derive(Debug)]
pub(crate) struct Resolution(Vec<Vec<u8>>);

impl Resolution {
    /// Of all frames that a socket has: what is not about addresses is left out.
    pub(crate) fn heard(socket: &PacketSocket) -> Self {
        let mut frames = socket.drain(QUIET);
        frames.retain(|frame| is_arp(frame) || nd_type(frame).is_some());
        Self(frames)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// ARP requests that went to nobody but the one who is asked.
    pub(crate) fn unicast_requests(&self) -> usize {
        let is_request = |frame: &Vec<u8>| is_arp(frame) && frame.get(20..22) == Some(&[0, 1]);
        let requests = self.0.iter().filter(|frame| is_request(frame));
        requests.filter(|frame| frame[0] & 1 == 0).count()
    }

    /// Neighbour solicitations that went to nobody but the one who is asked.
    pub(crate) fn unicast_solicitations(&self) -> usize {
        let asked = self.0.iter().filter(|f| nd_type(f) == Some(SOLICITATION));
        asked.filter(|frame| frame[0] & 1 == 0).count()
    }

    /// Flags of the neighbour advertisements: router, solicited, override from the highest bit on.
    pub(crate) fn advertised_flags(&self) -> Vec<u8> {
        let told = self.0.iter().filter(|f| nd_type(f) == Some(ADVERTISEMENT));
        told.filter_map(|frame| frame.get(58).copied()).collect()
    }
}

fn is_arp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ARP)
}

/// The ICMPv6 type of an untagged frame of neighbour discovery, without routers'.
fn nd_type(frame: &[u8]) -> Option<u8> {
    let is_icmpv6 = frame.get(12..14) == Some(&IPV6) && frame.get(20) == Some(&58);
    let kind = frame.get(54).filter(|_| is_icmpv6)?;
    matches!(*kind, SOLICITATION | ADVERTISEMENT).then_some(*kind)
}
