//! What joins two taps: the engine without its fabric.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use omni_offload::{Coalesced, Coalescer, Group, SuperFrame, VnetHeader, complete_checksum};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::tap::Tap;

/// What is read of a tap at once.
const BURST: usize = 64;
/// How long a tap is waited for before the end is looked for.
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// Octets before a tag: destination and source.
const ADDRESSES: usize = 12;
/// A tag of VLAN 7.
const TAG: [u8; 4] = [0x81, 0, 0, 7];

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counted {
    /// Super-frames that were cut into two segments or more, of either tap.
    pub(crate) cut: [usize; 2],
    /// Super-frames that were made.
    pub(crate) merged: usize,
    /// Frames that were refused.
    pub(crate) errors: usize,
}

/// A thread that carries frames.
pub(crate) struct Pump {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Counted>>,
}

impl Pump {
    /// From `a` segments go out as they are, from `b` they are coalesced again. On their way they
    /// have a tag where `tagged`.
    pub(crate) fn start(a: Tap, b: Tap, tagged: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = Some(thread::spawn(move || carry(a, b, tagged, &stopped)));
        Self { stop, thread }
    }

    /// Ends it, once nothing is under way any more.
    pub(crate) fn stop(mut self) -> Counted {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("the pump did not fail")
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // A test that failed must not leave the taps open.
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn carry(mut a: Tap, mut b: Tap, tagged: bool, stop: &AtomicBool) -> Counted {
    let mut counted = Counted::default();
    let mut coalescer = Coalescer::new(true);
    while !stop.load(Ordering::Relaxed) {
        let readable = |tap| PollFd::from_borrowed_fd(tap, PollFlags::IN);
        let mut both = [readable(a.as_fd()), readable(b.as_fd())];
        poll(&mut both, Some(&PAUSE)).expect("two open files");
        for frame in burst(&mut a, 0, tagged, &mut counted) {
            write_alone(&mut b, &frame, tagged);
        }
        let frames = burst(&mut b, 1, tagged, &mut counted);
        let mut out = |coalesced: Coalesced<'_>| match coalesced {
            Coalesced::Frame(number) => write_alone(&mut a, &frames[number as usize], tagged),
            Coalesced::Group(group) => {
                write_group(&mut a, group, &frames, tagged);
                counted.merged += 1;
            }
        };
        for (number, frame) in (0..).zip(&frames) {
            coalescer.push(number, frame, &mut out);
        }
        coalescer.flush(&mut out);
    }
    counted
}

/// A frame without its tag, in pieces, where it has one.
fn untagged(frame: &[u8], tagged: bool) -> [&[u8]; 2] {
    if !tagged {
        return [frame, &[]];
    }
    assert_eq!(frame[ADDRESSES..ADDRESSES + TAG.len()], TAG);
    [&frame[..ADDRESSES], &frame[ADDRESSES + TAG.len()..]]
}

fn write_alone(tap: &mut Tap, frame: &[u8], tagged: bool) {
    tap.write(&VnetHeader::default(), &untagged(frame, tagged));
}

fn write_group(tap: &mut Tap, group: &Group, frames: &[Vec<u8>], tagged: bool) {
    let payloads = group.pieces().iter();
    let payloads = payloads.map(|piece| &frames[piece.number as usize][piece.range()]);
    let header = untagged(group.header(), tagged);
    let pieces: Vec<&[u8]> = header.into_iter().chain(payloads).collect();
    let mut vnet = *group.vnet();
    if tagged {
        let partial = vnet.checksum.as_mut().expect("a super-frame has one");
        partial.start -= TAG.len() as u16;
    }
    tap.write(&vnet, &pieces);
}

/// All frames that a tap has, ready for a wire.
fn burst(tap: &mut Tap, side: usize, tagged: bool, counted: &mut Counted) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for _ in 0..BURST {
        let Some((vnet, frame)) = tap.read() else {
            break;
        };
        match segments(vnet, frame, tagged) {
            Ok(made) => {
                counted.cut[side] += usize::from(made.len() > 1);
                frames.extend(made);
            }
            Err(error) => {
                eprintln!(
                    "{error}: {vnet:02x?} {:02x?}",
                    &frame[..frame.len().min(80)]
                );
                counted.errors += 1;
            }
        }
    }
    frames
}

/// What becomes of a frame of a tap.
fn segments(vnet: &[u8], frame: &[u8], tagged: bool) -> Result<Vec<Vec<u8>>, String> {
    let mut vnet = VnetHeader::parse(vnet, frame.len()).map_err(|error| error.to_string())?;
    let mut frame = frame.to_vec();
    if tagged {
        frame.splice(ADDRESSES..ADDRESSES, TAG);
        if let Some(partial) = &mut vnet.checksum {
            partial.start += TAG.len() as u16;
        }
    }
    if vnet.gso.is_none() {
        if let Some(partial) = vnet.checksum {
            complete_checksum(partial, &mut frame).map_err(|error| error.to_string())?;
        }
        return Ok(vec![frame]);
    }
    let whole = SuperFrame::parse(&vnet, &frame, frame.len()).map_err(|error| error.to_string())?;
    let segment = |index| {
        let mut out = vec![0; whole.longest()];
        let len = whole.copy(index, &frame, &mut out)?;
        out.truncate(len);
        Some(out)
    };
    let made: Option<Vec<_>> = (0..whole.count()).map(segment).collect();
    made.ok_or_else(|| "a segment that could not be copied".to_owned())
}
