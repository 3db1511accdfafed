//! Control records: what two nodes tell each other inside a session.
//!
//! ```text
//!  0      1      2        4
//!  +------+------+--------+-------------------------------
//!  | kind | zero | length | body: entries, one after another
//!  +------+------+--------+-------------------------------
//! ```
//!
//! One message of type 5 carries one record. Records may be lost, doubled and overtaken by others;
//! what matters is sent again. Unknown kinds are for later versions, and so is what is left of a
//! body after its last whole entry. All integers are big-endian.
//!
//! Reading gives an iterator over entries that ends where something is not understood; nothing is
//! believed here. Not in here: what may follow from a record.

use core::marker::PhantomData;
use core::net::IpAddr;

use crate::MacAddr;

/// Octets before the body.
pub const RECORD_HEADER_LEN: usize = 4;
/// The most octets of a record that this implementation sends: it fits any underlay.
pub const RECORD_MAX: usize = 1200;
/// Octets of the set of VLANs: one bit each.
pub const VLANS_LEN: usize = 512;

/// Addresses of hosts behind the sender.
pub const ANNOUNCE: u8 = 1;
/// Addresses that are no longer behind the sender.
pub const WITHDRAW: u8 = 2;
/// MAC addresses of the receiver's that have come up behind the sender.
pub const CLAIM: u8 = 3;
/// MAC addresses of the sender's that are somebody else's from now on.
pub const RELEASE: u8 = 4;
/// Which VLANs there are behind the sender.
pub const VLANS: u8 = 5;
/// Which multicast groups are wanted behind the sender.
pub const GROUPS: u8 = 6;
/// A message of a certain size, to see whether it arrives.
pub const PROBE: u8 = 16;
/// It arrived.
pub const PROBE_ACK: u8 = 17;

/// In the flags of [`GROUPS`]: the first record of a full list.
pub const GROUPS_FIRST: u8 = 1;
/// In the flags of [`GROUPS`]: the last record of a full list.
pub const GROUPS_LAST: u8 = 2;
/// In the flags of [`GROUPS`]: the sender wants everything that is sent to any group.
pub const GROUPS_ALL: u8 = 4;

/// Family octet of IPv4 addresses.
const IPV4: u8 = 4;
/// Family octet of IPv6 addresses.
const IPV6: u8 = 6;
/// Operation octet of a group that is wanted.
const JOIN: u8 = 1;
/// Operation octet of a group that is wanted no more.
const LEAVE: u8 = 2;

/// A host's address, in [`ANNOUNCE`].
///
/// # Layout
/// VLAN 2, family 1, flags 1 (zero), sequence 4, lifetime 2, MAC 6, IP 4 or 16.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Announcement {
    /// Outermost VLAN id, 0 for none.
    pub vlan: u16,
    /// Newer announcements and withdrawals have greater ones, modulo 2^32.
    pub sequence: u32,
    /// Seconds until it is to be forgotten.
    pub lifetime: u16,
    /// The host's MAC address.
    pub mac: MacAddr,
    /// The host's IP address.
    pub ip: IpAddr,
}

/// A host's address that is gone, in [`WITHDRAW`].
///
/// # Layout
/// VLAN 2, family 1, flags 1 (zero), sequence 4, IP 4 or 16.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Withdrawal {
    /// Outermost VLAN id, 0 for none.
    pub vlan: u16,
    /// See [`Announcement::sequence`].
    pub sequence: u32,
    /// The IP address.
    pub ip: IpAddr,
}

/// A MAC address that the sender asks for, in [`CLAIM`].
///
/// # Layout
/// VLAN 2, MAC 6, sequence 4.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Claim {
    /// Outermost VLAN id, 0 for none.
    pub vlan: u16,
    /// The MAC address.
    pub mac: MacAddr,
    /// One more than that of the last move that the sender knows of, modulo 2^32.
    pub sequence: u32,
}

/// A MAC address that the sender gives away, in [`RELEASE`].
///
/// # Layout
/// VLAN 2, MAC 6, sequence 4, public key 32.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Release {
    /// Outermost VLAN id, 0 for none.
    pub vlan: u16,
    /// The MAC address.
    pub mac: MacAddr,
    /// Of this move: later ones of the address have greater ones, modulo 2^32.
    pub sequence: u32,
    /// The public key of the node that has it from now on.
    pub owner: [u8; 32],
}

