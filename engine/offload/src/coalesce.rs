//! Frames of a burst made into super-frames, as generic receive offload (GRO) does.
//!
//! ```text
//!  a0 a1 b0 a2 b1 c0     push, one after another
//!  |  |  |  |  |  |
//!  |  |  |  |  |  +-> no payload, a flag, a bad checksum, ...: handed on at once, alone
//!  +--+-----+--------> flow a: headers of a0, payloads of a0 a1 a2
//!        +-----+-----> flow b: headers of b0, payloads of b0 b1
//!                      flush, at the end of the burst: nothing is ever waited for
//! ```
//!
//! The frames of a flow leave in the order in which they came: what cannot be appended closes what
//! is open of its flow before it goes on. Frames of different flows may overtake each other, within
//! one burst.
//!
//! Checksums are verified before, as the kernel believes those of a super-frame: a frame that was
//! damaged before it was sealed would be laundered. Such a frame is handed on as it is, for its
//! receiver to refuse and count.
//!
//! | is appended only if | because |
//! |---|---|
//! | 5-tuple, Ethernet header with tags, DS field, TTL, flow label, DF are the same | one header |
//! | TCP: acknowledgment, window, options are the same | one header |
//! | TCP: it has the next sequence number | segmentation counts on |
//! | IPv4: its id is the next one, or nobody may fragment it | segmentation counts on |
//! | TCP: it has no FIN, SYN, RST, URG, and CWR at the first only | they are not said twice |
//! | UDP: it has a checksum | its segments will |
//! | it is as long as the first, or the last and shorter | segments have one length |
//! | it has no IPv4 options, extension headers, padding, and is no fragment | they would be lost |
//! | the packet stays within 65,535 octets and [`PIECES_MAX`] pieces | IP's length field |
//!
//! PSH, or being shorter, closes what it was appended to.

mod candidate;
mod flow;

use candidate::{Candidate, Look};
use flow::Flow;
pub use flow::{Group, PIECES_MAX, Piece};

/// Flows that are open at the same time. The one open for longest gives way to a ninth.
pub const FLOWS_MAX: usize = 8;

/// What comes out.
#[derive(Debug)]
pub enum Coalesced<'a> {
    /// The frame that was pushed with this number, as it is. The header before it is
    /// `VnetHeader::default()`.
    Frame(u32),
    /// A super-frame of two frames or more.
    Group(&'a Group),
}

/// Makes super-frames of the frames of a burst.
#[derive(Debug)]
pub struct Coalescer {
    flows: [Flow; FLOWS_MAX],
    /// Which of `flows` are open, in the order in which they were opened.
    order: [u8; FLOWS_MAX],
    /// How many of `order` count.
    open: usize,
    /// Whether UDP is coalesced as well.
    udp: bool,
}

impl Coalescer {
    /// With no flow open. UDP is coalesced only if asked for: a reader must know USO
    /// (`TUN_F_USO4`, Linux 6.2).
    #[must_use]
    pub fn new(udp: bool) -> Self {
        Self {
            flows: [const { Flow::VACANT }; FLOWS_MAX],
            order: core::array::from_fn(|slot| slot as u8),
            open: 0,
            udp,
        }
    }

    /// Takes the next frame of a burst, which begins with its destination address and has no FCS.
    /// `number` is how the caller finds it again; it must stay as it is until it came out.
    ///
    /// What is complete by now is given to `out`, this frame or others.
    #[inline]
    pub fn push(&mut self, number: u32, frame: &[u8], out: &mut impl FnMut(Coalesced<'_>)) {
        match Candidate::look(frame, self.udp) {
            Look::Foreign => out(Coalesced::Frame(number)),
            Look::Opaque(addresses) => {
                while let Some(at) = self.find(|flow| flow.is_between(addresses)) {
                    self.close(at, out);
                }
                out(Coalesced::Frame(number));
            }
            Look::Segment(candidate) => self.take(number, &candidate, out),
        }
    }

    /// Ends a burst: everything that is open is given to `out`.
    #[inline]
    pub fn flush(&mut self, out: &mut impl FnMut(Coalesced<'_>)) {
        for at in 0..self.open {
            self.flows[usize::from(self.order[at])].give(out);
        }
        self.open = 0;
    }

    /// Takes a segment or datagram whose flow is known.
    #[inline]
    fn take(
        &mut self,
        number: u32,
        candidate: &Candidate<'_>,
        out: &mut impl FnMut(Coalesced<'_>),
    ) {
        let is_sound = candidate.is_ordinary() && candidate.verifies();
        if let Some(at) = self.find(|flow| flow.is_of(candidate)) {
            let flow = &mut self.flows[usize::from(self.order[at])];
            if is_sound && flow.append(number, candidate) {
                if flow.is_complete() {
                    self.close(at, out);
                }
                return;
            }
            self.close(at, out);
        }
        if !is_sound || candidate.ends_a_flight() {
            out(Coalesced::Frame(number));
            return;
        }
        if self.open == FLOWS_MAX {
            self.close(0, out);
        }
        self.flows[usize::from(self.order[self.open])].start(number, candidate);
        self.open += 1;
    }

    /// The first open flow that is meant, by its place in `order`.
    #[inline]
    fn find(&self, is_meant: impl Fn(&Flow) -> bool) -> Option<usize> {
        let mut open = self.order[..self.open].iter();
        open.position(|slot| is_meant(&self.flows[usize::from(*slot)]))
    }

    /// Gives away what is open at this place in `order`, and makes its slot the first vacant one.
    #[inline]
    fn close(&mut self, at: usize, out: &mut impl FnMut(Coalesced<'_>)) {
        self.flows[usize::from(self.order[at])].give(out);
        self.order[at..self.open].rotate_left(1);
        self.open -= 1;
    }
}
