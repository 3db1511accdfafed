//! The reference: definitions written down, one octet after the other, allocating what they like.

/// The sum of 16-bit words as RFC 1071 defines it.
pub(crate) fn sum(octets: &[u8]) -> u64 {
    octets
        .chunks(2)
        .map(|pair| u64::from(pair[0]) * 256 + u64::from(*pair.get(1).unwrap_or(&0)))
        .sum()
}

/// The ones' complement of a sum with its carries added back.
pub(crate) fn complement(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = sum % 0x1_0000 + sum / 0x1_0000;
    }
    0xffff - sum as u16
}

/// The sum of the pseudo-header of a packet.
pub(crate) fn pseudo_header(packet: &[u8], protocol: u8, len: usize) -> u64 {
    let addresses = if packet[0] / 16 == 4 {
        &packet[12..20]
    } else {
        &packet[8..40]
    };
    sum(addresses) + u64::from(protocol) + len as u64
}

fn number(octets: &[u8], at: usize, len: usize) -> u64 {
    octets[at..at + len]
        .iter()
        .fold(0, |value, octet| value * 256 + u64::from(*octet))
}

fn put(octets: &mut [u8], at: usize, len: usize, value: u64) {
    for place in 0..len {
        octets[at + place] = (value / 256u64.pow((len - 1 - place) as u32) % 256) as u8;
    }
}

/// Where things are in a frame that was made well: IP header, transport header, payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Places {
    pub(crate) ip: usize,
    pub(crate) transport: usize,
    pub(crate) payload: usize,
    pub(crate) protocol: u8,
}

pub(crate) fn places(frame: &[u8]) -> Places {
    let mut ip = 14;
    while [0x8100, 0x88a8].contains(&number(frame, ip - 2, 2)) {
        ip += 4;
    }
    let (mut transport, mut protocol) = if frame[ip] / 16 == 4 {
        (ip + usize::from(frame[ip] % 16) * 4, frame[ip + 9])
    } else {
        (ip + 40, frame[ip + 6])
    };
    while [0, 43, 60].contains(&protocol) {
        protocol = frame[transport];
        transport += 8 + 8 * usize::from(frame[transport + 1]);
    }
    let payload = match protocol {
        6 => transport + usize::from(frame[transport + 12] / 16) * 4,
        _ => transport + 8,
    };
    Places {
        ip,
        transport,
        payload,
        protocol,
    }
}

/// Writes lengths and checksums of a frame anew.
fn mend(frame: &mut [u8]) {
    let Places {
        ip,
        transport,
        protocol,
        ..
    } = places(frame);
    let len = frame.len() - ip;
    if frame[ip] / 16 == 4 {
        put(frame, ip + 2, 2, len as u64);
        put(frame, ip + 10, 2, 0);
        let value = complement(sum(&frame[ip..transport]));
        put(frame, ip + 10, 2, u64::from(value));
    } else {
        put(frame, ip + 4, 2, len as u64 - 40);
    }
    let segment_len = frame.len() - transport;
    let field = transport + if protocol == 6 { 16 } else { 6 };
    if protocol == 17 {
        put(frame, transport + 4, 2, segment_len as u64);
    }
    put(frame, field, 2, 0);
    let pseudo = pseudo_header(&frame[ip..], protocol, segment_len);
    let mut value = complement(pseudo + sum(&frame[transport..]));
    if protocol == 17 && value == 0 {
        value = 0xffff;
    }
    put(frame, field, 2, u64::from(value));
}

/// The segments of a super-frame.
pub(crate) fn segments(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    let Places {
        ip,
        transport,
        payload,
        protocol,
    } = places(frame);
    let (header, octets) = frame.split_at(payload);
    let mut pieces: Vec<&[u8]> = octets.chunks(size).collect();
    if pieces.is_empty() {
        pieces.push(&[]);
    }
    let last = pieces.len() - 1;
    let mut made = Vec::new();
    for (index, piece) in pieces.into_iter().enumerate() {
        let mut segment = [header, piece].concat();
        if frame[ip] / 16 == 4 {
            let id = number(frame, ip + 4, 2) + index as u64;
            put(&mut segment, ip + 4, 2, id % 0x1_0000);
        }
        if protocol == 6 {
            let sequence = number(frame, transport + 4, 4) + (index * size) as u64;
            put(&mut segment, transport + 4, 4, sequence % 0x1_0000_0000);
            let mut flags = frame[transport + 13];
            if index > 0 {
                flags &= 0x7f;
            }
            if index < last {
                flags &= 0xff - 0x08 - 0x01;
            }
            segment[transport + 13] = flags;
        }
        mend(&mut segment);
        made.push(segment);
    }
    made
}

