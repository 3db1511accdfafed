//! Records as text files.
//!
//! ```text
//! -----BEGIN OMNI CERTIFICATE-----
//! base64 (RFC 4648 s.4), 64 characters a line
//! -----END OMNI CERTIFICATE-----
//! ```
//!
//! The form is that of RFC 7468 with other labels. Lines end with LF or CR LF, and blanks around
//! them do not matter; nothing may come before or after.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::record::{Kind, MAX_RECORD_LEN};

/// Characters of base64 a line, as RFC 7468 s.2 has it.
const LINE: usize = 64;

/// The longest text that is taken, in octets: a record of [`MAX_RECORD_LEN`] with room for blanks.
pub const MAX_TEXT_LEN: usize = 2 * MAX_RECORD_LEN;

/// Why a text is not a record in armour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ArmourError {
    /// Longer than [`MAX_TEXT_LEN`].
    #[error("holds more than {MAX_TEXT_LEN} octets")]
    TooLong,
    /// The first line is another, or none of the kinds that travel as text.
    #[error(
        "does not begin with -----BEGIN OMNI CERTIFICATE----- or -----BEGIN OMNI REVOCATION-----"
    )]
    NoBegin,
    /// The last line is another.
    #[error("does not end with the -----END----- line of its kind: it may be cut off")]
    NoEnd,
    /// What is between them is something else.
    #[error("holds something else than base64 between its first and last line")]
    NotBase64,
    /// It is another kind of record.
    #[error("holds a {found}, not a {wanted}")]
    OtherKind {
        /// What it is.
        found: Kind,
        /// What was asked for.
        wanted: Kind,
    },
}

/// The record's octets as text, with a newline at the end.
#[must_use]
pub fn encode(kind: Kind, octets: &[u8]) -> String {
    let label = kind.as_str().to_ascii_uppercase();
    let base64 = STANDARD.encode(octets);
    let mut text = format!("-----BEGIN OMNI {label}-----\n");
    for (at, c) in base64.chars().enumerate() {
        if at > 0 && at % LINE == 0 {
            text.push('\n');
        }
        text.push(c);
    }
    text + &format!("\n-----END OMNI {label}-----\n")
}

/// The kind and the octets of a certificate or revocation in a text. Nothing is verified.
///
/// # Errors
/// See [`ArmourError`].
pub fn decode(text: &[u8]) -> Result<(Kind, Vec<u8>), ArmourError> {
    if text.len() > MAX_TEXT_LEN {
        return Err(ArmourError::TooLong);
    }
    let mut lines = text.trim_ascii().split(|&octet| octet == b'\n');
    let mut next = || lines.next().map(<[u8]>::trim_ascii);
    let kind = next().and_then(begun).ok_or(ArmourError::NoBegin)?;
    let end = format!("-----END OMNI {}-----", kind.as_str().to_ascii_uppercase());
    let mut base64 = Vec::new();
    loop {
        match next() {
            None => return Err(ArmourError::NoEnd),
            Some(line) if line == end.as_bytes() => break,
            Some(line) => base64.extend_from_slice(line),
        }
    }
    match next() {
        Some(_) => Err(ArmourError::NoEnd),
        None => {
            let octets = STANDARD.decode(base64);
            Ok((kind, octets.map_err(|_| ArmourError::NotBase64)?))
        }
    }
}

/// As [`decode`], of a text that must hold this kind: such as a node's `certificate_file`.
///
/// # Errors
/// See [`ArmourError`].
pub fn decode_kind(text: &[u8], wanted: Kind) -> Result<Vec<u8>, ArmourError> {
    match decode(text)? {
        (kind, octets) if kind == wanted => Ok(octets),
        (found, _) => Err(ArmourError::OtherKind { found, wanted }),
    }
}

/// The kind that a first line announces.
fn begun(line: &[u8]) -> Option<Kind> {
    match line {
        b"-----BEGIN OMNI CERTIFICATE-----" => Some(Kind::Certificate),
        b"-----BEGIN OMNI REVOCATION-----" => Some(Kind::Revocation),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_reads_back_with_blanks_and_either_end_of_line() {
        for len in [0, 1, 47, 48, 49, 1000] {
            let octets: Vec<u8> = (0..len).map(|n| n as u8).collect();
            for kind in [Kind::Certificate, Kind::Revocation] {
                let text = encode(kind, &octets);
                assert!(text.lines().all(|line| line.len() <= LINE), "{text}");
                let windows = format!("\r\n  {}\r\n ", text.replace('\n', "\r\n"));
                assert_eq!(decode(text.as_bytes()), Ok((kind, octets.clone())));
                assert_eq!(decode(windows.as_bytes()), Ok((kind, octets.clone())));
            }
        }
    }

    #[test]
    fn a_text_of_another_form_is_refused_and_says_why() {
        let good = encode(Kind::Certificate, &[7; 60]);
        let cases = [
            (String::new(), ArmourError::NoBegin),
            (good.replace("BEGIN", "BEGINN"), ArmourError::NoBegin),
            (good.replace("CERTIFICATE", "BINDING"), ArmourError::NoBegin),
            (format!("x\n{good}"), ArmourError::NoBegin),
            (format!("{good}x\n"), ArmourError::NoEnd),
            (good.replace("END OMNI C", "END OMNI R"), ArmourError::NoEnd),
            (good[..60].to_owned(), ArmourError::NoEnd),
            (good.replace("Bwc", "B*c"), ArmourError::NotBase64),
            ("x".repeat(MAX_TEXT_LEN + 1), ArmourError::TooLong),
        ];
        for (text, why) in cases {
            assert_eq!(decode(text.as_bytes()), Err(why), "{text:.80}");
        }
    }

    #[test]
    fn a_certificate_is_no_revocation() {
        let text = encode(Kind::Certificate, &[1]);
        assert_eq!(
            decode_kind(text.as_bytes(), Kind::Revocation),
            Err(ArmourError::OtherKind {
                found: Kind::Certificate,
                wanted: Kind::Revocation
            })
        );
        assert_eq!(decode_kind(text.as_bytes(), Kind::Certificate), Ok(vec![1]));
    }

    #[test]
    fn the_longest_record_fits() {
        let octets = vec![0xff; MAX_RECORD_LEN];
        let text = encode(Kind::Revocation, &octets);
        assert_eq!(decode(text.as_bytes()), Ok((Kind::Revocation, octets)));
    }
}
