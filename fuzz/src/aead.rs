//! Messages of any lengths, sealed and opened by every back-end that the CPU is able to: all have
//! to give the same octets, and what was changed has to be refused by all.

use arbitrary::Unstructured;
use omni_aead::{Backend, Key, OpenJob, SealJob, open_batch_with, seal_batch_with};
use omni_wire::limits::{AAD_LEN, HEADER_LEN};

/// Messages of one run.
const MESSAGES_MAX: usize = 20;
/// Octets before a message in its frame: outer headers.
const OUTER: usize = 42;

/// A message to be sealed.
#[derive(Clone, Debug)]
struct Plain {
    key: usize,
    aad: [u8; AAD_LEN],
    octets: Vec<u8>,
    /// Octets between header and plaintext.
    shift: usize,
    /// Which octet of the sealed message is changed, and how; 0 changes nothing.
    change: (usize, u8),
}

/// Runs the target: messages, each by its key, header, length, fill and change.
pub fn run(octets: &[u8]) {
    let mut choices = Unstructured::new(octets);
    let mut messages = Vec::new();
    while messages.len() < MESSAGES_MAX
        && !choices.is_empty()
        && let Ok(message) = plain(&mut choices)
    {
        messages.push(message);
    }
    let keys = [[1; 32], [0xff; 32], [0x80; 32]].map(|octets| Key::new(&octets));
    let backends = Backend::NAMES
        .iter()
        .filter_map(|name| Backend::by_name(name));
    let mut reference = None;
    for backend in backends {
        let sealed = seal(backend, &keys, &messages);
        let opened = open(backend, &keys, &messages, &sealed);
        for ((message, sealed), opened) in messages.iter().zip(&sealed).zip(&opened) {
            let is_changed = message.change.1 != 0;
            assert_eq!(opened.is_some(), !is_changed, "{message:?} {sealed:x?}");
            if let Some(octets) = opened {
                assert_eq!(octets, &message.octets);
            }
        }
        let made = (sealed, opened);
        assert_eq!(reference.get_or_insert_with(|| made.clone()), &made);
    }
}

fn plain(choices: &mut Unstructured<'_>) -> arbitrary::Result<Plain> {
    let len = match choices.arbitrary::<u8>()? {
        len @ 0..=0xbf => usize::from(len),
        long => usize::from(long & 0x3f) * 64 + usize::from(choices.arbitrary::<u8>()?),
    };
    let fill = choices.arbitrary::<u8>()?;
    let mut octets: Vec<u8> = (0..len).map(|n| fill ^ n as u8).collect();
    let given = choices.arbitrary::<u8>()? % 16;
    let given = choices.bytes(usize::from(given).min(choices.len()))?;
    let given = &given[..given.len().min(len)];
    octets[..given.len()].copy_from_slice(given);
    Ok(Plain {
        key: choices.choose_index(3)?,
        aad: choices.arbitrary()?,
        octets,
        shift: choices.int_in_range(0..=80)?,
        change: (choices.arbitrary::<u16>()?.into(), choices.arbitrary()?),
    })
}

fn seal(backend: Backend, keys: &[Key; 3], messages: &[Plain]) -> Vec<Vec<u8>> {
    let mut made: Vec<Vec<u8>> = messages
        .iter()
        .map(|message| {
            let gap = vec![0xa5; HEADER_LEN - AAD_LEN + message.shift];
            [&message.aad[..], &gap, &message.octets].concat()
        })
        .collect();
    let mut jobs: Vec<SealJob<'_>> = made
        .iter_mut()
        .zip(messages)
        .map(|(octets, message)| SealJob {
            key: &keys[message.key],
            message: octets,
            plaintext_offset: HEADER_LEN + message.shift,
        })
        .collect();
    seal_batch_with(backend, &mut jobs);
    for (octets, message) in made.iter_mut().zip(messages) {
        octets.truncate(HEADER_LEN + message.octets.len());
    }
    made
}

fn open(
    backend: Backend,
    keys: &[Key; 3],
    messages: &[Plain],
    sealed: &[Vec<u8>],
) -> Vec<Option<Vec<u8>>> {
    let mut frames: Vec<Vec<u8>> = messages
        .iter()
        .zip(sealed)
        .map(|(message, sealed)| {
            let mut frame = [&[0; OUTER][..], sealed].concat();
            let (at, change) = message.change;
            frame[OUTER + at % sealed.len()] ^= change;
            frame
        })
        .collect();
    let mut jobs: Vec<OpenJob<'_>> = frames
        .iter_mut()
        .zip(messages)
        .map(|(frame, message)| OpenJob {
            key: &keys[message.key],
            frame,
            header_offset: OUTER,
            verified: false,
        })
        .collect();
    open_batch_with(backend, &mut jobs);
    let verified: Vec<bool> = jobs.iter().map(|job| job.verified).collect();
    frames
        .into_iter()
        .zip(verified)
        .map(|(mut frame, verified)| {
            let len = frame.len() - OUTER - HEADER_LEN;
            frame.truncate(len);
            verified.then_some(frame)
        })
        .collect()
}