/// What comes out of a coalescer: kind, segment size, and the frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Out {
    /// `gso_type`, 0 for a frame that went alone.
    pub(crate) gso_type: u8,
    pub(crate) size: usize,
    pub(crate) octets: Vec<u8>,
}

/// What a flow is known by: addresses, protocol, ports.
type Key = (Vec<u8>, u8, Vec<u8>);

/// What a frame is to a flow.
enum Kind {
    Foreign,
    Between(Vec<u8>),
    Of(Key),
}

/// One open flow.
struct Open {
    key: Key,
    frames: Vec<Vec<u8>>,
}

/// Coalesces a burst.
pub(crate) fn coalesce(burst: &[Vec<u8>], udp: bool) -> Vec<Out> {
    let mut open: Vec<Open> = Vec::new();
    let mut out = Vec::new();
    for frame in burst {
        let alone = Out {
            gso_type: 0,
            size: 0,
            octets: frame.clone(),
        };
        match kind(frame, udp) {
            Kind::Foreign => out.push(alone),
            Kind::Between(addresses) => {
                let (closed, rest) = open
                    .into_iter()
                    .partition(|flow: &Open| flow.key.0 == addresses);
                open = rest;
                out.extend(closed.iter().map(merge));
                out.push(alone);
            }
            Kind::Of(key) => {
                let good = is_good(frame);
                if let Some(at) = open.iter().position(|flow| flow.key == key) {
                    if good && follows(&open[at].frames, frame) {
                        open[at].frames.push(frame.clone());
                        if ends(&open[at].frames[0], frame) {
                            out.push(merge(&open.remove(at)));
                        }
                        continue;
                    }
                    out.push(merge(&open.remove(at)));
                }
                let at = places(frame);
                let pushes = at.protocol == 6 && frame[at.transport + 13] & 0x08 != 0;
                if !good || pushes {
                    out.push(alone);
                    continue;
                }
                if open.len() == 8 {
                    out.push(merge(&open.remove(0)));
                }
                let frames = vec![frame.clone()];
                open.push(Open { key, frames });
            }
        }
    }
    out.extend(open.iter().map(merge));
    out
}

/// Where the IP header begins and the packet ends, if it is a packet at all.
fn packet(frame: &[u8]) -> Option<(usize, usize)> {
    let mut ip = 14;
    while frame.len() >= ip && [0x8100, 0x88a8].contains(&number(frame, ip - 2, 2)) {
        ip += 4;
    }
    if ip > 22 || frame.len() < ip + 20 {
        return None;
    }
    let vlans = (0..(ip - 14) / 4).map(|tag| number(frame, 14 + 4 * tag, 2) % 4096);
    let vlans: Vec<u64> = vlans.collect();
    if vlans.contains(&4095) || vlans.len() == 2 && vlans.contains(&0) {
        return None;
    }
    let (header, len) = match (number(frame, ip - 2, 2), frame[ip] / 16) {
        (0x0800, 4) => {
            let header = usize::from(frame[ip] % 16) * 4;
            (header, number(frame, ip + 2, 2) as usize)
        }
        (0x86dd, 6) => (40, 40 + number(frame, ip + 4, 2) as usize),
        _ => return None,
    };
    let fits = header >= 20 && len >= header && ip + len <= frame.len();
    fits.then_some((ip, ip + len))
}

fn kind(frame: &[u8], udp: bool) -> Kind {
    let Some((ip, end)) = packet(frame) else {
        return Kind::Foreign;
    };
    let is_v4 = frame[ip] / 16 == 4;
    let (addresses, protocol, transport, fragment) = if is_v4 {
        let transport = ip + usize::from(frame[ip] % 16) * 4;
        let fragment = number(frame, ip + 6, 2) & 0x3fff != 0;
        (12..20, frame[ip + 9], transport, fragment)
    } else {
        (8..40, frame[ip + 6], ip + 40, false)
    };
    let addresses = frame[ip + addresses.start..ip + addresses.end].to_vec();
    let least = match protocol {
        6 => 20,
        17 if udp => 8,
        17 | 58 => return Kind::Foreign,
        _ if is_v4 => return Kind::Foreign,
        _ => return Kind::Between(addresses),
    };
    if fragment || end - transport < least {
        return Kind::Between(addresses);
    }
    let ports = frame[transport..transport + 4].to_vec();
    Kind::Of((addresses, protocol, ports))
}

