//! The frames that stations sent, and what became of each.

use crate::frame::{self, Magic};
use crate::report::Violation;

use super::{Checked, Hosts};

/// A frame that a station sent.
#[derive(Debug)]
struct Sent {
    octets: Vec<u8>,
    from: usize,
    /// The host behind which its destination is; `None` when that is everybody.
    to: Option<usize>,
    /// Hosts that the sender's tables named.
    allowed: Hosts,
    /// Hosts that it was sealed for.
    sealed: Hosts,
    /// Hosts behind which it came out.
    delivered: Hosts,
    /// Hosts whose tables forbade that it came out.
    refused: Hosts,
}

/// Sums over a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sessions: u64,
    pub(crate) sealed: u64,
    /// Messages sealed that carry control records.
    pub(crate) records: u64,
    /// Questions that engines answered.
    pub(crate) answered: u64,
    pub(crate) delivered: u64,
    /// Frames that the network lost, whether in the air or before a host that did not listen.
    pub(crate) lost: u64,
}

/// All frames, by number.
#[derive(Debug, Default)]
pub(crate) struct Books {
    frames: Vec<Sent>,
    pub(crate) counts: Counts,
}

impl Books {
    /// How many frames there were.
    pub(crate) fn len(&self) -> u64 {
        self.frames.len() as u64
    }

    /// Enters a frame; its number must be [`Books::len`].
    pub(crate) fn enter(&mut self, octets: Vec<u8>, from: usize, to: Option<usize>) {
        self.frames.push(Sent {
            octets,
            from,
            to,
            allowed: 0,
            sealed: 0,
            delivered: 0,
            refused: 0,
        });
    }

    /// The octets of a frame.
    pub(crate) fn octets(&self, number: u64) -> &[u8] {
        &self.frames[number as usize].octets
    }

    /// For which hosts a frame was sealed.
    pub(crate) fn sealed(&self, number: u64) -> Hosts {
        self.frames[number as usize].sealed
    }

    /// Behind which hosts a frame came out.
    pub(crate) fn delivered(&self, number: u64) -> Hosts {
        self.frames[number as usize].delivered
    }

    /// To how many hosts all frames from this number on were to go.
    pub(crate) fn wanted_since(&self, first: u64) -> u64 {
        let since = &self.frames[first as usize..];
        since
            .iter()
            .map(|sent| u64::from(sent.allowed.count_ones()))
            .sum()
    }

    /// The sender's tables name these hosts.
    pub(crate) fn allow(&mut self, number: u64, hosts: Hosts) {
        if let Some(sent) = self.frames.get_mut(number as usize) {
            sent.allowed |= hosts;
        }
    }

    /// A host's tables forbid that a frame comes out.
    pub(crate) fn refuse(&mut self, number: u64, host: usize) {
        self.frames[number as usize].refused |= 1 << host;
    }

    /// A frame was sealed for a host. Says which.
    pub(crate) fn seals(
        &mut self,
        magic: &Magic,
        from: usize,
        to: usize,
        inner: &[u8],
    ) -> Checked<u64> {
        let number = self.known(magic, inner)?;
        let sent = &mut self.frames[number as usize];
        let bit = 1 << to;
        let broken = if sent.octets != inner {
            "with other octets than were sent"
        } else if sent.from != from {
            "by a host that it does not come from"
        } else if sent.allowed & bit == 0 {
            "for a host that the tables do not name"
        } else if sent.sealed & bit != 0 {
            "twice for one host"
        } else {
            sent.sealed |= bit;
            return Ok(number);
        };
        Violation::because(format!(
            "frame {number} was sealed {broken}: {from} to {to}"
        ))
    }

    /// A frame came out behind a host.
    pub(crate) fn delivers(&mut self, magic: &Magic, host: usize, octets: &[u8]) -> Checked {
        let number = self.known(magic, octets)?;
        let sent = &mut self.frames[number as usize];
        let bit = 1 << host;
        let broken = if sent.octets != octets {
            "with other octets than were sent"
        } else if sent.sealed & bit == 0 {
            "without having been sealed for it"
        } else if sent.delivered & bit != 0 {
            "twice"
        } else {
            sent.delivered |= bit;
            self.counts.delivered += 1;
            return Ok(());
        };
        Violation::because(format!(
            "frame {number} came out behind host {host} {broken}"
        ))
    }

    /// Whether every frame from number `first` on reached all hosts that it was to reach: those
    /// that the sender's tables named, unless their own tables forbade it, and in any case the
    /// one behind which its destination is.
    pub(crate) fn all_arrived(&self, first: u64) -> Checked {
        for (number, sent) in (first..).zip(&self.frames[first as usize..]) {
            let missing = sent.allowed & !(sent.delivered | sent.refused);
            let home = sent.to.map_or(0, |to| 1 << to) & !sent.delivered & !(1 << sent.from);
            if missing | home != 0 {
                return Violation::because(format!(
                    "frame {number} from host {} did not reach hosts {:?} (meant for {:?}, \
                     allowed {:?}, sealed for {:?}, refused by {:?})",
                    sent.from,
                    list(missing | home),
                    sent.to,
                    list(sent.allowed),
                    list(sent.sealed),
                    list(sent.refused),
                ));
            }
        }
        Ok(())
    }

    fn known(&self, magic: &Magic, octets: &[u8]) -> Checked<u64> {
        let number = frame::number(magic, octets);
        match number.filter(|&number| number < self.len()) {
            Some(number) => Ok(number),
            None => Violation::because(format!("a frame that nobody sent: {octets:02x?}")),
        }
    }
}

/// The hosts of a set.
fn list(hosts: Hosts) -> Vec<u32> {
    (0..Hosts::BITS)
        .filter(|bit| hosts >> bit & 1 != 0)
        .collect()
}
