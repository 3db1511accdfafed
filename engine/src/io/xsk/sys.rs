//! System calls that no crate wraps safely: two socket options, `poll`, and ethtool's ioctls.
//!
//! Structures and numbers are those of the kernel's `include/uapi/linux/if_xdp.h` and
//! `include/uapi/linux/ethtool.h`.

use std::io;
use std::mem::{size_of, size_of_val};
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// Socket option of `SOL_XDP`: frames that one `sendto` sends at most.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
/// Bit in the value of the socket option `XDP_OPTIONS`: the socket was bound for zero copy.
const XDP_OPTIONS_ZEROCOPY: u32 = 1;

const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
/// The string set that names an interface's features.
const ETH_SS_FEATURES: u32 = 4;
/// Octets of a feature's name.
const ETH_GSTRING_LEN: usize = 32;
/// The most features that are looked at; Linux 6.18 has 64.
const FEATURES_MAX: usize = 256;
const FEATURE_BLOCKS_MAX: usize = FEATURES_MAX / 32;

/// Raises how many frames one kick sends from its default of 32, where the kernel can.
pub(super) fn set_tx_budget(fd: RawFd, frames: u32) {
    let (value, len) = (&raw const frames, size_of::<u32>() as libc::socklen_t);
    // SAFETY: `value` points to a live u32 whose size is passed along. Failure is harmless: a
    // kernel without the option sends fewer frames a kick.
    unsafe { libc::setsockopt(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, value.cast(), len) };
}

/// Whether the socket was bound for zero copy.
pub(super) fn is_zero_copy(fd: RawFd) -> bool {
    let mut flags = 0u32;
    let mut len = size_of_val(&flags) as libc::socklen_t;
    let value = &raw mut flags;
    // SAFETY: `value` and `len` point to live values, and `len` holds the size of the first.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_OPTIONS, value.cast(), &mut len) };
    result == 0 && flags & XDP_OPTIONS_ZEROCOPY != 0
}

/// The most descriptors that one `poll` waits for.
pub(super) const POLL_MAX: usize = 64;

/// Sleeps until something can be read from one of `fds` or the time is over.
pub(super) fn poll(fds: &[RawFd], timeout_ms: i32) -> io::Result<()> {
    let mut entries: arrayvec::ArrayVec<libc::pollfd, POLL_MAX> = fds
        .iter()
        .take(POLL_MAX)
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    let (first, count) = (entries.as_mut_ptr(), entries.len() as libc::nfds_t);
    // SAFETY: `first` points to `count` live entries.
    let ready = unsafe { libc::poll(first, count, timeout_ms) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}

/// Makes an interface receive frames for every address, for as long as this lives.
///
/// The kernel counts those who want it, and forgets a process that ends in whatever way.
#[derive(Debug)]
pub struct Promiscuous {
    _socket: OwnedFd,
}

impl Promiscuous {
    /// Asks for it.
    ///
    /// # Errors
    /// What the kernel refuses: without `CAP_NET_RAW`, or when the interface is gone.
    pub fn new(ifindex: u32) -> io::Result<Self> {
        // Protocol 0: the socket itself receives nothing.
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let mr_ifindex = i32::try_from(ifindex)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "no such interface"))?;
        let membership = libc::packet_mreq {
            mr_ifindex,
            mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        let (value, len) = (
            &raw const membership,
            size_of_val(&membership) as libc::socklen_t,
        );
        // SAFETY: `value` points to a live `packet_mreq` whose size is passed along.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_ADD_MEMBERSHIP,
                value.cast(),
                len,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { _socket: socket })
    }
}

/// `struct ethtool_sset_info` for one set.
#[repr(C)]
#[derive(Default)]
struct EthtoolSsetInfo {
    cmd: u32,
    reserved: u32,
    sset_mask: u64,
    count: u32,
}

/// `struct ethtool_gstrings`.
#[repr(C)]
struct EthtoolStrings {
    cmd: u32,
    string_set: u32,
    len: u32,
    data: [[u8; ETH_GSTRING_LEN]; FEATURES_MAX],
}

/// `struct ethtool_gfeatures`; a block is available, requested, active, never changed.
#[repr(C)]
struct EthtoolGetFeatures {
    cmd: u32,
    size: u32,
    blocks: [[u32; 4]; FEATURE_BLOCKS_MAX],
}

/// `struct ethtool_sfeatures`; a block is valid, requested.
#[repr(C)]
struct EthtoolSetFeatures {
    cmd: u32,
    size: u32,
    blocks: [[u32; 2]; FEATURE_BLOCKS_MAX],
}

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct EthtoolChannels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

