//! Which keys of etcd are ours.
//!
//! ```text
//! /omni/<fabric>/item/<key>            an item
//! /omni/<fabric>/meta/beat/<lease>     put every few seconds, so that a dead watch is noticed
//! /omni/<fabric>/meta/deletion         put with every delete: what is deleted without it expired
//! /omni/<fabric>/meta/incarnation      16 random octets: which life of the store this is
//! /omni/<fabric>/meta/writer/<lease>   put again when a commit of that server has to be stopped
//! ```

/// The keys of one fabric.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Vec<u8>,
}

impl Keys {
    /// Octets of the name that have a meaning in a key are written as `%2F`.
    pub(super) fn new(fabric: &str) -> Self {
        let mut prefix = b"/omni/".to_vec();
        for octet in fabric.bytes() {
            if octet.is_ascii_alphanumeric() || b"._-".contains(&octet) {
                prefix.push(octet);
            } else {
                prefix.extend(format!("%{octet:02X}").into_bytes());
            }
        }
        prefix.push(b'/');
        Self { prefix }
    }

    /// What all of them begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The first key behind them.
    pub(super) fn end(&self) -> Vec<u8> {
        let mut end = self.prefix.clone();
        end.pop();
        end.push(b'/' + 1);
        end
    }

    pub(super) fn item(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, b"item/".as_slice(), key].concat()
    }

    /// The item's key, when it is one.
    pub(super) fn item_key<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        key.strip_prefix(self.prefix.as_slice())?
            .strip_prefix(b"item/")
    }

    pub(super) fn beat(&self, lease: i64) -> Vec<u8> {
        self.meta(&format!("beat/{lease:x}"))
    }

    pub(super) fn writer(&self, lease: i64) -> Vec<u8> {
        self.meta(&format!("writer/{lease:x}"))
    }

    pub(super) fn deletion(&self) -> Vec<u8> {
        self.meta("deletion")
    }

    pub(super) fn incarnation(&self) -> Vec<u8> {
        self.meta("incarnation")
    }

    fn meta(&self, name: &str) -> Vec<u8> {
        [&self.prefix, b"meta/".as_slice(), name.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fabric_has_a_key_of_another() {
        let names = ["a", "a/item", "a%2Fitem", "b", "ä", "a."];
        for name in names {
            for other in names.iter().filter(|other| **other != name) {
                let key = Keys::new(other).item(b"x");
                let keys = Keys::new(name);
                assert!(!key.starts_with(keys.prefix()), "{name} {other}");
                assert!(keys.item_key(&key).is_none());
            }
        }
    }

    #[test]
    fn every_key_is_between_the_prefix_and_the_end() {
        let keys = Keys::new("home");
        for key in [
            keys.item(&[0]),
            keys.item(&[0xff; 9]),
            keys.beat(-1),
            keys.writer(-1),
            keys.deletion(),
            keys.incarnation(),
        ] {
            assert!(key.as_slice() > keys.prefix() && key < keys.end());
        }
        assert_eq!(keys.item_key(&keys.item(b"k/1")), Some(b"k/1".as_slice()));
    }
}