/// A multicast group, in [`GROUPS`].
///
/// # Layout
/// Operation 1 (1 join, 2 leave), family 1, VLAN 2, group 4 or 16.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GroupChange {
    /// Whether the group is wanted.
    pub join: bool,
    /// Outermost VLAN id, 0 for none.
    pub vlan: u16,
    /// The group's address.
    pub group: IpAddr,
}

/// A kind of entry. There are no others than those of this module.
pub trait Entry: sealed::Sealed + Sized {
    /// The kind of record that has them.
    const KIND: u8;
    /// Octets of the longest.
    const LEN_MAX: usize;

    /// Reads the entry in front. `None` where it is cut off or not understood, so that it is not
    /// known where the next one begins; an entry that is to be left out is `None` inside.
    #[doc(hidden)]
    fn read(octets: &mut Reader<'_>) -> Option<Option<Self>>;

    /// Writes it. `None` when there is no room.
    #[doc(hidden)]
    fn write(&self, octets: &mut Cursor<'_>) -> Option<()>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Announcement {}
    impl Sealed for super::Withdrawal {}
    impl Sealed for super::Claim {}
    impl Sealed for super::Release {}
    impl Sealed for super::GroupChange {}
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn octet(&mut self) -> Option<u8> {
        self.take().map(|[octet]| octet)
    }

    fn mac(&mut self) -> Option<MacAddr> {
        self.take().map(MacAddr)
    }

    fn ip(&mut self, family: u8) -> Option<IpAddr> {
        match family {
            IPV4 => self.take::<4>().map(IpAddr::from),
            IPV6 => self.take::<16>().map(IpAddr::from),
            _ => None,
        }
    }
}

/// Where writing has come to.
#[derive(Debug)]
#[doc(hidden)]
pub struct Cursor<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, octets: &[u8]) -> Option<()> {
        let end = self.at.checked_add(octets.len())?;
        self.out.get_mut(self.at..end)?.copy_from_slice(octets);
        self.at = end;
        Some(())
    }

    fn put_ip(&mut self, ip: &IpAddr) -> Option<()> {
        match ip {
            IpAddr::V4(ip) => self.put(&ip.octets()),
            IpAddr::V6(ip) => self.put(&ip.octets()),
        }
    }
}

const fn family(ip: &IpAddr) -> u8 {
    if ip.is_ipv4() { IPV4 } else { IPV6 }
}

impl Entry for Announcement {
    const KIND: u8 = ANNOUNCE;
    const LEN_MAX: usize = 32;

    fn read(octets: &mut Reader<'_>) -> Option<Option<Self>> {
        let vlan = octets.u16()?;
        let [family, _flags] = octets.take()?;
        Some(Some(Self {
            vlan,
            sequence: octets.u32()?,
            lifetime: octets.u16()?,
            mac: octets.mac()?,
            ip: octets.ip(family)?,
        }))
    }

    fn write(&self, octets: &mut Cursor<'_>) -> Option<()> {
        octets.put(&self.vlan.to_be_bytes())?;
        octets.put(&[family(&self.ip), 0])?;
        octets.put(&self.sequence.to_be_bytes())?;
        octets.put(&self.lifetime.to_be_bytes())?;
        octets.put(&self.mac.0)?;
        octets.put_ip(&self.ip)
    }
}

impl Entry for Withdrawal {
    const KIND: u8 = WITHDRAW;
    const LEN_MAX: usize = 24;

    fn read(octets: &mut Reader<'_>) -> Option<Option<Self>> {
        let vlan = octets.u16()?;
        let [family, _flags] = octets.take()?;
        Some(Some(Self {
            vlan,
            sequence: octets.u32()?,
            ip: octets.ip(family)?,
        }))
    }

    fn write(&self, octets: &mut Cursor<'_>) -> Option<()> {
        octets.put(&self.vlan.to_be_bytes())?;
        octets.put(&[family(&self.ip), 0])?;
        octets.put(&self.sequence.to_be_bytes())?;
        octets.put_ip(&self.ip)
    }
}

impl Entry for Claim {
    const KIND: u8 = CLAIM;
    const LEN_MAX: usize = 12;