/// Runs an ethtool command on an interface.
fn ethtool<T>(interface: &str, command: &mut T) -> io::Result<()> {
    let name = interface.as_bytes();
    if name.len() >= libc::IFNAMSIZ {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "interface name is too long",
        ));
    }
    let socket = UdpSocket::bind(("127.0.0.1", 0)).or_else(|_| UdpSocket::bind(("::1", 0)));
    let socket = match socket {
        Ok(socket) => socket,
        // A namespace whose loopback is down still lets one bind to the wildcard.
        Err(_) => UdpSocket::bind(("0.0.0.0", 0))?,
    };
    // SAFETY: all-zero octets are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, &from) in request.ifr_name.iter_mut().zip(name) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut *command).cast();
    // SAFETY: `request` is live, its name ends in a zero, and its data points to `command`, a
    // structure of the size that its first field, the command's number, makes the kernel expect.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether a feature makes a local stack hand over frames that are not yet as they would be on a
/// wire: checksums to be filled in, packets to be cut up, VLAN tags beside the frame.
fn is_transmit_offload(feature: &str) -> bool {
    let vlan = matches!(feature, "tx-vlan-hw-insert" | "tx-vlan-stag-hw-insert");
    vlan || feature.starts_with("tx-checksum-") || feature.ends_with("-segmentation")
}

/// Whether a feature takes VLAN tags out of received frames before XDP sees them.
fn is_receive_vlan_offload(feature: &str) -> bool {
    matches!(feature, "rx-vlan-hw-parse" | "rx-vlan-stag-hw-parse")
}

/// Makes a local stack hand over frames as they would be on a wire: with whole checksums and VLAN
/// tags, and no longer than the MTU.
///
/// # Errors
/// When the driver refuses.
pub fn disable_transmit_offloads(interface: &str) -> io::Result<()> {
    switch_off(interface, is_transmit_offload).map(|_| ())
}

/// Makes a driver leave VLAN tags in received frames. Says whether it did not before.
///
/// # Errors
/// When the driver refuses.
pub fn disable_receive_vlan_offload(interface: &str) -> io::Result<bool> {
    switch_off(interface, is_receive_vlan_offload)
}

/// Switches features off and makes sure that they are. Says whether any was on.
fn switch_off(interface: &str, unwanted: fn(&str) -> bool) -> io::Result<bool> {
    let (unwanted, size) = feature_mask(interface, unwanted)?;
    let still_on = || {
        let mut active = active_features(interface, size)?;
        for (active, unwanted) in active.iter_mut().zip(&unwanted) {
            *active &= unwanted;
        }
        io::Result::Ok(active)
    };
    let on = still_on()?;
    if on == [0; FEATURE_BLOCKS_MAX] {
        return Ok(false);
    }
    let blocks = on.map(|valid| [valid, 0]);
    ethtool(
        interface,
        &mut EthtoolSetFeatures {
            cmd: ETHTOOL_SFEATURES,
            size,
            blocks,
        },
    )?;
    if still_on()? != [0; FEATURE_BLOCKS_MAX] {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the driver keeps one on",
        ));
    }
    Ok(true)
}

/// The bits of the features whose names are `wanted`, and how many blocks the kernel has.
fn feature_mask(
    interface: &str,
    wanted: fn(&str) -> bool,
) -> io::Result<([u32; FEATURE_BLOCKS_MAX], u32)> {
    let mut info = EthtoolSsetInfo {
        cmd: ETHTOOL_GSSET_INFO,
        sset_mask: 1 << ETH_SS_FEATURES,
        ..Default::default()
    };
    ethtool(interface, &mut info)?;
    if info.count as usize > FEATURES_MAX {
        return Err(io::Error::other(
            "the kernel has more features than are known",
        ));
    }
    let mut strings = Box::new(EthtoolStrings {
        cmd: ETHTOOL_GSTRINGS,
        string_set: ETH_SS_FEATURES,
        len: info.count,
        data: [[0; ETH_GSTRING_LEN]; FEATURES_MAX],
    });
    ethtool(interface, &mut *strings)?;
    let mut mask = [0; FEATURE_BLOCKS_MAX];
    for (bit, name) in strings.data.iter().take(info.count as usize).enumerate() {
        let len = name
            .iter()
            .position(|&octet| octet == 0)
            .unwrap_or(ETH_GSTRING_LEN);
        if std::str::from_utf8(&name[..len]).is_ok_and(wanted) {
            mask[bit / 32] |= 1 << (bit % 32);
        }
    }
    Ok((mask, info.count.div_ceil(32)))
}

/// The bits of the features that are on.
fn active_features(interface: &str, size: u32) -> io::Result<[u32; FEATURE_BLOCKS_MAX]> {
    let blocks = [[0; 4]; FEATURE_BLOCKS_MAX];
    let mut features = EthtoolGetFeatures {
        cmd: ETHTOOL_GFEATURES,
        size,
        blocks,
    };
    ethtool(interface, &mut features)?;
    Ok(features
        .blocks
        .map(|[_available, _requested, active, _never_changed]| active))
}

/// How many receive queues an interface uses; 1 where the driver cannot say.
#[must_use]
pub fn receive_queues(interface: &str) -> u32 {
    let mut channels = EthtoolChannels {
        cmd: ETHTOOL_GCHANNELS,
        ..Default::default()
    };
    match ethtool(interface, &mut channels) {
        Ok(()) => (channels.combined_count + channels.rx_count).max(1),
        Err(_) => 1,
    }
}
