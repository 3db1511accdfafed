//! Who may stand at the door: connections whose handshake is not finished.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

/// The most unfinished handshakes of one source: an IPv4 address, or an IPv6 network of 64 bits.
const PER_SOURCE: u32 = 64;

/// The most unfinished handshakes in all.
const IN_ALL: u32 = 1024;

/// Counts unfinished handshakes.
#[derive(Clone, Debug, Default)]
pub(super) struct Door(Rc<RefCell<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    by_source: BTreeMap<IpAddr, u32>,
    count: u32,
}

/// A place at the door, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    door: Door,
    source: IpAddr,
}

impl Door {
    /// A place for a connection; `None` when there is none.
    pub(super) fn enter(&self, source: IpAddr) -> Option<Place> {
        let source = network(source);
        let mut waiting = self.0.borrow_mut();
        let of_it = waiting.by_source.get(&source).copied().unwrap_or(0);
        if waiting.count >= IN_ALL || of_it >= PER_SOURCE {
            return None;
        }
        waiting.count += 1;
        waiting.by_source.insert(source, of_it + 1);
        Some(Place {
            door: self.clone(),
            source,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.door.0.borrow_mut();
        waiting.count -= 1;
        if let Some(count) = waiting.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                waiting.by_source.remove(&self.source);
            }
        }
    }
}

fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let bits = address.to_bits() & !u128::from(u64::MAX);
            Ipv6Addr::from_bits(bits).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_64_places_and_all_have_1024() {
        let door = Door::default();
        let of = |last: u8| (0..100).map(move |_| IpAddr::from([10, 0, 0, last]));
        let places: Vec<_> = of(1).map_while(|source| door.enter(source)).collect();
        assert_eq!(places.len(), 64);
        let others = (2..30).flat_map(of).filter_map(|source| door.enter(source));
        assert_eq!(others.collect::<Vec<_>>().len(), 1024 - 64);
        drop(places);
        assert!(door.enter([10, 0, 0, 1].into()).is_some());
        assert_eq!(door.0.borrow().count, 0, "all places were given back");
        assert!(door.0.borrow().by_source.is_empty());
    }

    #[test]
    fn one_network_of_ipv6_is_one_source() {
        let address = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff:1"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
    }
}
