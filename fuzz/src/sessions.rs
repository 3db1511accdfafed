//! Two nodes over a network that loses, repeats, delays and makes up messages, that move, restart
//! and are configured anew. In the end, when all is calm, each hears the other.

use std::time::Duration;

use arbitrary::Unstructured;
use omni_control::SymmetricKey;

use crate::pair::{Content, Message, Pair};

/// Steps of one run.
const STEPS_MAX: usize = 60;
/// How far a wall clock may be from the true time, in seconds: both sides tolerate a day.
const CLOCK_OFF_MAX: i64 = 6 * 60 * 60;

/// Runs the target: a sequence of what happens.
pub fn run(octets: &[u8]) {
    let mut choices = Unstructured::new(octets);
    let both_know = choices.arbitrary().unwrap_or(true);
    let mut pair = Pair::new(both_know);
    for _ in 0..STEPS_MAX {
        if choices.is_empty() || step(&mut pair, &mut choices).is_err() {
            break;
        }
    }
    pair.calm();
}

/// One of the messages under way, or of those that were recorded.
fn pick(length: usize, choices: &mut Unstructured<'_>) -> arbitrary::Result<Option<usize>> {
    if length == 0 {
        return Ok(None);
    }
    choices.choose_index(length).map(Some)
}

fn step(pair: &mut Pair, choices: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let at = usize::from(choices.arbitrary::<bool>()?);
    match choices.int_in_range(0..=15)? {
        // Arrives in order.
        0..=4 => {
            if let Some(message) = pair.under_way.pop_front() {
                pair.deliver(&message);
            }
        }
        // Arrives out of order.
        5 => {
            if let Some(n) = pick(pair.under_way.len(), choices)?
                && let Some(message) = pair.under_way.remove(n)
            {
                pair.deliver(&message);
            }
        }
        // Is lost.
        6 => {
            if let Some(n) = pick(pair.under_way.len(), choices)? {
                pair.under_way.remove(n);
            }
        }
        // Arrives again, maybe from elsewhere.
        7 => {
            if let Some(n) = pick(pair.recorded.len(), choices)? {
                let mut message = pair.recorded[n].clone();
                if choices.arbitrary()? {
                    message.source.set_port(choices.int_in_range(1..=9)?);
                }
                pair.deliver(&message);
            }
        }
        // Arrives changed.
        8 => {
            if let Some(n) = pick(pair.recorded.len(), choices)? {
                let mut message = pair.recorded[n].clone();
                change(&mut message, choices)?;
                pair.deliver(&message);
            }
        }
        9 => pair.send(at),
        10 => pair.advance(pair.until_due()),
        11 => pair.advance(Duration::from_millis(choices.arbitrary::<u16>()?.into())),
        12 => {
            let seconds = choices.int_in_range(1..=600)?;
            // In steps, as a runtime would wake.
            for _ in 0..seconds / 10 {
                pair.advance(Duration::from_secs(10));
            }
        }
        13 => pair.roam(at, choices.arbitrary()?),
        14 => match choices.int_in_range(0..=2)? {
            0 => pair.start(at, choices.arbitrary()?),
            1 => {
                let ahead = choices.int_in_range(-CLOCK_OFF_MAX..=CLOCK_OFF_MAX)?;
                pair.nodes[at].clock_ahead = ahead;
            }
            _ => pair.under_way.clear(),
        },
        _ => {
            let there = pair.nodes[1 - at].address;
            let secret = choices
                .arbitrary::<bool>()?
                .then_some(SymmetricKey([9; 32]));
            pair.reload(at, there, secret);
        }
    }
    Ok(())
}

fn change(message: &mut Message, choices: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    match &mut message.content {
        Content::Datagram(octets) => {
            if let Some(n) = pick(octets.len(), choices)? {
                octets[n] ^= choices.int_in_range(1..=255)?;
            }
        }
        Content::Data(session_id, _) => *session_id ^= choices.arbitrary::<u32>()?,
    }
    Ok(())
}