/// Whether a frame of a flow may be part of a super-frame at all.
fn is_good(frame: &[u8]) -> bool {
    let (ip, end) = packet(frame).expect("a packet");
    let at = places(frame);
    let plain = at.transport - ip == if frame[ip] / 16 == 4 { 20 } else { 40 };
    if !plain || end != frame.len() {
        return false;
    }
    let segment = &frame[at.transport..];
    let shape = match at.protocol {
        6 => at.payload - at.transport >= 20 && segment[13] & 0x27 == 0,
        _ => number(segment, 4, 2) as usize == segment.len() && number(segment, 6, 2) != 0,
    };
    let has_payload = at.payload < frame.len();
    let header = frame[ip] / 16 == 6 || complement(sum(&frame[ip..at.transport])) == 0;
    let pseudo = pseudo_header(&frame[ip..], at.protocol, segment.len());
    shape && has_payload && header && complement(pseudo + sum(segment)) == 0
}

/// Whether a frame follows what is open: whether segmentation of both together makes it again.
fn follows(open: &[Vec<u8>], frame: &[u8]) -> bool {
    let first = &open[0];
    let last = &open[open.len() - 1];
    let at = places(first);
    if places(frame) != at || frame.len() > first.len() || open.len() == 64 {
        return false;
    }
    let octets: usize = open.iter().map(|one| one.len() - at.payload).sum();
    if at.payload - at.ip + octets + (frame.len() - at.payload) > 65_535 {
        return false;
    }
    // What the next frame would have in its headers, from the first one's.
    let mut header = first[..at.payload].to_vec();
    let mut given = frame[..at.payload].to_vec();
    if first[at.ip] / 16 == 4 {
        let next = (number(last, at.ip + 4, 2) + 1) % 0x1_0000;
        let atomic = first[at.ip + 6] & 0x40 != 0;
        let id = if atomic {
            number(frame, at.ip + 4, 2)
        } else {
            next
        };
        put(&mut header, at.ip + 4, 2, id);
        for (place, len) in [(2, 2), (10, 2)] {
            put(&mut header, at.ip + place, len, 0);
            put(&mut given, at.ip + place, len, 0);
        }
    } else {
        put(&mut header, at.ip + 4, 2, 0);
        put(&mut given, at.ip + 4, 2, 0);
    }
    if at.protocol == 6 {
        let sequence = number(first, at.transport + 4, 4) + octets as u64;
        put(&mut header, at.transport + 4, 4, sequence % 0x1_0000_0000);
        header[at.transport + 13] &= 0x7f;
        header[at.transport + 13] |= frame[at.transport + 13] & 0x08;
        put(&mut header, at.transport + 16, 2, 0);
        put(&mut given, at.transport + 16, 2, 0);
    } else {
        put(&mut header, at.transport + 4, 4, 0);
        put(&mut given, at.transport + 4, 4, 0);
    }
    header == given
}

/// Whether nothing may follow a frame.
fn ends(first: &[u8], frame: &[u8]) -> bool {
    let at = places(frame);
    let pushes = at.protocol == 6 && frame[at.transport + 13] & 0x08 != 0;
    pushes || frame.len() < first.len()
}

/// The super-frame of a flow.
fn merge(flow: &Open) -> Out {
    let first = &flow.frames[0];
    let at = places(first);
    if flow.frames.len() == 1 {
        return Out {
            gso_type: 0,
            size: 0,
            octets: first.clone(),
        };
    }
    let mut octets = first.clone();
    for frame in &flow.frames[1..] {
        octets.extend(&frame[at.payload..]);
        if at.protocol == 6 {
            octets[at.transport + 13] |= frame[at.transport + 13] & 0x08;
        }
    }
    mend(&mut octets);
    let (field, mut gso_type) = match (at.protocol, first[at.ip] / 16) {
        (6, 4) => (16, 1),
        (6, _) => (16, 4),
        _ => (6, 5),
    };
    if at.protocol == 6 && octets[at.transport + 13] & 0x80 != 0 {
        gso_type |= 0x80;
    }
    let len = octets.len() - at.transport;
    let partial = !complement(pseudo_header(&octets[at.ip..], at.protocol, len));
    put(&mut octets, at.transport + field, 2, u64::from(partial));
    Out {
        gso_type,
        size: first.len() - at.payload,
        octets,
    }
}

/// Whether a frame is a packet of TCP or UDP whose headers are there, so that its flow is known.
pub(crate) fn is_whole(frame: &[u8]) -> bool {
    packet(frame).is_some() && matches!(kind(frame, true), Kind::Of(_))
}
