//! mac1, mac2 and cookies: what a handshake message must show before it costs us anything.
//!
//! mac1 proves that the sender knows whom it speaks to. It is checked before any public-key
//! operation. mac2 proves that the sender receives at the address it claims: its key is a cookie
//! that only that address was sent. It is asked for under load.

use core::net::{IpAddr, SocketAddr};

use blake2::digest::consts::U16;
use blake2::digest::{Mac as _, Update as _};
use blake2::{Blake2s256, Blake2sMac, Digest as _};
use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{Key, Tag, XChaCha20Poly1305, XNonce};
use omni_wire::Instant;
use omni_wire::handshake::{COOKIE_LEN, COOKIE_NONCE_LEN, MAC_LEN, SEALED_COOKIE_LEN};
use omni_wire::limits::COOKIE_LIFETIME;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::random::{self, Random};
use omni_membership::{PublicKey, SymmetricKey};

/// mac1 or mac2.
pub(crate) type Mac = [u8; MAC_LEN];

/// What proves that someone receives at an address.
type Cookie = [u8; COOKIE_LEN];

const MAC1_LABEL: &[u8] = b"omni-mac1---";
const COOKIE_LABEL: &[u8] = b"omni-cookie-";

/// Keyed BLAKE2s with 16 octets of output (RFC 7693 s.2.9).
fn keyed<const N: usize>(key: &[u8; N]) -> Blake2sMac<U16> {
    const { assert!(N <= 32, "BLAKE2s keys have at most 32 octets") };
    <Blake2sMac<U16> as KeyInit>::new_from_slice(key)
        .expect("the length was checked when this was compiled")
}

fn labelled(label: &[u8], key: &PublicKey) -> [u8; 32] {
    Blake2s256::new()
        .chain(label)
        .chain(key.0)
        .finalize()
        .into()
}

/// What is derived from the public key of a message's receiver.
#[derive(Clone)]
pub(crate) struct ReceiverKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl ReceiverKeys {
    /// The keys for messages to `receiver`. They are no secrets: its public key is none.
    pub(crate) fn new(receiver: &PublicKey) -> Self {
        Self {
            mac1: labelled(MAC1_LABEL, receiver),
            cookie: labelled(COOKIE_LABEL, receiver),
        }
    }

    /// mac1 over all octets before it.
    pub(crate) fn mac1(&self, covered: &[u8]) -> Mac {
        keyed(&self.mac1)
            .chain(covered)
            .finalize()
            .into_bytes()
            .into()
    }

    /// Whether `mac1` is right, in constant time.
    pub(crate) fn verify_mac1(&self, covered: &[u8], mac1: &Mac) -> bool {
        keyed(&self.mac1).chain(covered).verify_slice(mac1).is_ok()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(Key::from_slice(&self.cookie))
    }
}

/// The receiver's side: makes cookies, and knows its own again.
///
/// Cookies made by the last secret but one are accepted too. Otherwise one that is sent just
/// before the secret changes would be worthless when it comes back.
pub(crate) struct CookieChecker {
    keys: ReceiverKeys,
    secret: SymmetricKey,
    previous: Option<SymmetricKey>,
    changed_at: Instant,
}

impl CookieChecker {
    pub(crate) fn new(ours: &PublicKey, rng: &mut dyn Random, now: Instant) -> Self {
        let secret = random::key(rng);
        Self {
            keys: ReceiverKeys::new(ours),
            secret,
            previous: None,
            changed_at: now,
        }
    }

    /// Whether a message to us shows the right mac1.
    pub(crate) fn verify_mac1(&self, covered: &[u8], mac1: &Mac) -> bool {
        self.keys.verify_mac1(covered, mac1)
    }

    /// Changes the secret when it is due. To be called before cookies are checked or made.
    pub(crate) fn rotate(&mut self, rng: &mut dyn Random, now: Instant) {
        let age = now.since(self.changed_at);
        if age < COOKIE_LIFETIME {
            return;
        }
        let retired = core::mem::replace(&mut self.secret, random::key(rng));
        self.previous = (age < COOKIE_LIFETIME * 2).then_some(retired);
        self.changed_at = now;
    }

    /// Whether mac2 was made with a cookie that we sent to `source` not long ago.
    pub(crate) fn verify_mac2(&self, source: SocketAddr, covered: &[u8], mac2: &Mac) -> bool {
        let verifies = |secret| {
            let cookie = cookie(secret, source);
            keyed(&cookie).chain(covered).verify_slice(mac2).is_ok()
        };
        verifies(&self.secret) || self.previous.as_ref().is_some_and(verifies)
    }

