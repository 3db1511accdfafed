//! Outer headers: how messages travel between two nodes.
//!
//! ```text
//!  Ethernet 14 [802.1Q 4] | IPv4 20 or IPv6 40 | UDP 8 | message
//!  |<------------- a Template writes ---------------->|
//! ```
//!
//! Not in here: routes and neighbours, which the control thread resolves to a [`Path`].

use core::net::{IpAddr, SocketAddr};

use crate::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN, Ethernet};
use crate::ip::{
    IPV4_CHECKSUM, IPV4_DS_FIELD, IPV4_TOTAL_LEN, IPV6_PAYLOAD_LEN, Ipv4, Ipv6, PROTOCOL_UDP,
    ipv6_ds_field, pseudo_header,
};
use crate::limits::{
    ETHERNET_LEN, IPV4_LEN, IPV6_LEN, OUTER_IPV4, OUTER_IPV6, OUTER_MAX, UDP_LEN, VLAN_TAG_LEN,
};
use crate::{DropReason, MacAddr, checksum};

/// Hop limit of outer packets: enough for any path, as hosts send.
const TTL: u8 = 64;

/// Octets of an Ethernet header with a tag.
const TAGGED_LEN: usize = ETHERNET_LEN + VLAN_TAG_LEN;
/// Octets of outer headers over IPv4 with a tag.
const TAGGED_IPV4: usize = OUTER_IPV4 + VLAN_TAG_LEN;

/// The largest VLAN id that a frame may carry.
const VID_MAX: u16 = 4094;

/// The first of the source ports over which lanes are spread: the dynamic ports (RFC 6335 s.6).
pub const SPREAD_PORT_MIN: u16 = 49_152;
/// How many there are: all up to 65535.
const SPREAD_PORTS: u16 = u16::MAX - SPREAD_PORT_MIN + 1;
/// From one lane's port to the next one's: odd, so that no two of 16384 lanes share a port, and
/// near the golden section of the range, so that a few lanes are far apart.
const SPREAD_STEP: u16 = 10_125;

/// How messages reach a peer: outer addresses, resolved down to the next hop's MAC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// Of the underlay interface.
    pub source_mac: MacAddr,
    /// Of the peer, or of the router towards it.
    pub next_hop_mac: MacAddr,
    /// VLAN id of a tag on the outer frame, 1..=4094.
    pub vlan: Option<u16>,
    /// Our address.
    pub source: IpAddr,
    /// Our UDP port on lane 0: the fabric port.
    pub source_port: u16,
    /// The peer's address and UDP port.
    pub endpoint: SocketAddr,
}

impl Path {
    /// Whether both addresses are of one family, and the VLAN id is one that frames may carry.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.source.is_ipv4() == self.endpoint.is_ipv4()
            && self.vlan.is_none_or(|vid| (1..=VID_MAX).contains(&vid))
    }

    /// The UDP source port of a lane where lanes are spread over ports, so that routers and
    /// receive queues which hash ports deal them out (`PROTOCOL` section 2): [`Path::source_port`]
    /// for lane 0, and for any other one in [`SPREAD_PORT_MIN`]..=65535.
    ///
    /// It depends on the lane and the endpoint alone, so a lane stays on its way through the
    /// network when sessions are renewed or the node restarts. No other lane up to 16383 has it,
    /// and lane 0's is not among them.
    #[must_use]
    pub fn spread_source_port(&self, lane: u16) -> u16 {
        if lane == 0 {
            return self.source_port;
        }
        let start = hash(self.endpoint) as u16;
        let port_of = |lane: u16| {
            let place = start.wrapping_add(lane.wrapping_mul(SPREAD_STEP)) % SPREAD_PORTS;
            SPREAD_PORT_MIN + place
        };
        let port = port_of(lane);
        if port == self.source_port {
            // Nobody has the port that lane 0 would have.
            port_of(0)
        } else {
            port
        }
    }
}

/// The same number for the same address and port on every machine: a multiplication a word
/// (Knuth, The Art of Computer Programming, s.6.4).
fn hash(endpoint: SocketAddr) -> u64 {
    let address = match endpoint.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let (address, port) = (address.to_bits(), endpoint.port());
    let words = [(address >> 64) as u64, address as u64, u64::from(port)];
    words.into_iter().fold(0, |state, word| {
        let product = (state ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        product ^ product >> 32
    })
}

/// Outer headers prepared for one [`Path`], so that per frame only lengths, the source port and
/// checksums are left to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Template {
    /// The headers, with zeros where a frame's values go.
    octets: [u8; OUTER_MAX],
    /// How many of them.
    len: usize,
    /// Running sum of what does not change from frame to frame: of the IPv4 header, or of the
    /// UDP pseudo-header, protocol and destination port over IPv6.
    sum: u64,
    /// Where the messages go.
    endpoint: SocketAddr,
    /// From which address of ours.
    source: IpAddr,
}

