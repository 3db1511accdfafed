//! Other implementations, to be measured beside ours: WireGuard's in user space, which take IP
//! packets where we take frames, and do about as much with them. They are built in with the
//! feature `peers` only.

#[cfg(feature = "peers")]
mod boringtun;
#[cfg(feature = "peers")]
mod gotatun;

use std::time::Duration;

use crate::Failure;
use crate::counters::Meter;

/// Two ends of a tunnel in memory, with a session between them. A round is all packets once, in
/// the manner in which the implementation is meant to be called: one by one.
pub(crate) trait Tunnel {
    /// Whose it is.
    fn name(&self) -> &'static str;

    /// A round of packets to messages, as measured by `meter`.
    fn encapsulate(&mut self, meter: &mut Meter) -> Result<(u32, Duration), Failure>;

    /// A round of messages to packets: those of the last round of the other sort.
    fn decapsulate(&mut self, meter: &mut Meter) -> Result<(u32, Duration), Failure>;
}

/// All that are built in, for packets of so many octets.
pub(crate) fn all(octets: usize, packets: usize) -> Result<Vec<Box<dyn Tunnel>>, Failure> {
    #[cfg(feature = "peers")]
    return Ok(vec![
        Box::new(boringtun::Pair::new(octets, packets)?),
        Box::new(gotatun::Pair::new(octets, packets)?),
    ]);
    #[cfg(not(feature = "peers"))]
    {
        let _ = (octets, packets);
        Ok(Vec::new())
    }
}

/// An IPv4 packet of so many octets.
#[cfg(feature = "peers")]
fn packet(octets: usize) -> Result<Vec<u8>, Failure> {
    use std::net::Ipv4Addr;

    use omni_wire::ip::{Ipv4, PROTOCOL_UDP};

    let ip = Ipv4 {
        source: Ipv4Addr::new(10, 7, 0, 1),
        destination: Ipv4Addr::new(10, 7, 0, 2),
        protocol: PROTOCOL_UDP,
        ttl: 64,
        dont_fragment: true,
        fragment: false,
        header_len: 20,
        total_len: octets,
    };
    let mut packet = ip.emit().to_vec();
    if packet.len() > octets {
        return Err("a packet is longer".into());
    }
    packet.resize(octets, 0x5a);
    Ok(packet)
}

#[cfg(all(test, feature = "peers"))]
mod tests {
    use super::*;

    #[test]
    fn packets_go_through_both() {
        for octets in [64, 1420, 8900] {
            for mut tunnel in all(octets, 100).expect("sessions") {
                let mut meter = Meter::new();
                for _ in 0..3 {
                    let sealed = tunnel.encapsulate(&mut meter).expect("a session");
                    let opened = tunnel.decapsulate(&mut meter).expect("sealed before");
                    assert_eq!((sealed.0, opened.0), (100, 100), "{}", tunnel.name());
                }
                assert!(tunnel.decapsulate(&mut meter).is_err(), "received before");
            }
        }
    }
}
