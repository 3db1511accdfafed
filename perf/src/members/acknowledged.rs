//! What a Nucleus acknowledged, held against what it still knows.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use omni_membership::{Binding, PublicKey, Registration};

/// What a record is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum About {
    /// A member.
    Member(PublicKey),
    /// An address.
    Address(IpAddr),
}

/// What a record says of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Said {
    pub(super) owner: PublicKey,
    pub(super) sequence: u64,
    pub(super) withdrawn: bool,
}

/// What is known of everything.
pub(super) type Known = BTreeMap<About, Said>;

/// Something that was acknowledged is not there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Loss {
    about: About,
    acknowledged: Option<Said>,
    found: Option<Said>,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            about,
            acknowledged,
            found,
        } = self;
        write!(
            f,
            "{about:?}: acknowledged {acknowledged:?}, found {found:?}"
        )
    }
}

/// What was asked for, and what of it was acknowledged.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    asked: BTreeMap<About, BTreeMap<u64, Said>>,
    acknowledged: Known,
}

impl Ledger {
    /// Something is about to be asked for.
    pub(super) fn ask(&mut self, about: About, said: Said) {
        self.asked
            .entry(about)
            .or_default()
            .insert(said.sequence, said);
    }

    /// What was asked for under this sequence is acknowledged. A later acknowledgement that came
    /// before this one still counts.
    pub(super) fn acknowledge(&mut self, about: About, sequence: u64) {
        let asked = self.asked.get(&about);
        let Some(said) = asked.and_then(|asked| asked.get(&sequence)).copied() else {
            return;
        };
        let is_newer = |known: &Said| known.sequence < sequence;
        if self.acknowledged.get(&about).is_none_or(is_newer) {
            self.acknowledged.insert(about, said);
        }
    }

    /// Who has an address by what was acknowledged last.
    pub(super) fn owner(&self, ip: IpAddr) -> Option<PublicKey> {
        let said = self.acknowledged.get(&About::Address(ip))?;
        (!said.withdrawn).then_some(said.owner)
    }

    /// How much is acknowledged.
    pub(super) fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// What is wrong with what was found: something acknowledged is not there, or is there as it
    /// was before, or as nobody asked for.
    pub(super) fn losses(&self, found: &Known) -> Vec<Loss> {
        let abouts = self.acknowledged.keys().chain(found.keys());
        let mut abouts: Vec<About> = abouts.copied().collect();
        abouts.sort_unstable();
        abouts.dedup();
        let losses = abouts.into_iter().filter_map(|about| {
            let acknowledged = self.acknowledged.get(&about).copied();
            let found = found.get(&about).copied();
            (!self.is_sound(about, acknowledged, found)).then_some(Loss {
                about,
                acknowledged,
                found,
            })
        });
        losses.collect()
    }

    fn is_sound(&self, about: About, acknowledged: Option<Said>, found: Option<Said>) -> bool {
        let Some(found) = found else {
            return acknowledged.is_none();
        };
        if acknowledged.is_some_and(|said| found.sequence < said.sequence) {
            return false;
        }
        if acknowledged == Some(found) {
            return true;
        }
        let asked = self.asked.get(&about);
        asked.and_then(|asked| asked.get(&found.sequence)) == Some(&found)
    }

    /// What was found is as good as acknowledged from now on: it was told to somebody. What was
    /// asked for before is settled by it.
    pub(super) fn settle(&mut self, found: &Known) {
        for (&about, &said) in found {
            self.acknowledged.insert(about, said);
        }
        self.asked.clear();
    }
}

/// What a signed registration says.
pub(super) fn of_registration(octets: &[u8]) -> Option<(About, Said)> {
    let it = Registration::unverified(octets).ok()?;
    let said = Said {
        owner: it.public_key,
        sequence: it.sequence,
        withdrawn: false,
    };
    Some((About::Member(it.public_key), said))
}

/// What a signed binding of an IP address says.
pub(super) fn of_binding(octets: &[u8]) -> Option<(About, Said)> {
    let it = Binding::unverified(octets).ok()?;
    let said = Said {
        owner: it.public_key,
        sequence: it.sequence,
        withdrawn: it.withdrawn,
    };
    Some((About::Address(it.ip?), said))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: About = About::Address(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

    fn said(owner: u8, sequence: u64) -> Said {
        Said {
            owner: PublicKey([owner; 32]),
            sequence,
            withdrawn: false,
        }
    }

    fn found(said: Said) -> Known {
        [(ADDRESS, said)].into()
    }

    /// Sequences 1 to 5 of node 1 were asked for, and 3 acknowledged.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for sequence in 1..=5 {
            ledger.ask(ADDRESS, said(1, sequence));
        }
        ledger.acknowledge(ADDRESS, 3);
        ledger
    }

    #[test]
    fn what_was_acknowledged_or_asked_for_later_is_no_loss() {
        for sequence in 3..=5 {
            assert_eq!(ledger().losses(&found(said(1, sequence))), []);
        }
    }

    #[test]
    fn what_is_absent_or_older_is_lost() {
        assert_eq!(ledger().losses(&Known::new()).len(), 1);
        assert_eq!(ledger().losses(&found(said(1, 2))).len(), 1);
    }

    #[test]
    fn what_nobody_asked_for_is_no_better_than_lost() {
        assert_eq!(ledger().losses(&found(said(1, 6))).len(), 1, "a sequence");
        assert_eq!(ledger().losses(&found(said(2, 4))).len(), 1, "an owner");
        let withdrawn = Said {
            withdrawn: true,
            ..said(1, 3)
        };
        assert_eq!(ledger().losses(&found(withdrawn)).len(), 1, "withdrawn");
        let nothing = Ledger::default();
        assert_eq!(nothing.losses(&found(said(1, 1))).len(), 1);
    }

    #[test]
    fn answers_may_come_in_any_order() {
        let mut ledger = ledger();
        ledger.acknowledge(ADDRESS, 5);
        ledger.acknowledge(ADDRESS, 4);
        assert_eq!(ledger.losses(&found(said(1, 4))).len(), 1);
        assert_eq!(ledger.losses(&found(said(1, 5))), []);
        ledger.acknowledge(ADDRESS, 9);
        assert_eq!(
            ledger.losses(&found(said(1, 5))),
            [],
            "9 was never asked for"
        );
    }

    #[test]
    fn what_was_told_once_stays() {
        let mut ledger = ledger();
        ledger.settle(&found(said(1, 5)));
        assert_eq!(ledger.owner([10, 0, 0, 1].into()), Some(PublicKey([1; 32])));
        assert_eq!(ledger.losses(&found(said(1, 4))).len(), 1);
        assert_eq!(ledger.losses(&found(said(1, 5))), []);
        assert_eq!(ledger.len(), 1);
    }
}