impl Template {
    /// Prepares the headers; `None` when the path is not consistent.
    #[must_use]
    pub fn new(path: &Path) -> Option<Self> {
        if !path.is_consistent() {
            return None;
        }
        let mut writer = Writer {
            octets: [0; OUTER_MAX],
            len: 0,
        };
        writer.put(&path.next_hop_mac.0)?;
        writer.put(&path.source_mac.0)?;
        if let Some(vid) = path.vlan {
            writer.put(&ETHERTYPE_VLAN.to_be_bytes())?;
            writer.put(&vid.to_be_bytes())?;
        }
        let port = path.endpoint.port();
        let sum = match (path.source, path.endpoint.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                writer.put(&ETHERTYPE_IPV4.to_be_bytes())?;
                let mut header = Ipv4 {
                    source,
                    destination,
                    protocol: PROTOCOL_UDP,
                    ttl: TTL,
                    dont_fragment: true,
                    fragment: false,
                    header_len: IPV4_LEN,
                    total_len: 0,
                }
                .emit();
                header[IPV4_CHECKSUM..IPV4_CHECKSUM + 2].fill(0);
                writer.put(&header)?;
                checksum::add(0, &header)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                writer.put(&ETHERTYPE_IPV6.to_be_bytes())?;
                let (next_header, hop_limit, payload_len) = (PROTOCOL_UDP, TTL, 0);
                let ip = Ipv6 {
                    source,
                    destination,
                    next_header,
                    hop_limit,
                    payload_len,
                };
                writer.put(&ip.emit())?;
                let pseudo = pseudo_header(path.source, path.endpoint.ip(), PROTOCOL_UDP, 0);
                pseudo + u64::from(port)
            }
            _ => return None,
        };
        writer.put(&[0, 0])?;
        writer.put(&port.to_be_bytes())?;
        writer.put(&[0; 4])?;
        Some(Self {
            octets: writer.octets,
            len: writer.len,
            sum,
            endpoint: path.endpoint,
            source: path.source,
        })
    }

    /// Octets of outer headers before the message: 42, 46 (tagged), 62 or 66 (tagged).
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "headers are never empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Where the messages go.
    #[inline]
    #[must_use]
    pub const fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// The address of ours that the messages leave from.
    #[inline]
    #[must_use]
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// Whether the outer packet is IPv6, and its UDP checksum covers the message.
    #[inline]
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.endpoint.is_ipv6()
    }

    /// Writes the outer headers at the start of `frame`, the whole outer frame with its message
    /// in place behind them. Over IPv6 the message must be final: its checksum covers it.
    ///
    /// `ds_field` is the octet of DSCP and ECN (RFC 2474 s.3, RFC 3168 s.5): TOS over IPv4, traffic
    /// class over IPv6.
    ///
    /// False, and nothing written, when the frame has no room for the headers or is longer than
    /// IP can say; it must not be sent then.
    #[inline]
    #[must_use = "a frame without its headers must not be sent"]
    pub fn emit(&self, frame: &mut [u8], source_port: u16, ds_field: u8) -> bool {
        // Lengths that the compiler knows: headers are then moved in registers.
        let done = match self.len {
            OUTER_IPV4 => self.emit_ipv4::<ETHERNET_LEN>(frame, source_port, ds_field),
            TAGGED_IPV4 => self.emit_ipv4::<TAGGED_LEN>(frame, source_port, ds_field),
            OUTER_IPV6 => self.emit_ipv6::<ETHERNET_LEN>(frame, source_port, ds_field),
            _ => self.emit_ipv6::<TAGGED_LEN>(frame, source_port, ds_field),
        };
        done.is_some()
    }

    #[inline]
    fn emit_ipv4<const LINK: usize>(
        &self,
        frame: &mut [u8],
        source_port: u16,
        ds_field: u8,
    ) -> Option<()> {
        let (link, rest) = frame.split_first_chunk_mut::<LINK>()?;
        let total_len = u16::try_from(rest.len()).ok()?;
        let (ip, rest) = rest.split_first_chunk_mut::<IPV4_LEN>()?;
        let udp = rest.first_chunk_mut::<UDP_LEN>()?;
        let (link_template, ip_template, udp_template) = self.parts::<LINK, IPV4_LEN>()?;
        *link = *link_template;
        *ip = *ip_template;
        let sum = !checksum::fold(self.sum + u64::from(ds_field) + u64::from(total_len));
        ip[IPV4_DS_FIELD] = ds_field;
        ip[IPV4_TOTAL_LEN..IPV4_TOTAL_LEN + 2].copy_from_slice(&total_len.to_be_bytes());
        ip[IPV4_CHECKSUM..IPV4_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
        // The checksum stays 0, "none" (RFC 768): the tag of the message authenticates it.
        *udp = udp_header(udp_template, source_port, total_len - IPV4_LEN as u16, 0);
        Some(())
    }

    fn emit_ipv6<const LINK: usize>(
        &self,
        frame: &mut [u8],
        source_port: u16,
        ds_field: u8,
    ) -> Option<()> {
        let (link, rest) = frame.split_first_chunk_mut::<LINK>()?;
        let (ip, rest) = rest.split_first_chunk_mut::<IPV6_LEN>()?;
        let udp_len = u16::try_from(rest.len()).ok()?;
        let (udp, message) = rest.split_first_chunk_mut::<UDP_LEN>()?;
        let (link_template, ip_template, udp_template) = self.parts::<LINK, IPV6_LEN>()?;
        *link = *link_template;
        *ip = *ip_template;
        let first = 0x6000_0000 | u32::from(ds_field) << 20 | flow_label(source_port);
        ip[..4].copy_from_slice(&first.to_be_bytes());
        ip[IPV6_PAYLOAD_LEN..IPV6_PAYLOAD_LEN + 2].copy_from_slice(&udp_len.to_be_bytes());
        // The length counts twice: in the pseudo-header and in the UDP header.
        let sum = self.sum + u64::from(source_port) + 2 * u64::from(udp_len);
        // 0 would mean "none", which a peer's kernel refuses over IPv6 (RFC 8200 s.8.1).
        let sum = match !checksum::fold(checksum::add(sum, message)) {
            0 => 0xffff,
            sum => sum,
        };
        *udp = udp_header(udp_template, source_port, udp_len, sum);
        Some(())
    }

    /// Whether a frame whose message begins at `payload` came from where the template sends to, and
    /// to where it sends from; at first sight: `false` says nothing, as headers may differ in form.
    #[inline]
    #[must_use]
    pub fn is_answered_by(&self, frame: &[u8], payload: usize) -> bool {
        let answers = match self.len {
            OUTER_IPV4 => self.meets::<OUTER_IPV4, 4>(frame),
            TAGGED_IPV4 => self.meets::<TAGGED_IPV4, 4>(frame),
            OUTER_IPV6 => self.meets::<OUTER_IPV6, 16>(frame),
            _ => self.meets::<OUTER_MAX, 16>(frame),
        };
        payload == self.len && answers == Some(true)
    }

    /// The same for headers of `LEN` octets with addresses of `IP` octets.
    #[inline]
    fn meets<const LEN: usize, const IP: usize>(&self, frame: &[u8]) -> Option<bool> {
        let (ours, theirs) = (
            self.octets.first_chunk::<LEN>()?,
            frame.first_chunk::<LEN>()?,
        );
        let (ethertype, udp) = (ETHERNET_LEN - 2..ETHERNET_LEN, LEN - UDP_LEN);
        let (source, destination) = (udp - 2 * IP..udp - IP, udp - IP..udp);
        Some(
            ours[ethertype.clone()] == theirs[ethertype]
                && ours[source.clone()] == theirs[destination.clone()]
                && ours[destination] == theirs[source]
                && ours[udp + 2..udp + 4] == theirs[udp..udp + 2],
        )
    }

    /// The template's Ethernet header, IP header and UDP header.
    #[inline]
    fn parts<const LINK: usize, const IP: usize>(
        &self,
    ) -> Option<(&[u8; LINK], &[u8; IP], &[u8; UDP_LEN])> {
        let (link, rest) = self.octets.split_first_chunk()?;
        let (ip, rest) = rest.split_first_chunk()?;
        Some((link, ip, rest.first_chunk()?))
    }
}

