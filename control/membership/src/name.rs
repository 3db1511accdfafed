//! Names of fabrics and nodes, by the rules of `fabric.yaml`.

use core::fmt;

/// The longest name of a fabric in octets, and of a node in characters.
const MAX_NAME: usize = 64;

/// The name of a fabric: 1..=64 octets of UTF-8. Every signature covers it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FabricName(String);

/// A text that names no fabric.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a fabric's name of {len} octets, allowed are 1..=64")]
pub struct FabricNameError {
    /// How many octets the text has.
    pub len: usize,
}

impl FabricName {
    /// Takes a name of 1..=64 octets.
    ///
    /// # Errors
    /// A text that is empty or longer.
    pub fn new(name: impl Into<String>) -> Result<Self, FabricNameError> {
        let name = name.into();
        match name.len() {
            1..=MAX_NAME => Ok(Self(name)),
            len => Err(FabricNameError { len }),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FabricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Whether a text may name a node: 1..=64 of `A-Z a-z 0-9 . _ -`.
pub(crate) fn is_node_name(text: &str) -> bool {
    let is_name_char = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(is_name_char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fabrics_name_has_1_to_64_octets() {
        assert_eq!(FabricName::new(""), Err(FabricNameError { len: 0 }));
        assert_eq!(
            FabricName::new("é".repeat(33)),
            Err(FabricNameError { len: 66 })
        );
        assert_eq!(
            FabricName::new("é".repeat(32)).map(|name| name.as_str().len()),
            Ok(64)
        );
    }

    #[test]
    fn a_nodes_name_is_one_word_of_plain_characters() {
        assert!(is_node_name("alpha-1.rack_B") && is_node_name(&"x".repeat(64)));
        for bad in ["", "a b", "é", "a/b", "a\n", &"x".repeat(65)] {
            assert!(!is_node_name(bad), "{bad:?}");
        }
    }
}