    fn read(octets: &mut Reader<'_>) -> Option<Option<Self>> {
        Some(Some(Self {
            vlan: octets.u16()?,
            mac: octets.mac()?,
            sequence: octets.u32()?,
        }))
    }

    fn write(&self, octets: &mut Cursor<'_>) -> Option<()> {
        octets.put(&self.vlan.to_be_bytes())?;
        octets.put(&self.mac.0)?;
        octets.put(&self.sequence.to_be_bytes())
    }
}

impl Entry for Release {
    const KIND: u8 = RELEASE;
    const LEN_MAX: usize = 44;

    fn read(octets: &mut Reader<'_>) -> Option<Option<Self>> {
        Some(Some(Self {
            vlan: octets.u16()?,
            mac: octets.mac()?,
            sequence: octets.u32()?,
            owner: octets.take()?,
        }))
    }

    fn write(&self, octets: &mut Cursor<'_>) -> Option<()> {
        octets.put(&self.vlan.to_be_bytes())?;
        octets.put(&self.mac.0)?;
        octets.put(&self.sequence.to_be_bytes())?;
        octets.put(&self.owner)
    }
}

impl Entry for GroupChange {
    const KIND: u8 = GROUPS;
    const LEN_MAX: usize = 20;

    fn read(octets: &mut Reader<'_>) -> Option<Option<Self>> {
        let [operation, family] = octets.take()?;
        let vlan = octets.u16()?;
        let group = octets.ip(family)?;
        let known = matches!(operation, JOIN | LEAVE);
        Some(known.then_some(Self {
            join: operation == JOIN,
            vlan,
            group,
        }))
    }

    fn write(&self, octets: &mut Cursor<'_>) -> Option<()> {
        let operation = if self.join { JOIN } else { LEAVE };
        octets.put(&[operation, family(&self.group)])?;
        octets.put(&self.vlan.to_be_bytes())?;
        octets.put_ip(&self.group)
    }
}

/// The entries of a record, as far as they are understood.
#[derive(Clone, Debug)]
pub struct Entries<'a, E> {
    rest: Reader<'a>,
    of: PhantomData<E>,
}

impl<'a, E> Entries<'a, E> {
    const fn new(body: &'a [u8]) -> Self {
        Self {
            rest: Reader(body),
            of: PhantomData,
        }
    }
}

impl<E: Entry> Iterator for Entries<'_, E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        loop {
            match E::read(&mut self.rest) {
                Some(Some(entry)) => return Some(entry),
                Some(None) => {}
                None => {
                    self.rest = Reader(&[]);
                    return None;
                }
            }
        }
    }
}

