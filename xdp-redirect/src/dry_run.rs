//! Runs a loaded program on a frame, without interface or traffic.

use std::time::Duration;

use aya::programs::Xdp;
use aya::{TestRun, TestRunOptions};

use crate::error::{self, RedirectError};
use crate::layout::{MAX_ROOM, META_LEN, Meta};
use crate::loader::Redirect;

/// Octets of `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index,
/// egress_ifindex, of four octets each.
const CONTEXT_LEN: usize = 24;

/// Octets that a program may put before the frame it is given.
const GROWTH: usize = MAX_ROOM as usize + META_LEN;

/// What a program decided about a frame: `enum xdp_action`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// The program failed.
    Aborted,
    /// The frame ends here.
    Drop,
    /// The frame goes to the kernel.
    Pass,
    /// The frame goes out where it came in.
    Transmit,
    /// The frame goes to a socket.
    Redirect,
    /// A number that has no meaning.
    Unknown(u32),
}

impl From<u32> for Action {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Aborted,
            1 => Self::Drop,
            2 => Self::Pass,
            3 => Self::Transmit,
            4 => Self::Redirect,
            other => Self::Unknown(other),
        }
    }
}

/// What came of a frame in a dry run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DryRun {
    /// What the program decided.
    pub action: Action,
    /// The frame as the program left it, without metadata.
    pub frame: Vec<u8>,
    /// The metadata before the frame, when the program wrote some.
    pub meta: Option<Meta>,
}

impl Redirect {
    /// Runs the program on a frame as if it had come in on receive queue 0. No frame is sent or
    /// delivered anywhere; counters count it.
    ///
    /// # Errors
    ///
    /// [`RedirectError::DryRun`] when the kernel does not take the frame (shorter than an
    /// Ethernet header, or longer than it supports).
    pub fn dry_run(&self, frame: &[u8]) -> Result<DryRun, RedirectError> {
        self.dry_run_with_metadata(&[], frame)
    }

    /// As [`Redirect::dry_run`], for a frame that comes with metadata of the driver's own.
    ///
    /// # Errors
    ///
    /// As [`Redirect::dry_run`]; the length of `metadata` must be a multiple of four.
    pub fn dry_run_with_metadata(
        &self,
        metadata: &[u8],
        frame: &[u8],
    ) -> Result<DryRun, RedirectError> {
        run(self.xdp()?, metadata, frame)
    }
}

/// How long a program took for a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timed {
    /// What the program decided in the last run.
    pub action: Action,
    /// The mean of all runs as the kernel measured it, in whole nanoseconds.
    pub mean: Duration,
}

impl Redirect {
    /// Runs the program `times` times on a frame and measures. Counters count every run.
    ///
    /// All runs get the same frame: what one puts before it, the next finds there. So only
    /// verdicts that leave the frame alone, to drop it or to let it pass, can be repeated.
    ///
    /// # Errors
    ///
    /// As [`Redirect::dry_run`].
    pub fn time_runs(&self, frame: &[u8], times: u32) -> Result<Timed, RedirectError> {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat: times,
            ..TestRunOptions::new()
        };
        let failed = |reason: String| RedirectError::DryRun {
            len: frame.len(),
            reason,
        };
        let outcome = self
            .xdp()?
            .test_run(options)
            .map_err(|refusal| failed(error::explain(&refusal)))?;
        Ok(Timed {
            action: outcome.return_value.into(),
            mean: outcome.duration,
        })
    }
}

/// Runs a program on a frame that comes with metadata before it.
pub(crate) fn run(program: &Xdp, metadata: &[u8], frame: &[u8]) -> Result<DryRun, RedirectError> {
    let failed = |reason: String| RedirectError::DryRun {
        len: frame.len(),
        reason,
    };
    let input = [metadata, frame].concat();
    let context =
        context(metadata.len(), input.len()).ok_or_else(|| failed("it is too long".to_owned()))?;
    let mut context_after = [0; CONTEXT_LEN];
    let mut octets = vec![0; input.len() + GROWTH];
    let options = TestRunOptions {
        data_in: Some(&input),
        data_out: Some(&mut octets),
        ctx_in: Some(&context),
        ctx_out: Some(&mut context_after),
        ..TestRunOptions::new()
    };
    let outcome = program
        .test_run(options)
        .map_err(|refusal| failed(error::explain(&refusal)))?;
    octets.truncate(outcome.data_size_out as usize);
    let (before, frame) = split_metadata(octets, &context_after);
    let action = outcome.return_value.into();
    let ours = <[u8; META_LEN]>::try_from(before)
        .ok()
        .filter(|_| action == Action::Redirect);
    Ok(DryRun {
        action,
        frame,
        meta: ours.map(|octets| Meta::parse(&octets)),
    })
}

/// A context that says only where the frame begins and ends, counted from its metadata.
fn context(start: usize, end: usize) -> Option<[u8; CONTEXT_LEN]> {
    let mut context = [0; CONTEXT_LEN];
    context[0..4].copy_from_slice(&u32::try_from(start).ok()?.to_ne_bytes());
    context[4..8].copy_from_slice(&u32::try_from(end).ok()?.to_ne_bytes());
    Some(context)
}

/// The kernel returns metadata and frame in one; the context's first field tells where they part.
fn split_metadata(mut octets: Vec<u8>, context: &[u8; CONTEXT_LEN]) -> (Vec<u8>, Vec<u8>) {
    let [a, b, c, d, ..] = *context;
    let start = (u32::from_ne_bytes([a, b, c, d]) as usize).min(octets.len());
    let frame = octets.split_off(start);
    (octets, frame)
}
