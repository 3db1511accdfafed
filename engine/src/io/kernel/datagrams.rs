//! `sendmmsg` and `recvmmsg` with what UDP's offloads need: datagrams of one length that the kernel
//! cuts apart or has put together, and the addresses and DS field of each.
//!
//! Structures and numbers are those of the kernel's `include/uapi/linux/udp.h` and of RFC 3542.

use std::io::{self, IoSlice};
use std::mem::{size_of, size_of_val};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use arrayvec::ArrayVec;

/// Messages of one call.
pub(super) const MESSAGES_MAX: usize = 64;
/// Datagrams that the kernel cuts one sending into at most (`UDP_MAX_SEGMENTS`; 64 before 6.7).
pub(super) const SEGMENTS_MAX: usize = 64;
/// Octets of one sending at most: what is left of an IPv4 packet.
pub(super) const PAYLOAD_MAX: usize = 65_507;
/// Octets of control messages: packet information of either family, DS field, segment size, and a
/// count of drops, with room to spare.
const CONTROL_LEN: usize = 128;

/// Control messages, one after another, as the kernel aligns them.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control {
    octets: [u8; CONTROL_LEN],
}

/// Octets of a header of a control message: length, level, type.
const CMSG_HEADER: usize = size_of::<libc::cmsghdr>();

const fn aligned(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

/// Control messages that are being written.
struct ControlWriter {
    control: Control,
    len: usize,
}

impl ControlWriter {
    fn new() -> Self {
        let octets = [0; CONTROL_LEN];
        Self {
            control: Control { octets },
            len: 0,
        }
    }

    fn put(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let out = &mut self.control.octets[self.len..];
        let len = CMSG_HEADER + data.len();
        out[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
        out[CMSG_HEADER - 8..CMSG_HEADER - 4].copy_from_slice(&level.to_ne_bytes());
        out[CMSG_HEADER - 4..CMSG_HEADER].copy_from_slice(&kind.to_ne_bytes());
        out[CMSG_HEADER..len].copy_from_slice(data);
        self.len += aligned(len);
    }
}

/// The control messages in `octets`: level, type and data of each.
fn control_messages(mut octets: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    std::iter::from_fn(move || {
        let header = octets.get(..CMSG_HEADER)?;
        let len = usize::from_ne_bytes(*header.first_chunk()?);
        let level = i32::from_ne_bytes(*header[CMSG_HEADER - 8..].first_chunk()?);
        let kind = i32::from_ne_bytes(*header[CMSG_HEADER - 4..].first_chunk()?);
        let data = octets.get(CMSG_HEADER..len)?;
        octets = octets.get(aligned(len)..).unwrap_or_default();
        Some((level, kind, data))
    })
}

/// An address as the kernel takes and gives it.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    fn new(address: SocketAddr) -> (Self, libc::socklen_t) {
        match address {
            SocketAddr::V4(address) => {
                // SAFETY: all-zero octets are a valid `sockaddr_in`.
                let mut v4: libc::sockaddr_in = unsafe { std::mem::zeroed() };
                v4.sin_family = libc::AF_INET as libc::sa_family_t;
                v4.sin_port = address.port().to_be();
                v4.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
                (Self { v4 }, size_of_val(&v4) as libc::socklen_t)
            }
            SocketAddr::V6(address) => {
                // SAFETY: all-zero octets are a valid `sockaddr_in6`.
                let mut v6: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
                v6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                v6.sin6_port = address.port().to_be();
                v6.sin6_addr.s6_addr = address.ip().octets();
                v6.sin6_scope_id = address.scope_id();
                (Self { v6 }, size_of_val(&v6) as libc::socklen_t)
            }
        }
    }

    fn zeroed() -> Self {
        // SAFETY: all-zero octets are a valid union of socket addresses.
        unsafe { std::mem::zeroed() }
    }

    /// `None` when it is of neither family.
    fn address(&self) -> Option<SocketAddr> {
        // SAFETY: the family is at the start of both, and all octets are initialised.
        let family = libc::c_int::from(unsafe { self.v4.sin_family });
        match family {
            libc::AF_INET => {
                // SAFETY: the kernel wrote a `sockaddr_in`, of which any octets are valid.
                let v4 = unsafe { self.v4 };
                let ip = IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(ip, u16::from_be(v4.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: likewise a `sockaddr_in6`.
                let v6 = unsafe { self.v6 };
                let ip = IpAddr::from(v6.sin6_addr.s6_addr);
                Some(SocketAddr::new(ip, u16::from_be(v6.sin6_port)))
            }
            _ => None,
        }
    }
}

/// Datagrams of one length, the last maybe shorter, from one address to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending<'a> {
    pub(super) destination: SocketAddr,
    /// The address of ours that they leave from.
    pub(super) source: IpAddr,
    /// TOS or traffic class.
    pub(super) ds_field: u8,
    /// Octets of each but the last.
    pub(super) size: usize,
    pub(super) pieces: &'a [IoSlice<'a>],
}