/// A record.
#[derive(Clone, Debug)]
pub enum Record<'a> {
    /// See [`ANNOUNCE`].
    Announce(Entries<'a, Announcement>),
    /// See [`WITHDRAW`].
    Withdraw(Entries<'a, Withdrawal>),
    /// See [`CLAIM`].
    Claim(Entries<'a, Claim>),
    /// See [`RELEASE`].
    Release(Entries<'a, Release>),
    /// See [`VLANS`]: VLAN `v` is there when bit `v % 8` of octet `v / 8` is set.
    Vlans(&'a [u8; VLANS_LEN]),
    /// See [`GROUPS`].
    Groups {
        /// [`GROUPS_FIRST`], [`GROUPS_LAST`], [`GROUPS_ALL`]; others are for later versions.
        flags: u8,
        /// What is wanted, and wanted no more.
        changes: Entries<'a, GroupChange>,
    },
    /// See [`PROBE`].
    Probe {
        /// Comes back in the answer.
        token: [u8; 8],
    },
    /// See [`PROBE_ACK`].
    ProbeAck {
        /// From the probe.
        token: [u8; 8],
        /// Octets of the probe's record that arrived.
        size: u16,
    },
    /// Of a later version.
    Unknown {
        /// The kind's octet.
        kind: u8,
    },
}

impl<'a> Record<'a> {
    /// Reads a record. `None` when it is shorter than it says, or than its kind needs. Octets
    /// after its end are padding.
    #[must_use]
    pub fn parse(octets: &'a [u8]) -> Option<Self> {
        let (&[kind, _zero, high, low], rest) = octets.split_first_chunk::<RECORD_HEADER_LEN>()?;
        let body = rest.get(..usize::from(u16::from_be_bytes([high, low])))?;
        let mut fields = Reader(body);
        Some(match kind {
            ANNOUNCE => Self::Announce(Entries::new(body)),
            WITHDRAW => Self::Withdraw(Entries::new(body)),
            CLAIM => Self::Claim(Entries::new(body)),
            RELEASE => Self::Release(Entries::new(body)),
            VLANS => Self::Vlans(body.first_chunk()?),
            GROUPS => Self::Groups {
                flags: fields.octet()?,
                changes: Entries::new(fields.0),
            },
            PROBE => Self::Probe {
                token: fields.take()?,
            },
            PROBE_ACK => Self::ProbeAck {
                token: fields.take()?,
                size: fields.u16()?,
            },
            kind => Self::Unknown { kind },
        })
    }
}

/// Writes a record of entries, as many as there is room for.
#[derive(Debug)]
pub struct Writer<'a, E> {
    octets: Cursor<'a>,
    of: PhantomData<E>,
}

impl<'a, E: Entry> Writer<'a, E> {
    /// Begins a record whose body starts with `prefix`: the flags of [`GROUPS`], for all others
    /// nothing. `None` when `out` has no room for that. More than 65535 octets of body are not
    /// used.
    #[must_use]
    pub fn new(out: &'a mut [u8], prefix: &[u8]) -> Option<Self> {
        let room = out.len().min(RECORD_HEADER_LEN + usize::from(u16::MAX));
        let out = out.get_mut(..room)?;
        let mut octets = Cursor { out, at: 0 };
        octets.put(&[E::KIND, 0, 0, 0])?;
        octets.put(prefix)?;
        Some(Self {
            octets,
            of: PhantomData,
        })
    }

    /// Adds an entry. False, and nothing changed, when there is no room for it.
    pub fn push(&mut self, entry: &E) -> bool {
        let start = self.octets.at;
        let fits = entry.write(&mut self.octets).is_some();
        if !fits {
            self.octets.at = start;
        }
        fits
    }

    /// Ends the record. Gives its length.
    #[must_use]
    pub fn finish(self) -> usize {
        let Self { octets, .. } = self;
        set_length(octets.out, octets.at);
        octets.at
    }
}

/// Writes the length of the body of a record of `len` octets.
fn set_length(out: &mut [u8], len: usize) {
    let body = len.saturating_sub(RECORD_HEADER_LEN);
    // A writer never has a longer body.
    let body = u16::try_from(body).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(2..RECORD_HEADER_LEN) {
        field.copy_from_slice(&body.to_be_bytes());
    }
}

/// Writes a record of [`VLANS`]. Gives its length, or `None` when there is no room.
pub fn emit_vlans(out: &mut [u8], vlans: &[u8; VLANS_LEN]) -> Option<usize> {
    emit_body(out, VLANS, &[vlans], 0)
}

/// Writes a probe whose record has `size` octets. `None` when there is no room, or when that is
/// too short for a probe or too long for a record.
pub fn emit_probe(out: &mut [u8], token: [u8; 8], size: usize) -> Option<usize> {
    let zeros = size.checked_sub(RECORD_HEADER_LEN + token.len())?;
    emit_body(out, PROBE, &[&token], zeros)
}

/// Writes the answer to a probe whose record had `size` octets. Gives its length, or `None` when
/// there is no room.
pub fn emit_probe_ack(out: &mut [u8], token: [u8; 8], size: u16) -> Option<usize> {
    emit_body(out, PROBE_ACK, &[&token, &size.to_be_bytes()], 0)
}

fn emit_body(out: &mut [u8], kind: u8, fields: &[&[u8]], zeros: usize) -> Option<usize> {
    let mut octets = Cursor { out, at: 0 };
    octets.put(&[kind, 0, 0, 0])?;
    for field in fields {
        octets.put(field)?;
    }
    let end = octets.at.checked_add(zeros)?;
    if end > RECORD_HEADER_LEN + usize::from(u16::MAX) {
        return None;
    }
    octets.out.get_mut(octets.at..end)?.fill(0);
    set_length(octets.out, end);
    Some(end)
}

#[cfg(test)]
mod tests;
