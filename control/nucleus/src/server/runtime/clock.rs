//! The clocks and the randomness of the operating system. Nothing else reads them.

pub(super) use omni_control::service::clock::now;
pub(super) use omni_control::service::random::SystemRandom;

use omni_control::Random;
use omni_membership::SymmetricKey;

/// A fresh key.
pub(super) fn fresh_key() -> SymmetricKey {
    let mut key = SymmetricKey([0; 32]);
    SystemRandom.fill(&mut key.0);
    key
}
