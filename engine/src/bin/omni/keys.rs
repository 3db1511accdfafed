//! Keys: made, and turned from private to public.
//!
//! Secrets live in memory that is wiped, and pass standard input and output unbuffered: the
//! buffers of the standard library would keep a copy.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use omni_control::{PrivateKey, PublicKey};
use thiserror::Error;
use zeroize::Zeroizing;

/// The length of a key in base64 with padding (RFC 4648 s.4).
pub(crate) const TEXT_LEN: usize = 44;
/// The most that is read for a key, blanks around it included.
const INPUT_MAX: usize = 4096;

/// What can go wrong with keys. No text repeats what was read: it may be a secret.
#[derive(Debug, Error)]
pub(crate) enum KeyError {
    /// The kernel gave none.
    #[error("cannot get random octets: {0}")]
    Random(getrandom::Error),
    /// What was read is something else.
    #[error(
        "standard input holds no private key: expected are 32 octets in base64 (44 characters), \
         as `omni keygen` prints them"
    )]
    NoKey,
    /// A key that the engine refuses, too.
    #[error("standard input holds 32 zero octets, which is no key")]
    Zero,
    /// Reading failed.
    #[error("cannot read standard input: {0}")]
    Input(io::Error),
    /// Writing failed.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// A new private key.
pub(crate) fn new_private() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    Ok(clamped(random()?))
}

/// Prints a new private key.
pub(crate) fn keygen() -> Result<(), KeyError> {
    let octets = new_private()?;
    print_secret(&octets)
}

/// Prints a new preshared key.
pub(crate) fn genpsk() -> Result<(), KeyError> {
    let octets = random()?;
    print_secret(&octets)
}

/// Prints the public key of the private key on standard input.
pub(crate) fn pubkey() -> Result<(), KeyError> {
    let input = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(KeyError::Input)?;
    let private = read_private(File::from(input))?;
    let mut line = PublicKey::from_private(&private).to_string();
    line.push('\n');
    standard_output()?
        .write_all(line.as_bytes())
        .map_err(KeyError::Output)
}

/// 32 octets that nobody can guess.
pub(crate) fn random() -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let mut octets = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *octets).map_err(KeyError::Random)?;
    Ok(octets)
}

/// Sets the bits that X25519 sets before use (RFC 7748 s.5), so that a key is one number only.
fn clamped(mut octets: Zeroizing<[u8; 32]>) -> Zeroizing<[u8; 32]> {
    octets[0] &= 0b1111_1000;
    octets[31] = octets[31] & 0b0111_1111 | 0b0100_0000;
    octets
}

fn read_private(input: impl Read) -> Result<PrivateKey, KeyError> {
    // Room for everything from the start: growing would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(INPUT_MAX + 64));
    input
        .take(INPUT_MAX as u64 + 1)
        .read_to_end(&mut text)
        .map_err(KeyError::Input)?;
    if text.len() > INPUT_MAX {
        return Err(KeyError::NoKey);
    }
    decode(text.trim_ascii())
}

fn decode(text: &[u8]) -> Result<PrivateKey, KeyError> {
    // 44 characters stand for 31 to 33 octets; the room is what the decoder may ask for.
    let mut room = Zeroizing::new([0; 36]);
    if text.len() != TEXT_LEN || STANDARD.decode_slice(text, &mut room[..]) != Ok(32) {
        return Err(KeyError::NoKey);
    }
    let mut private = PrivateKey([0; 32]);
    private.0.copy_from_slice(&room[..32]);
    match private.0.iter().all(|&octet| octet == 0) {
        true => Err(KeyError::Zero),
        false => Ok(private),
    }
}

fn print_secret(octets: &[u8; 32]) -> Result<(), KeyError> {
    let mut output = standard_output()?;
    if let Some(mode) = open_to_others(&output) {
        eprintln!(
            "omni: warning: this key goes into a file that group or others may use (mode \
             {mode:04o}), and the engine takes no such key file: chmod 600 it, or set umask 077 \
             before"
        );
    }
    output.write_all(&*line(octets)).map_err(KeyError::Output)
}

/// The octets in base64, and a newline.
pub(crate) fn line(octets: &[u8; 32]) -> Zeroizing<[u8; TEXT_LEN + 1]> {
    let mut line = Zeroizing::new([b'\n'; TEXT_LEN + 1]);
    let written = STANDARD.encode_slice(octets, &mut line[..]);
    debug_assert_eq!(written, Ok(TEXT_LEN));
    line
}

/// The mode of a regular file that gives anything to group or others.
fn open_to_others(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let mode = metadata.mode() & 0o7777;
    (metadata.is_file() && mode & 0o077 != 0).then_some(mode)
}

fn standard_output() -> Result<File, KeyError> {
    let output = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(KeyError::Output)?;
    Ok(File::from(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_clamped() {
        for _ in 0..64 {
            let key = clamped(random().unwrap());
            assert_eq!((key[0] & 7, key[31] & 0xc0), (0, 0x40));
        }
        assert_eq!(*clamped(Zeroizing::new([0xff; 32])), {
            let mut want = [0xff; 32];
            (want[0], want[31]) = (0xf8, 0x7f);
            want
        });
    }

    #[test]
    fn a_printed_key_reads_back() {
        let octets: [u8; 32] = std::array::from_fn(|n| n as u8);
        let text = line(&octets);
        assert_eq!(text[TEXT_LEN], b'\n');
        assert_eq!(read_private(&text[..]).unwrap().0, octets);
    }

    #[test]
    fn blanks_around_a_key_do_not_matter() {
        let text = format!("  {}\r\n\n", STANDARD.encode([9; 32]));
        assert_eq!(read_private(text.as_bytes()).unwrap().0, [9; 32]);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = STANDARD.encode([9; 32]);
        let bad = [
            String::new(),
            "\n".to_owned(),
            STANDARD.encode([9; 31]),
            STANDARD.encode([9; 33]),
            good.trim_end_matches('=').to_owned(),
            good.replace('=', ""),
            "09".repeat(32),
            format!("{good}{good}"),
            " ".repeat(INPUT_MAX) + &good,
        ];
        for text in bad {
            let seen = read_private(text.as_bytes());
            assert!(matches!(seen, Err(KeyError::NoKey)), "{text:?}: {seen:?}");
        }
        let zero = STANDARD.encode([0; 32]);
        assert!(matches!(read_private(zero.as_bytes()), Err(KeyError::Zero)));
    }
}
