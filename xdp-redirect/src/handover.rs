//! Hands the fabric's traffic over to an engine behind another device.
//!
//! ```text
//!                        omni_handover
//!   wire ==== interface ------------------> device ==== engine
//!                 |      <------------------
//!               host         omni_return
//! ```

use std::fmt;
use std::net::IpAddr;

use aya::maps::xdp::{DevMap, XdpMapError};
use aya::maps::{Array, HashMap, MapData, PerCpuArray};
use aya::programs::links::FdLink;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

use crate::attach::{self, Mode};
use crate::dry_run::{self, DryRun};
use crate::error::{self, RedirectError};
use crate::layout::{self, Settings};
use crate::loader::{ignore_missing, typed, xdp, xdp_mut};

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/omni_handover.o"));

const HANDOVER: &str = "omni_handover";
const RETURN: &str = "omni_return";

/// Whose an address is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Owner {
    /// The host's as well: the fabric's datagrams to it are handed over, the rest is the host's.
    Shared,
    /// The engine's alone: all that is for it is handed over, and who asks where it is.
    Engine,
}

/// What the programs counted since they were loaded, over all CPUs.
///
/// What is handed over may still be dropped: by a device that cannot take it, or is full. The
/// kernel counts that at the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Handed {
    /// Datagrams of the fabric with a session.
    pub data: u64,
    /// The same without: handshakes and the like.
    pub handshakes: u64,
    /// What else was for an address of the engine alone: questions where it is, and answers.
    pub rest: u64,
    /// Frames that came from the device and went to the wire.
    pub back: u64,
    /// Frames left to the host, as the other device is gone.
    pub no_device: u64,
}

/// An interface as the kernel knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Where on it the program is to run.
    pub mode: Mode,
}

/// The two programs, loaded, and attached while this lives. Needs Linux 5.18.
pub struct Handover {
    // First, so that frames stop coming before the maps go. The wire's comes before the device's.
    links: Option<[FdLink; 2]>,
    ebpf: Ebpf,
    devices: DevMap<MapData>,
    addrs: HashMap<MapData, [u8; 16], u8>,
    settings: Array<MapData, [u8; 16]>,
    counters: PerCpuArray<MapData, u64>,
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover")
            .field("attached", &self.links.is_some())
            .finish_non_exhaustive()
    }
}

impl Handover {
    /// Loads both programs. They hand nothing over until they are attached and have a port and
    /// addresses.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Permission`] without `CAP_BPF` and `CAP_NET_ADMIN`,
    /// [`RedirectError::Load`] when the kernel refuses a program.
    pub fn load() -> Result<Self, RedirectError> {
        let mut ebpf = EbpfLoader::new()
            // The programs read no kernel structures, so there is nothing to relocate.
            .btf(None)
            .load(OBJECT)
            .map_err(|refusal| RedirectError::load(HANDOVER, &refusal))?;
        for name in [HANDOVER, RETURN] {
            xdp_mut(&mut ebpf, name)?
                .load()
                .map_err(|refusal| RedirectError::load(name, &refusal))?;
        }
        let mut named = |name| ebpf.take_map(name).ok_or(RedirectError::Incomplete(name));
        Ok(Self {
            devices: typed(named("devices")?, "the devices")?,
            addrs: typed(named("addrs")?, "the addresses")?,
            settings: typed(named("settings")?, "the settings")?,
            counters: typed(named("counters")?, "the counters")?,
            links: None,
            ebpf,
        })
    }

    /// Sets the fabric's UDP port; takes effect with the next frame.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn set_port(&mut self, port: u16) -> Result<(), RedirectError> {
        let settings = Settings {
            port,
            ..Settings::default()
        };
        self.settings
            .set(0, settings.to_octets(), 0)
            .map_err(|refusal| RedirectError::map("the settings", &refusal))
    }

    /// Adds an address, or says anew whose it is; takes effect with the next frame.
    ///
    /// # Errors
    ///
    /// [`RedirectError::TooManyAddresses`] beyond [`crate::MAX_LOCAL_ADDRS`],
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn set_address(&mut self, address: IpAddr, owner: Owner) -> Result<(), RedirectError> {
        let owner = match owner {
            Owner::Shared => layout::SHARED,
            Owner::Engine => layout::WHOLE,
        };
        let set = self.addrs.insert(layout::address_key(address), owner, 0);
        set.map_err(|refusal| match error::errno(&refusal) {
            Some(error::E2BIG) => RedirectError::TooManyAddresses,
            _ => RedirectError::map("the addresses", &refusal),
        })
    }

    /// Removes an address. Removing one that is not there changes nothing.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn remove_address(&mut self, address: IpAddr) -> Result<(), RedirectError> {
        let removed = self.addrs.remove(&layout::address_key(address));
        ignore_missing(removed).map_err(|refusal| RedirectError::map("the addresses", &refusal))
    }

    /// Attaches the programs: `wire` is where the fabric's messages come in, `other` the device
    /// behind which the engine is. The way back comes first, so that nothing is handed over that
    /// could not be answered. What was attached before ends first.
    ///
    /// Both must be of the calling thread's network namespace. Blocks for up to
    /// [`crate::BUSY_RETRY`] while another program holds an interface.
    ///
    /// # Errors
    ///
    /// One of the interface's variants of [`RedirectError`]; nothing is attached then.
    pub fn attach(&mut self, wire: &Device, other: &Device) -> Result<(), RedirectError> {
        self.detach();
        for (place, device) in [(layout::TO_OTHER, other), (layout::TO_WIRE, wire)] {
            let set = self.devices.set(place, device.index, None, 0);
            set.map_err(|refusal| match refusal {
                XdpMapError::MapError(refusal) => RedirectError::map("the devices", &refusal),
                // No program is chained to a device.
                XdpMapError::ChainedProgramNotSupported => RedirectError::Incomplete("devices"),
            })?;
        }
        let mut link = |program, device: &Device| {
            let program = xdp_mut(&mut self.ebpf, program)?;
            attach::attach(program, &device.name, device.mode)
        };
        let back = link(RETURN, other)?;
        let over = link(HANDOVER, wire)?;
        self.links = Some([over, back]);
        Ok(())
    }

    /// Ends both attachments: frames go to the host again.
    pub fn detach(&mut self) {
        self.links = None;
    }

    /// What the programs counted since they were loaded.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn counters(&self) -> Result<Handed, RedirectError> {
        let sum = |which: u32| match self.counters.get(&which, 0) {
            Ok(per_cpu) => Ok(per_cpu.iter().sum()),
            Err(refusal) => Err(RedirectError::map("the counters", &refusal)),
        };
        Ok(Handed {
            data: sum(layout::HANDED_DATA)?,
            handshakes: sum(layout::HANDED_HANDSHAKES)?,
            rest: sum(layout::HANDED_REST)?,
            back: sum(layout::HANDED_BACK)?,
            no_device: sum(layout::NO_DEVICE)?,
        })
    }

    /// Runs the program of the wire on a frame. No frame is sent; counters count it.
    ///
    /// # Errors
    ///
    /// As [`crate::Redirect::dry_run`].
    pub fn dry_run(&self, frame: &[u8]) -> Result<DryRun, RedirectError> {
        dry_run::run(xdp(&self.ebpf, HANDOVER)?, &[], frame)
    }
}
