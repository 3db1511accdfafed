//! Writing frames piece by piece into room that the caller has.

use crate::MacAddr;
use crate::ethernet::ETHERTYPE_VLAN;

/// The least payload of an Ethernet frame (IEEE 802.3 s.3.2.7): what is shorter is padded, as not
/// every driver does.
const PAYLOAD_MIN: usize = 46;

/// Appends to a frame.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    /// Where the payload begins.
    payload: usize,
}

impl<'a> Writer<'a> {
    /// Starts a frame at the beginning of `out`.
    pub(crate) const fn new(out: &'a mut [u8]) -> Self {
        Self {
            out,
            len: 0,
            payload: 0,
        }
    }

    /// Appends; `None`, and nothing written, where there is no room.
    pub(crate) fn put(&mut self, piece: &[u8]) -> Option<()> {
        let end = self.len + piece.len();
        self.out.get_mut(self.len..end)?.copy_from_slice(piece);
        self.len = end;
        Some(())
    }

    /// Appends the headers of a frame, with a tag where `vlan` is not 0.
    pub(crate) fn ethernet(
        &mut self,
        destination: MacAddr,
        source: MacAddr,
        vlan: u16,
        ethertype: u16,
    ) -> Option<()> {
        self.put(&destination.0)?;
        self.put(&source.0)?;
        if vlan != 0 {
            self.put(&ETHERTYPE_VLAN.to_be_bytes())?;
            self.put(&vlan.to_be_bytes())?;
        }
        self.put(&ethertype.to_be_bytes())?;
        self.payload = self.len;
        Some(())
    }

    /// What was appended last, this many octets of it.
    pub(crate) fn last(&mut self, len: usize) -> Option<&mut [u8]> {
        self.out.get_mut(self.len.checked_sub(len)?..self.len)
    }

    /// Pads the frame to the least length, and gives its length.
    pub(crate) fn finish(mut self) -> Option<usize> {
        let missing = (self.payload + PAYLOAD_MIN).saturating_sub(self.len);
        self.put([0; PAYLOAD_MIN].get(..missing)?)?;
        Some(self.len)
    }
}
