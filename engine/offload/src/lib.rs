//! What a tap with `IFF_VNET_HDR` needs: super-frames cut into frames, and frames made into
//! super-frames. Pure: no I/O, no clock, no allocation.
//!
//! ```text
//!  kernel                                                                       fabric
//!    | read: header + frame of up to 64 KB   SuperFrame::parse                    |
//!    |-------------------------------------> write_header for each segment ------>| sealed, one
//!    |                                       complete_checksum, where no segments | by one
//!    |                                                                            |
//!    | writev: header, first headers,        Coalescer::push, flush               |
//!    |<------ payloads where they lie ------ VnetHeader::emit <-------------------| one burst
//! ```
//!
//! The host's stack then pays for one frame where it would pay for 44. What comes out of
//! [`SuperFrame`] is what the kernel's own segmentation would have made of it, and what
//! [`Coalescer`] makes can be taken apart again into what went in: identifications of IPv4 packets
//! that nobody may fragment apart, which mean nothing (RFC 6864 s.4.1).
//!
//! Not in here: tunnels within frames, UDP fragmentation (UFO), IPv6 jumbograms.
#![forbid(unsafe_code)]

mod coalesce;
mod layout;
mod segment;
mod vnet;

pub use coalesce::{Coalesced, Coalescer, FLOWS_MAX, Group, PIECES_MAX, Piece};
pub use layout::HEADERS_MAX;
pub use segment::{SEGMENTS_MAX, SegmentError, SuperFrame};
pub use vnet::{
    Gso, GsoKind, PartialChecksum, VNET_LEN, VNET_LEN_MERGEABLE, VnetError, VnetHeader,
    complete_checksum,
};