impl Sending<'_> {
    fn control(&self) -> ControlWriter {
        let mut control = ControlWriter::new();
        let ds_field = libc::c_int::from(self.ds_field).to_ne_bytes();
        match self.source {
            IpAddr::V4(source) => {
                // `struct in_pktinfo`: interface, address to send from, destination.
                let mut information = [0; 12];
                information[4..8].copy_from_slice(&source.octets());
                control.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &information);
                control.put(libc::IPPROTO_IP, libc::IP_TOS, &ds_field);
            }
            IpAddr::V6(source) => {
                // `struct in6_pktinfo`: address, interface.
                let mut information = [0; 20];
                information[..16].copy_from_slice(&source.octets());
                control.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &information);
                control.put(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &ds_field);
            }
        }
        if self.pieces.len() > 1 {
            let size = (self.size as u16).to_ne_bytes();
            control.put(libc::SOL_UDP, libc::UDP_SEGMENT, &size);
        }
        control
    }
}

/// Sends up to [`MESSAGES_MAX`] sendings, in order. Says how many the kernel took before the first
/// that it did not, and why it did not.
pub(super) fn send(socket: BorrowedFd<'_>, sendings: &[Sending<'_>]) -> (usize, Option<io::Error>) {
    let sendings = &sendings[..sendings.len().min(MESSAGES_MAX)];
    let mut names: ArrayVec<(Name, libc::socklen_t), MESSAGES_MAX> = ArrayVec::new();
    let mut controls: ArrayVec<ControlWriter, MESSAGES_MAX> = ArrayVec::new();
    for sending in sendings {
        names.push(Name::new(sending.destination));
        controls.push(sending.control());
    }
    let mut messages: ArrayVec<libc::mmsghdr, MESSAGES_MAX> = ArrayVec::new();
    for ((sending, (name, name_len)), control) in sendings.iter().zip(&mut names).zip(&mut controls)
    {
        // SAFETY: all-zero octets are a valid `mmsghdr`.
        let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
        message.msg_hdr.msg_name = (&raw mut *name).cast();
        message.msg_hdr.msg_namelen = *name_len;
        // An `IoSlice` is an `iovec`, as its documentation says. Nothing is written through it.
        message.msg_hdr.msg_iov = sending.pieces.as_ptr().cast_mut().cast();
        message.msg_hdr.msg_iovlen = sending.pieces.len() as _;
        message.msg_hdr.msg_control = (&raw mut control.control).cast();
        message.msg_hdr.msg_controllen = control.len as _;
        messages.push(message);
    }
    let (first, count) = (messages.as_mut_ptr(), messages.len() as libc::c_uint);
    let flags = libc::MSG_DONTWAIT as _;
    // SAFETY: `first` points to `count` live messages, whose names, pieces and control messages
    // are alive and as long as they say.
    let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), first, count, flags) };
    match usize::try_from(sent) {
        Ok(sent) => (sent, None),
        Err(_) => (0, Some(io::Error::last_os_error())),
    }
}

/// What is known of datagrams that arrived, together if the kernel has put them together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arrived {
    /// Octets of all of them.
    pub(super) len: usize,
    /// Octets of each but the last, which may have less.
    pub(super) size: usize,
    pub(super) source: SocketAddr,
    /// The address of ours that they came to.
    pub(super) local: IpAddr,
    /// TOS or traffic class.
    pub(super) ds_field: u8,
}

/// What one call received.
#[derive(Debug)]
pub(super) struct Received<const N: usize> {
    /// What is in each buffer; `None` where the kernel did not say all that is to be known.
    pub(super) arrived: ArrayVec<Option<Arrived>, N>,
    /// Datagrams that the socket had no room for since it was made, where that was told.
    pub(super) dropped: Option<u32>,
}

/// Receives what is there, up to one message for each of the buffers.
pub(super) fn receive<const N: usize>(
    socket: BorrowedFd<'_>,
    buffers: &mut [Box<[u8]>; N],
) -> io::Result<Received<N>> {
    let octets = [0; CONTROL_LEN];
    let (mut names, mut controls) = ([Name::zeroed(); N], [Control { octets }; N]);
    let mut slices = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; N];
    // SAFETY: all-zero octets are a valid `mmsghdr`.
    let mut messages: [libc::mmsghdr; N] = unsafe { std::mem::zeroed() };
    for n in 0..N {
        slices[n].iov_base = buffers[n].as_mut_ptr().cast();
        slices[n].iov_len = buffers[n].len();
        let header = &mut messages[n].msg_hdr;
        header.msg_name = (&raw mut names[n]).cast();
        header.msg_namelen = size_of::<Name>() as libc::socklen_t;
        header.msg_iov = &raw mut slices[n];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[n]).cast();
        header.msg_controllen = CONTROL_LEN as _;
    }
    let (first, flags) = (messages.as_mut_ptr(), libc::MSG_DONTWAIT as _);
    let (count, no_time) = (N as libc::c_uint, std::ptr::null_mut());
    // SAFETY: `first` points to `count` live messages, whose names, buffers and room for control
    // messages are alive, nobody else's, and as long as they say.
    let received = unsafe { libc::recvmmsg(socket.as_raw_fd(), first, count, flags, no_time) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let mut all = Received {
        arrived: ArrayVec::new(),
        dropped: None,
    };
    for ((message, name), control) in messages.iter().zip(&names).zip(&controls).take(received) {
        let control = &control.octets[..message.msg_hdr.msg_controllen];
        let len = message.msg_len as usize;
        all.arrived
            .push(understand(name.address(), control, len, &mut all.dropped));
    }
    Ok(all)
}

