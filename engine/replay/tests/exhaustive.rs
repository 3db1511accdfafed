//! A small window in every state, asked for every nonce.

use omni_replay::Window;
use omni_wire::DropReason;

/// Four slots of two nonces.
const SPAN: u64 = 6;
type Toy = Window<4, 2, SPAN>;

/// The nonces that are tried: all of 16 bits.
const NONCES: u64 = 1 << 16;

fn accept(window: &Toy, nonce: u64) -> Result<bool, DropReason> {
    window.check(nonce).and_then(|()| window.commit(nonce))
}

/// What the definition says of a nonce, where `newest` is the newest accepted, and `taken` has a
/// bit for each of the `SPAN` nonces up to it: bit 0 for `newest` itself.
fn defined(newest: u64, taken: u64, nonce: u64) -> Result<bool, DropReason> {
    match newest.checked_sub(nonce) {
        None => Ok(true),
        Some(age) if age >= SPAN => Err(DropReason::NonceTooOld),
        Some(age) if taken >> age & 1 == 1 => Err(DropReason::NonceReplayed),
        Some(_) => Ok(false),
    }
}

#[test]
fn every_state_answers_every_near_nonce_as_defined() {
    for newest in 0..NONCES {
        for others in 0..1u64 << (SPAN - 1) {
            let taken = others << 1 | 1;
            if taken >> 1 >> newest.min(SPAN) != 0 {
                // Nonces below 0 were not accepted.
                continue;
            }
            let state = || {
                let window = Toy::default();
                for age in (0..SPAN).rev().filter(|age| taken >> age & 1 == 1) {
                    assert_eq!(accept(&window, newest - age), Ok(true));
                }
                window
            };
            let window = state();
            for nonce in newest.saturating_sub(3 * SPAN)..newest + 3 * SPAN {
                let expected = defined(newest, taken, nonce);
                assert_eq!(
                    window.check(nonce),
                    expected.map(|_| ()),
                    "{nonce} at {newest}"
                );
                if expected.is_err() {
                    assert_eq!(window.commit(nonce), expected, "{nonce} at {newest}");
                }
            }
            // Each that is free, in the order that differs most from the usual.
            let mut bits = taken;
            for age in (0..SPAN.min(newest + 1)).rev() {
                let expected = defined(newest, bits, newest - age);
                assert_eq!(accept(&window, newest - age), expected);
                bits |= 1 << age;
            }
        }
    }
}

/// One in five comes first: each place in the slots does.
#[test]
fn every_pair_of_nonces_is_answered_as_defined() {
    for first in (0..NONCES).step_by(5) {
        let window = Toy::default();
        assert_eq!(accept(&window, first), Ok(true));
        for second in 0..NONCES {
            let expected = defined(first, 1, second);
            assert!(
                window.check(second) == expected.map(|_| ()),
                "{first}, then {second}"
            );
        }
    }
}

#[test]
fn every_jump_forgets_nothing_that_could_come_back() {
    // From every nonce of three generations, forwards by every distance of 16 bits.
    for first in 0..24 {
        for distance in 1..NONCES - 24 {
            let (window, second) = (Toy::default(), first + distance);
            assert_eq!(accept(&window, first), Ok(true));
            assert_eq!(accept(&window, second), Ok(true));
            let taken = 1 | if distance < SPAN { 1 << distance } else { 0 };
            for nonce in [
                first,
                second,
                first + 1,
                second - 1,
                second.saturating_sub(SPAN),
            ] {
                let mut bits = taken;
                if nonce == second - 1 && nonce == first {
                    bits |= 2;
                }
                assert_eq!(
                    window.check(nonce),
                    defined(second, bits, nonce).map(|_| ()),
                    "{nonce} after {first} and {second}"
                );
            }
        }
    }
}
