//! The messages of a handshake, each of them changed on its way, its mac1 made right again or not:
//! initiation, response, cookie reply. Keys are never agreed on but with the other side, and both
//! find to each other afterwards.

use arbitrary::Unstructured;
use blake2::digest::consts::U16;
use blake2::digest::{KeyInit, Mac, Update};
use blake2::{Blake2s256, Blake2sMac, Digest};
use omni_control::PublicKey;
use omni_wire::handshake::{INITIATION_LEN, MAC_LEN, RESPONSE_LEN};

use crate::pair::{Content, Message, Pair};

/// Changes of one message.
const CHANGES_MAX: usize = 4;
/// Initiations with a valid mac1 that put a node under load, so that it asks for cookies.
const FLOOD: u32 = 530;

/// Runs the target: whether the responder is under load, then changes, message by message.
pub fn run(octets: &[u8]) {
    let mut choices = Unstructured::new(octets);
    let mut pair = Pair::new(false);
    // Seldom, as it costs as much as hundreds of other runs.
    if choices.arbitrary::<u8>().unwrap_or(0) == 0xff {
        flood(&mut pair);
    }
    for _ in 0..12 {
        let Some(message) = pair.under_way.pop_front() else {
            break;
        };
        if let Ok(Some(changed)) = change(&mut pair, &message, &mut choices) {
            pair.deliver(&changed);
        }
        pair.deliver(&message);
        (0..2).for_each(|at| pair.send(at));
    }
    pair.calm();
}

/// The message with some octets changed, or nothing when it is as it was.
fn change(
    pair: &mut Pair,
    message: &Message,
    choices: &mut Unstructured<'_>,
) -> arbitrary::Result<Option<Message>> {
    let Content::Datagram(original) = &message.content else {
        return Ok(None);
    };
    let mut octets = original.clone();
    for _ in 0..choices.int_in_range(0..=CHANGES_MAX)? {
        match choices.int_in_range(0..=5)? {
            0..=2 => {
                let at = choices.choose_index(octets.len().max(1))?;
                if let Some(octet) = octets.get_mut(at) {
                    *octet = choices.arbitrary()?;
                }
            }
            3 => octets.truncate(choices.choose_index(octets.len() + 1)?),
            4 => octets.push(choices.arbitrary()?),
            // A key of low order, or zeros anywhere.
            _ => {
                let at = choices.choose_index(octets.len().max(1))?;
                let end = (at + 32).min(octets.len());
                octets[at.min(end)..end].fill(0);
            }
        }
    }
    if choices.arbitrary()?
        && let Some(receiver) = pair.key_of_receiver(message.destination)
    {
        set_mac1(&mut octets, &receiver);
        pair.forged = true;
    }
    let is_changed = octets != *original;
    let content = Content::Datagram(octets);
    Ok(is_changed.then(|| Message {
        content,
        ..message.clone()
    }))
}

/// Makes mac1 of an initiation or a response right, as anyone can who knows the receiver's key.
fn set_mac1(octets: &mut [u8], receiver: &PublicKey) {
    if ![INITIATION_LEN, RESPONSE_LEN].contains(&octets.len()) {
        return;
    }
    let key = Digest::finalize(Digest::chain_update(
        Blake2s256::new_with_prefix(b"omni-mac1---"),
        receiver.0,
    ));
    let at = octets.len() - 2 * MAC_LEN;
    let mac = <Blake2sMac<U16> as KeyInit>::new_from_slice(&key).expect("32 octets");
    let mac1 = Mac::finalize(Update::chain(mac, &octets[..at])).into_bytes();
    octets[at..at + MAC_LEN].copy_from_slice(&mac1);
}

/// Puts the second node under load: keys of low order with a valid mac1.
fn flood(pair: &mut Pair) {
    let Some(message) = pair.under_way.front().cloned() else {
        return;
    };
    let Content::Datagram(original) = &message.content else {
        return;
    };
    let Some(receiver) = pair.key_of_receiver(message.destination) else {
        return;
    };
    for number in 0..FLOOD {
        let mut octets = original.clone();
        octets[8..12].copy_from_slice(&number.to_be_bytes());
        octets[12..44].fill(0);
        set_mac1(&mut octets, &receiver);
        let mut junk = message.clone();
        junk.source.set_port(7);
        junk.content = Content::Datagram(octets);
        pair.deliver(&junk);
        // Only the load is of interest, not the answers.
        pair.under_way.truncate(1);
    }
}