/// A UDP header: what changes from frame to frame, with the template's destination port.
#[inline]
fn udp_header(template: &[u8; UDP_LEN], source_port: u16, len: u16, sum: u16) -> [u8; UDP_LEN] {
    let [_, _, d0, d1, ..] = *template;
    let ([s0, s1], [l0, l1], [c0, c1]) = (
        source_port.to_be_bytes(),
        len.to_be_bytes(),
        sum.to_be_bytes(),
    );
    [s0, s1, d0, d1, l0, l1, c0, c1]
}

/// A flow label for each source port, so that routers that hash labels rather than ports spread
/// lanes over parallel links too (RFC 6438 s.3). Spread by a multiplication, as labels should be
/// hard to tell from random ones (RFC 6437 s.3).
#[inline]
const fn flow_label(source_port: u16) -> u32 {
    (source_port as u32).wrapping_mul(0x9e37_79b1) >> 12
}

/// Appends to the octets of a template.
struct Writer {
    octets: [u8; OUTER_MAX],
    len: usize,
}

impl Writer {
    fn put(&mut self, piece: &[u8]) -> Option<()> {
        let end = self.len + piece.len();
        self.octets.get_mut(self.len..end)?.copy_from_slice(piece);
        self.len = end;
        Some(())
    }
}

