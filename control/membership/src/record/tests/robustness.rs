//! Whatever arrives: no panic, and only what was signed verifies.

use super::*;

/// A small generator (xorshift64*), so that every run tries the same records.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    /// One to four octets changed, inserted, taken out, repeated or cut off.
    fn mutate(&mut self, octets: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(octets.len().max(1));
            match self.below(6) {
                0 => octets.insert(at.min(octets.len()), self.below(256) as u8),
                1 => octets.truncate(at),
                2 if !octets.is_empty() => drop(octets.remove(at)),
                3 => octets.extend_from_within(at..),
                _ if !octets.is_empty() => octets[at] = self.below(256) as u8,
                _ => octets.push(0),
            }
        }
    }
}

/// Reads octets as a kind, the signature left aside. Says whether they are one.
fn reads(kind: Kind, octets: &[u8]) -> bool {
    match kind {
        Kind::Certificate => Certificate::unverified(octets).is_ok(),
        Kind::Revocation => Revocation::unverified(octets).is_ok(),
        Kind::Registration => Registration::unverified(octets).is_ok(),
        Kind::Binding => Binding::unverified(octets).is_ok(),
    }
}

#[test]
fn a_million_mutated_records_make_nothing_panic() {
    let samples = samples();
    let mut numbers = Numbers(0x1234_5678_9abc_def0);
    let mut counts = [0_u32; 2];
    let mut octets = Vec::new();
    for round in 0..1_000_000 {
        let (kind, good) = &samples[round % 4];
        octets.clear();
        match round % 8 {
            // The whole record, or its body alone with everything around it in order.
            0..4 => {
                octets.extend_from_slice(good);
                numbers.mutate(&mut octets);
            }
            _ => {
                let mut body = message::Signed::decode(&good[..]).unwrap().body;
                numbers.mutate(&mut body);
                octets = encode(body, &[7; 64]);
            }
        }
        counts[usize::from(reads(*kind, &octets))] += 1;
    }
    assert!(counts.iter().all(|&count| count > 50_000), "{counts:?}");
}

#[test]
fn mutated_records_verify_only_where_what_is_signed_is_the_same() {
    let samples = samples();
    let mut numbers = Numbers(0x0fed_cba9_8765_4321);
    for round in 0..10_000 {
        let (kind, good) = &samples[round % 4];
        let mut octets = good.clone();
        numbers.mutate(&mut octets);
        if let Ok(passed_on) = verify(*kind, &octets, &fabric()) {
            assert_eq!(passed_on, *good, "{octets:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_octets_are_a_record_or_an_error(
        octets in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        for (kind, _) in samples() {
            prop_assert!(verify(kind, &octets, &fabric()).is_err());
            reads(kind, &encode(octets.clone(), &[0; 64]));
        }
    }

    #[test]
    fn what_reads_is_signed_to_the_same_value(
        n in 0..4_usize,
        at in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let (kind, good) = &samples()[n];
        let mut body = message::Signed::decode(&good[..]).unwrap().body;
        let at = at.index(body.len());
        body[at] = octet;
        let octets = encode(body, &[0; 64]);
        match kind {
            Kind::Certificate => if let Ok(value) = Certificate::unverified(&octets) {
                let again = value.sign(&fabric(), &authority()).map(Signed::into_value);
                prop_assert_eq!(again, Ok(value));
            },
            Kind::Revocation => if let Ok(value) = Revocation::unverified(&octets) {
                let again = value.sign(&fabric(), &authority()).map(Signed::into_value);
                prop_assert_eq!(again, Ok(value));
            },
            Kind::Registration => if let Ok(mut value) = Registration::unverified(&octets) {
                value.public_key = node();
                let again = value.sign(&fabric(), &private()).map(Signed::into_value);
                prop_assert_eq!(again, Ok(value));
            },
            Kind::Binding => if let Ok(mut value) = Binding::unverified(&octets) {
                value.public_key = node();
                let again = value.sign(&fabric(), &private()).map(Signed::into_value);
                prop_assert_eq!(again, Ok(value));
            },
        }
    }
}