    /// The nonce and the sealed cookie for a reply to `source`, bound to the message that it
    /// answers by that message's mac1.
    pub(crate) fn seal_cookie(
        &self,
        source: SocketAddr,
        mac1: &Mac,
        rng: &mut dyn Random,
    ) -> ([u8; COOKIE_NONCE_LEN], [u8; SEALED_COOKIE_LEN]) {
        let mut nonce = [0; COOKIE_NONCE_LEN];
        rng.fill(&mut nonce);
        let mut sealed = [0; SEALED_COOKIE_LEN];
        let (text, rest) = sealed.split_at_mut(COOKIE_LEN);
        text.copy_from_slice(&cookie(&self.secret, source));
        let tag = self
            .keys
            .cipher()
            .encrypt_in_place_detached(XNonce::from_slice(&nonce), mac1, text)
            .expect("a cookie is far below the cipher's limit of 256 GiB");
        rest.copy_from_slice(&tag);
        (nonce, sealed)
    }
}

/// The cookie of `source`: what only someone who receives there can know.
fn cookie(secret: &SymmetricKey, source: SocketAddr) -> Cookie {
    let mac = keyed(&secret.0);
    // The same host may reach us as IPv4 or, on a socket of both families, mapped into IPv6.
    let mac = match source.ip().to_canonical() {
        IpAddr::V4(address) => mac.chain(address.octets()),
        IpAddr::V6(address) => mac.chain(address.octets()),
    };
    mac.chain(source.port().to_be_bytes())
        .finalize()
        .into_bytes()
        .into()
}

/// A cookie that a peer sent us.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct ReceivedCookie {
    cookie: Cookie,
    #[zeroize(skip)]
    at: Instant,
}

/// The sender's side, one per peer: puts the macs on what we send it, and keeps its cookie.
pub(crate) struct CookieKeeper {
    keys: ReceiverKeys,
    cookie: Option<ReceivedCookie>,
    /// Of the last message we sent; `None` once it was answered by a cookie.
    last_mac1: Option<Mac>,
}

impl CookieKeeper {
    pub(crate) fn new(peer: &PublicKey) -> Self {
        Self {
            keys: ReceiverKeys::new(peer),
            cookie: None,
            last_mac1: None,
        }
    }

    /// mac1 of a message to the peer, remembered: a cookie reply will be bound to it.
    pub(crate) fn mac1(&mut self, covered: &[u8]) -> Mac {
        let mac1 = self.keys.mac1(covered);
        self.last_mac1 = Some(mac1);
        mac1
    }

    /// mac2 of a message to the peer: zeros unless it sent us a cookie that is still young.
    pub(crate) fn mac2(&self, covered: &[u8], now: Instant) -> Mac {
        self.cookie
            .as_ref()
            .filter(|received| now.since(received.at) < COOKIE_LIFETIME)
            .map_or([0; MAC_LEN], |received| {
                keyed(&received.cookie)
                    .chain(covered)
                    .finalize()
                    .into_bytes()
                    .into()
            })
    }

    /// Whether a message of ours is still without an answer, so that a cookie may be one.
    pub(crate) const fn awaits_cookie(&self) -> bool {
        self.last_mac1.is_some()
    }

    /// Opens a cookie reply. False, and nothing changes, when it does not verify.
    pub(crate) fn consume(
        &mut self,
        nonce: &[u8; COOKIE_NONCE_LEN],
        sealed: &[u8; SEALED_COOKIE_LEN],
        now: Instant,
    ) -> bool {
        let Some(mac1) = self.last_mac1 else {
            return false;
        };
        let Some((sealed, tag)) = sealed.split_first_chunk::<COOKIE_LEN>() else {
            return false;
        };
        let mut received = ReceivedCookie {
            cookie: *sealed,
            at: now,
        };
        let opened = self.keys.cipher().decrypt_in_place_detached(
            XNonce::from_slice(nonce),
            &mac1,
            &mut received.cookie,
            Tag::from_slice(tag),
        );
        if opened.is_err() {
            return false;
        }
        self.cookie = Some(received);
        self.last_mac1 = None;
        true
    }

    /// Forgets the cookie.
    pub(crate) fn erase(&mut self) {
        self.cookie = None;
        self.last_mac1 = None;
    }
}

#[cfg(test)]
mod tests;