/// What the outer headers of a received frame say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outer {
    /// From whom.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// VLAN id of the tag, `None` for untagged and priority-tagged frames.
    pub vlan: Option<u16>,
    /// The octet of DSCP and ECN: TOS over IPv4, traffic class over IPv6.
    pub ds_field: u8,
    /// Where the message begins: the payload of UDP.
    pub payload: usize,
    /// Where it ends. Ethernet padding is beyond.
    pub end: usize,
}

impl Outer {
    /// Reads the outer headers of a frame that begins with its destination MAC.
    ///
    /// Checksums are not verified: the tag of the message authenticates it, and a wrong address
    /// only makes it look as if the peer had moved to where it does not answer from.
    ///
    /// # Errors
    /// [`DropReason::OuterMalformed`] for anything but a whole UDP datagram in IPv4 (options are
    /// allowed) or IPv6 (extension headers are not), in a frame with at most one VLAN tag.
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        Self::read(frame).ok_or(DropReason::OuterMalformed)
    }

    fn read(frame: &[u8]) -> Option<Self> {
        let ethernet = Ethernet::parse(frame)
            .ok()
            .filter(|ethernet| ethernet.tags <= 1)?;
        let packet = frame.get(ethernet.payload_offset..)?;
        let (source, destination, ds_field, ip_len, packet_len) = match ethernet.ethertype {
            ETHERTYPE_IPV4 => {
                let ip = Ipv4::parse(packet)?;
                if ip.protocol != PROTOCOL_UDP || ip.fragment {
                    return None;
                }
                (
                    IpAddr::V4(ip.source),
                    IpAddr::V4(ip.destination),
                    *packet.get(IPV4_DS_FIELD)?,
                    ip.header_len,
                    ip.total_len,
                )
            }
            ETHERTYPE_IPV6 => {
                let ip = Ipv6::parse(packet)?;
                if ip.next_header != PROTOCOL_UDP {
                    return None;
                }
                let packet_len = IPV6_LEN + ip.payload_len;
                (
                    IpAddr::V6(ip.source),
                    IpAddr::V6(ip.destination),
                    ipv6_ds_field(packet)?,
                    IPV6_LEN,
                    packet_len,
                )
            }
            _ => return None,
        };
        let datagram = packet.get(ip_len..packet_len)?;
        let &[s0, s1, d0, d1, l0, l1, _, _] = datagram.first_chunk()?;
        let udp_len = usize::from(u16::from_be_bytes([l0, l1]));
        if udp_len < UDP_LEN || udp_len > datagram.len() {
            return None;
        }
        let udp = ethernet.payload_offset + ip_len;
        Some(Self {
            source: SocketAddr::new(source, u16::from_be_bytes([s0, s1])),
            destination: SocketAddr::new(destination, u16::from_be_bytes([d0, d1])),
            vlan: (ethernet.vlan != 0).then_some(ethernet.vlan),
            ds_field,
            payload: udp + UDP_LEN,
            end: udp + udp_len,
        })
    }
}

