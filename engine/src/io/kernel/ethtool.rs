//! What an interface does to frames before XDP sees them, and how many queues it has: the ioctls
//! of ethtool.
//!
//! Structures and numbers are those of the kernel's `include/uapi/linux/ethtool.h`.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

const ETHTOOL_GDRVINFO: u32 = 0x03;
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

/// One bit for each feature.
type Features = [u32; FEATURE_BLOCKS_MAX];

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

/// `struct ethtool_drvinfo`: the driver's name, and what nobody here asks for.
#[repr(C)]
struct EthtoolDriver {
    cmd: u32,
    driver: [u8; 32],
    others: [u8; 160],
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
    let socket = any_socket()?;
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

/// Makes a driver leave VLAN tags in received frames. `None` when it did so before.
///
/// # Errors
/// When the driver refuses.
pub fn disable_receive_vlan_offload(interface: &str) -> io::Result<Option<SwitchedOff>> {
    switch_off(interface, is_receive_vlan_offload)
}

/// Any socket: the kernel wants one to be asked about interfaces.
fn any_socket() -> io::Result<UdpSocket> {
    UdpSocket::bind(("127.0.0.1", 0))
        .or_else(|_| UdpSocket::bind(("::1", 0)))
        // A namespace whose loopback is down still lets one bind to the wildcard.
        .or_else(|_| UdpSocket::bind(("0.0.0.0", 0)))
}

/// Features of an interface that were switched off.
#[derive(Debug)]
pub struct SwitchedOff {
    /// Its name may change.
    ifindex: u32,
    features: Features,
    size: u32,
}

impl SwitchedOff {
    /// Switches them on again.
    ///
    /// # Errors
    /// When the interface is gone, or the driver refuses.
    pub fn undo(&self) -> io::Result<()> {
        let blocks = self.features.map(|bits| [bits, bits]);
        let mut wanted = EthtoolSetFeatures {
            cmd: ETHTOOL_SFEATURES,
            size: self.size,
            blocks,
        };
        let name = rustix::net::netdevice::index_to_name(any_socket()?, self.ifindex)?;
        ethtool(&name, &mut wanted)
    }
}

/// Switches features off and makes sure that they are. `None` when none was on.
fn switch_off(interface: &str, unwanted: fn(&str) -> bool) -> io::Result<Option<SwitchedOff>> {
    let (unwanted, size) = feature_mask(interface, unwanted)?;
    let still_on = || {
        let mut active = active_features(interface, size)?;
        for (active, unwanted) in active.iter_mut().zip(&unwanted) {
            *active &= unwanted;
        }
        io::Result::Ok(active)
    };
    let features = still_on()?;
    if features == [0; FEATURE_BLOCKS_MAX] {
        return Ok(None);
    }
    let blocks = features.map(|bits| [bits, 0]);
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
    Ok(Some(SwitchedOff {
        ifindex: rustix::net::netdevice::name_to_index(any_socket()?, interface)?,
        features,
        size,
    }))
}

/// The bits of the features whose names are `wanted`, and how many blocks the kernel has.
fn feature_mask(interface: &str, wanted: impl Fn(&str) -> bool) -> io::Result<(Features, u32)> {
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
        if std::str::from_utf8(&name[..len]).is_ok_and(&wanted) {
            mask[bit / 32] |= 1 << (bit % 32);
        }
    }
    Ok((mask, info.count.div_ceil(32)))
}

/// The bits of the features that are on.
fn active_features(interface: &str, size: u32) -> io::Result<Features> {
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

/// The name of an interface's driver; `None` where it does not tell.
#[must_use]
pub fn driver_of(interface: &str) -> Option<String> {
    let mut told = EthtoolDriver {
        cmd: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        others: [0; 160],
    };
    ethtool(interface, &mut told).ok()?;
    let name = told.driver.split(|&octet| octet == 0).next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

/// Whether a feature of an interface is on, by ethtool's name of it. No where nobody can say.
#[must_use]
pub fn has_feature(interface: &str, name: &'static str) -> bool {
    let on = |mask: Features, size| {
        let active = active_features(interface, size)?;
        let mut both = active.iter().zip(&mask);
        io::Result::Ok(both.any(|(active, wanted)| active & wanted != 0))
    };
    let mask = feature_mask(interface, |feature| feature == name);
    mask.and_then(|(mask, size)| on(mask, size))
        .unwrap_or(false)
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
