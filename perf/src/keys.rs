//! Keys as text: 32 octets in base64, as `omni keygen` and `omni pubkey` print them.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_control::{PrivateKey, PublicKey};

use crate::Failure;

/// A public key from the command line.
pub(crate) fn parse_public(text: &str) -> Result<PublicKey, String> {
    decode(text).map(PublicKey)
}

/// A file of private keys, one a line.
///
/// # Errors
/// When it cannot be read, holds no key, or has a line that is none.
pub(crate) fn read_private(file: &Path) -> Result<Vec<PrivateKey>, Failure> {
    let named = |reason: String| Failure::from(format!("{}: {reason}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    let keys: Result<Vec<_>, _> = text
        .lines()
        .map(|line| decode(line).map(PrivateKey))
        .collect();
    match keys.map_err(named)? {
        keys if keys.is_empty() => Err(named("no keys".to_owned())),
        keys => Ok(keys),
    }
}

fn decode(text: &str) -> Result<[u8; 32], String> {
    let octets = STANDARD.decode(text.trim()).ok();
    octets
        .and_then(|octets| octets.try_into().ok())
        .ok_or_else(|| "not 32 octets in base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_32_octets_in_base64_and_nothing_else_is() {
        let text = PublicKey([7; 32]).to_string();
        assert_eq!(parse_public(&text), Ok(PublicKey([7; 32])));
        for bad in ["", "AAAA", &text[1..], "!"] {
            assert!(parse_public(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_without_keys_is_refused_by_its_name() {
        let refused = read_private(Path::new("/dev/null")).map(|keys| keys.len());
        assert!(refused.is_err_and(|error| error.to_string().starts_with("/dev/null: ")));
    }
}