/// What the control messages say.
fn understand(
    source: Option<SocketAddr>,
    control: &[u8],
    len: usize,
    dropped: &mut Option<u32>,
) -> Option<Arrived> {
    let (mut local, mut ds_field, mut size) = (None, 0, len);
    for (level, kind, data) in control_messages(control) {
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let address: [u8; 4] = *data.get(4..)?.first_chunk()?;
                local = Some(IpAddr::from(address));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address: [u8; 16] = *data.first_chunk()?;
                local = Some(IpAddr::from(address));
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => ds_field = *data.first()?,
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                ds_field = i32::from_ne_bytes(*data.first_chunk()?) as u8;
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                size = usize::try_from(i32::from_ne_bytes(*data.first_chunk()?)).ok()?;
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                *dropped = Some(u32::from_ne_bytes(*data.first_chunk()?));
            }
            _ => {}
        }
    }
    Some(Arrived {
        len,
        size: size.max(1),
        source: source?,
        local: local?,
        ds_field,
    })
}

/// Sets a socket option whose value is one int.
fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let (address, len) = (&raw const value, size_of_val(&value) as libc::socklen_t);
    // SAFETY: `address` points to a live int whose size is passed along.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, address.cast(), len) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes a socket fit for [`receive`]: it is told what [`Arrived`] has to know, and has datagrams
/// put together where the device does that.
///
/// # Errors
/// What the kernel refuses.
pub(super) fn prepare_receiver(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        set_option(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
    }
    set_option(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    // Kernels before 5.0 do without.
    let _ = set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    Ok(())
}

/// Makes a socket fit for [`send`]: what leaves it is never cut up on the way, and the kernel does
/// not hold back what it believes not to pass.
///
/// # Errors
/// What the kernel refuses.
pub(super) fn prepare_sender(socket: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    if ipv6 {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)
    } else {
        let probe = libc::IP_PMTUDISC_PROBE;
        set_option(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)
    }
}

/// One instruction of a classic BPF program (`linux/filter.h`).
const fn instruction(code: u32, jump: [u8; 2], k: u32) -> libc::sock_filter {
    let [jt, jf] = jump;
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

/// Deals the datagrams of a group of sockets that share a port (`SO_REUSEPORT`): what belongs to no
/// session to the first that was bound, which is the control thread's, and the rest to `workers`
/// others by where it comes from. Not by session or lane: datagrams that were put together are
/// dealt by the first of them, and have nothing in common but their source. So what comes from one
/// port is received by one worker, in order. With no workers all of it is the first's.
///
/// # Errors
/// What the kernel refuses.
pub(super) fn deal_by_source(socket: BorrowedFd<'_>, ipv6: bool, workers: u32) -> io::Result<()> {
    const WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    const ALU: u32 = libc::BPF_ALU | libc::BPF_K;
    const RETURN_A: u32 = libc::BPF_RET | libc::BPF_A;
    /// Offsets from here on are from the IP header (`SKF_NET_OFF`).
    const IP: u32 = libc::SKF_NET_OFF as u32;
    // The last word of the source address, and the source port, behind a header without options.
    let (address, port) = if ipv6 { (20, 40) } else { (12, 20) };
    let program = [
        // The session id. What is too short for it ends here, with 0.
        instruction(WORD, [0, 0], 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, [8, 0], 0),
        instruction(WORD, [0, 0], IP + address),
        instruction(libc::BPF_MISC | libc::BPF_TAX, [0, 0], 0),
        instruction(HALF, [0, 0], IP + port),
        instruction(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, [0, 0], 0),
        // Knuth's multiplication, whose upper bits depend on all of it.
        instruction(ALU | libc::BPF_MUL, [0, 0], 0x9e37_79b1),
        instruction(ALU | libc::BPF_RSH, [0, 0], 16),
        instruction(ALU | libc::BPF_MOD, [0, 0], workers),
        instruction(ALU | libc::BPF_ADD, [0, 0], 1),
        instruction(RETURN_A, [0, 0], 0),
    ];
    let all_to_the_first = [instruction(libc::BPF_RET | libc::BPF_K, [0, 0], 0)];
    if workers == 0 {
        return attach(socket, &all_to_the_first);
    }
    attach(socket, &program)
}

/// Gives the group of a socket its program.
fn attach(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: program.len() as libc::c_ushort,
        filter: program.as_ptr().cast_mut(),
    };
    let (value, len) = (&raw const program, size_of_val(&program) as libc::socklen_t);
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF);
    // SAFETY: `value` points to a live `sock_fprog` whose size is passed along, and which points to
    // as many live instructions as it says. The kernel copies them and writes nothing.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.cast(), len) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
