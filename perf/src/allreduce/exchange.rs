//! Carries steps of a plan out over the connections, both ways at the same time.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::links::{Links, list};
use super::plan::{Action, Receive, Send, Step};
use super::values::ELEMENT_LEN;
use crate::Failure;

/// Octets that are read to be added at once.
const SCRATCH_LEN: usize = 64 << 10;

/// The connections of a rank, and how long it waits on them.
#[derive(Debug)]
pub(super) struct Exchange {
    links: Links,
    /// The longest without a single octet either way.
    timeout: Duration,
    /// When the whole run has to be over.
    end: Instant,
    scratch: Vec<u8>,
}

/// A transfer that goes on.
#[derive(Debug)]
struct Transfer {
    peer: usize,
    /// The next octet of the buffer.
    at: usize,
    end: usize,
    /// Octets of an element that is not there as a whole yet.
    partial: [u8; ELEMENT_LEN],
    partial_len: usize,
}

impl Transfer {
    fn new(peer: usize, elements: &std::ops::Range<usize>) -> Self {
        Self {
            peer,
            at: elements.start * ELEMENT_LEN,
            end: elements.end * ELEMENT_LEN,
            partial: [0; ELEMENT_LEN],
            partial_len: 0,
        }
    }

    const fn is_done(&self) -> bool {
        self.at == self.end
    }
}

impl Exchange {
    /// Over `links`, until `end` at most.
    pub(super) fn new(links: Links, timeout: Duration, end: Instant) -> Self {
        Self {
            links,
            timeout,
            end,
            scratch: vec![0; SCRATCH_LEN],
        }
    }

    /// Does one step on a buffer that is as long as the plan says.
    ///
    /// # Errors
    /// When nothing moves for too long, the run has no time left, or a peer is gone; peers are
    /// named.
    pub(super) fn carry_out(&mut self, step: &Step, buffer: &mut [u8]) -> Result<(), Failure> {
        let out = |send: &Send| Transfer::new(send.to, &send.elements);
        let mut sends: Vec<Transfer> = step.sends.iter().map(out).collect();
        let receive = |one: &Receive| (Transfer::new(one.from, &one.elements), one.action);
        let mut receives: Vec<(Transfer, Action)> = step.receives.iter().map(receive).collect();
        let mut patience = Instant::now() + self.timeout;
        loop {
            let mut moved = 0;
            for transfer in &mut sends {
                moved += self.send(transfer, buffer)?;
            }
            for (transfer, action) in &mut receives {
                moved += self.receive(transfer, *action, buffer)?;
            }
            sends.retain(|transfer| !transfer.is_done());
            receives.retain(|(transfer, _)| !transfer.is_done());
            if sends.is_empty() && receives.is_empty() {
                return Ok(());
            }
            let now = Instant::now();
            if moved > 0 {
                patience = now + self.timeout;
                if now < self.end {
                    continue;
                }
            }
            let left = patience.min(self.end).saturating_duration_since(now);
            if left.is_zero() {
                return Err(self.out_of_time(&sends, &receives));
            }
            self.wait(&sends, &receives, left)?;
        }
    }

    /// Sends what the connection takes, and says how many octets.
    fn send(&mut self, transfer: &mut Transfer, buffer: &[u8]) -> Result<usize, Failure> {
        let peer = transfer.peer;
        let sent = match &mut self.links[peer] {
            Some(stream) => stream.write(&buffer[transfer.at..transfer.end]),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        let sent = moved(sent, peer)?;
        transfer.at += sent;
        Ok(sent)
    }

    /// Takes in what is there, and says how many octets.
    fn receive(
        &mut self,
        transfer: &mut Transfer,
        action: Action,
        buffer: &mut [u8],
    ) -> Result<usize, Failure> {
        let peer = transfer.peer;
        let Some(stream) = &mut self.links[peer] else {
            return moved(Err(io::ErrorKind::NotConnected.into()), peer);
        };
        let target = &mut buffer[transfer.at..transfer.end];
        if action == Action::Store {
            let received = closed(stream.read(target), peer)?;
            transfer.at += received;
            return Ok(received);
        }
        let partial_len = transfer.partial_len;
        self.scratch[..partial_len].copy_from_slice(&transfer.partial[..partial_len]);
        let most = target.len().min(SCRATCH_LEN);
        let received = closed(stream.read(&mut self.scratch[partial_len..most]), peer)?;
        let (whole, rest) = self.scratch[..partial_len + received].as_chunks::<ELEMENT_LEN>();
        for (sum, element) in target.as_chunks_mut().0.iter_mut().zip(whole) {
            *sum = (f32::from_le_bytes(*sum) + f32::from_le_bytes(*element)).to_le_bytes();
        }
        transfer.at += whole.as_flattened().len();
        transfer.partial[..rest.len()].copy_from_slice(rest);
        transfer.partial_len = rest.len();
        Ok(received)
    }

    fn wait(
        &self,
        sends: &[Transfer],
        receives: &[(Transfer, Action)],
        at_most: Duration,
    ) -> Result<(), Failure> {
        let stream = |transfer: &Transfer| self.links[transfer.peer].as_ref();
        let out = sends.iter().filter_map(stream);
        let out = out.map(|stream| PollFd::new(stream, PollFlags::OUT));
        let inward = receives.iter().filter_map(|(transfer, _)| stream(transfer));
        let inward = inward.map(|stream| PollFd::new(stream, PollFlags::IN));
        let mut descriptors: Vec<PollFd<'_>> = out.chain(inward).collect();
        match poll(&mut descriptors, Some(&Timespec::try_from(at_most)?)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn out_of_time(&self, sends: &[Transfer], receives: &[(Transfer, Action)]) -> Failure {
        let peers = |transfers: &mut dyn Iterator<Item = &Transfer>| {
            let peers: BTreeSet<usize> = transfers.map(|transfer| transfer.peer).collect();
            (!peers.is_empty()).then(|| list(&peers))
        };
        let silent = peers(&mut receives.iter().map(|(transfer, _)| transfer));
        let full = peers(&mut sends.iter());
        let mut said: Vec<String> = Vec::new();
        said.extend(silent.map(|peers| format!("{peers} did not answer")));
        said.extend(full.map(|peers| format!("{peers} did not take what was sent")));
        let why = if Instant::now() >= self.end {
            "the time for the whole run has passed".to_owned()
        } else {
            format!("nothing moved for {} s", self.timeout.as_secs_f64())
        };
        format!("{}: {why}", said.join(", ")).into()
    }
}

/// How many octets moved, none where there was no room or nothing there.
fn moved(result: io::Result<usize>, peer: usize) -> Result<usize, Failure> {
    match result {
        Ok(octets) => Ok(octets),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(0)
        }
        Err(error) => Err(format!("the connection with rank {peer} broke: {error}").into()),
    }
}

/// The same of a read, where no octet at all means that the peer closed.
fn closed(result: io::Result<usize>, peer: usize) -> Result<usize, Failure> {
    if let Ok(0) = result {
        return Err(format!("rank {peer} closed the connection").into());
    }
    moved(result, peer)
}