/// Where the message is in a received frame, and what routers did to it: what a message in a
/// session needs of its outer headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    /// As [`Outer::ds_field`].
    pub ds_field: u8,
    /// As [`Outer::payload`].
    pub payload: usize,
    /// As [`Outer::end`].
    pub end: usize,
}

impl Located {
    /// Reads the outer headers of a frame that begins with its destination MAC, but for their
    /// addresses.
    ///
    /// # Errors
    /// As [`Outer::parse`].
    #[inline]
    pub fn parse(frame: &[u8]) -> Result<Self, DropReason> {
        match Self::read_usual(frame) {
            Some(located) => Ok(located),
            None => Outer::parse(frame).map(Self::from),
        }
    }

    /// The usual case, with all fields at known places: untagged IPv4 without options. `None` for
    /// all else, malformed or not.
    #[inline]
    fn read_usual(frame: &[u8]) -> Option<Self> {
        let (link, packet) = frame.split_first_chunk::<ETHERNET_LEN>()?;
        let &[.., t0, t1] = link;
        let ip = Ipv4::parse(packet)?;
        let is_usual = u16::from_be_bytes([t0, t1]) == ETHERTYPE_IPV4
            && ip.header_len == IPV4_LEN
            && ip.protocol == PROTOCOL_UDP
            && !ip.fragment;
        let headers: &[u8; IPV4_LEN + UDP_LEN] = packet.first_chunk().filter(|_| is_usual)?;
        let &[_, ds_field, .., l0, l1, _, _] = headers;
        let udp_len = usize::from(u16::from_be_bytes([l0, l1]));
        let is_whole = UDP_LEN <= udp_len && IPV4_LEN + udp_len <= ip.total_len;
        is_whole.then_some(Self {
            ds_field,
            payload: OUTER_IPV4,
            end: OUTER_IPV4 - UDP_LEN + udp_len,
        })
    }
}

impl From<Outer> for Located {
    fn from(outer: Outer) -> Self {
        Self {
            ds_field: outer.ds_field,
            payload: outer.payload,
            end: outer.end,
        }
    }
}

/// Outer headers of datagrams that came by a socket, which keeps the real ones to itself: what
/// [`Outer::parse`] reads is in them, and all else is zero. Never sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StandIn {
    octets: [u8; OUTER_MAX],
    len: usize,
    is_ipv6: bool,
}

impl StandIn {
    /// Headers from `source` to `destination`; `None` when they are not of one family.
    #[must_use]
    pub fn new(source: SocketAddr, destination: SocketAddr, ds_field: u8) -> Option<Self> {
        let path = Path {
            source_mac: MacAddr::ZERO,
            next_hop_mac: MacAddr::ZERO,
            vlan: None,
            source: source.ip(),
            source_port: source.port(),
            endpoint: destination,
        };
        let template = Template::new(&path)?;
        let (mut octets, len) = (template.octets, template.len);
        let is_ipv6 = source.is_ipv6();
        let udp = len - UDP_LEN;
        octets[udp..udp + 2].copy_from_slice(&source.port().to_be_bytes());
        if is_ipv6 {
            let ip = udp - IPV6_LEN;
            octets[ip] |= ds_field >> 4;
            octets[ip + 1] |= ds_field << 4;
        } else {
            octets[udp - IPV4_LEN + IPV4_DS_FIELD] = ds_field;
        }
        Some(Self {
            octets,
            len,
            is_ipv6,
        })
    }

    /// Octets of the headers.
    #[inline]
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "headers are never empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Writes the headers and a message behind them to `frame`, which must have as many octets as
    /// both together and is longer than IP can say only when the message was.
    ///
    /// # Panics
    /// When `frame` is of another length.
    #[inline]
    pub fn emit(&self, message: &[u8], frame: &mut [u8]) {
        let (headers, payload) = frame.split_at_mut(self.len);
        headers.copy_from_slice(&self.octets[..self.len]);
        payload.copy_from_slice(message);
        let udp = self.len - UDP_LEN;
        let udp_len = (UDP_LEN + message.len()) as u16;
        headers[udp + 4..udp + 6].copy_from_slice(&udp_len.to_be_bytes());
        let (field, value) = if self.is_ipv6 {
            (udp - IPV6_LEN + IPV6_PAYLOAD_LEN, udp_len)
        } else {
            let total_len = udp_len.wrapping_add(IPV4_LEN as u16);
            (udp - IPV4_LEN + IPV4_TOTAL_LEN, total_len)
        };
        headers[field..field + 2].copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
