//! Loads a program, attaches it, and changes what it steers by.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::Xdp;
use aya::programs::links::FdLink;
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};

use crate::attach::{self, Mode};
use crate::error::{self, RedirectError};
use crate::layout::{self, MAX_ENDPOINTS, MAX_ROOM, MAX_SESSIONS, Settings};

/// Both programs, for kernels that know frames of several buffers (Linux 5.18).
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/omni_redirect.o"));

/// Both programs, for older kernels.
static LINEAR_OBJECT: &[u8] =
    include_bytes_aligned!(concat!(env!("OUT_DIR"), "/omni_redirect_linear.o"));

/// Which of the two programs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Steers the fabric's data messages, and lets everything else pass to the kernel.
    Underlay,
    /// Steers every frame, with room made before it.
    Access,
}

impl Kind {
    /// The program's name in the kernel, as `bpftool prog` shows it.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::Underlay => "omni_underlay",
            Self::Access => "omni_access",
        }
    }
}

/// What a program counted since it was loaded, over all CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Frames handed to a socket. The socket may still refuse one, and counts that itself.
    pub steered: u64,
    /// Frames dropped because no socket serves their receive queue. The underlay program lets
    /// such frames pass to the kernel instead, and counts only sockets closed in that instant.
    pub no_socket: u64,
    /// Frames dropped because nothing could be put before them.
    pub no_headroom: u64,
    /// Data dropped because its session is not known ([`Redirect::set_session_check`]).
    pub no_session: u64,
    /// Data dropped because its lane is not among those announced for its session
    /// ([`Redirect::set_session_check`]).
    pub no_lane: u64,
    /// Messages without a session dropped because they are no handshakes
    /// ([`Redirect::set_handshake_check`]).
    pub not_handshake: u64,
    /// Messages without a session dropped because they were too many
    /// ([`Redirect::set_handshake_check`]).
    pub too_many: u64,
    /// Data dropped because it came from elsewhere than the peer is, and was too much
    /// ([`Redirect::set_session_check`]).
    pub elsewhere: u64,
    /// Data of throttled sessions dropped ([`Redirect::throttle_session`]).
    pub too_much: u64,
}

/// A loaded program with maps of its own; attached to at most one interface.
///
/// Dropping it ends the attachment.
#[derive(Debug)]
pub struct Redirect {
    // First, so that frames stop coming before the maps go.
    link: Option<FdLink>,
    ebpf: Ebpf,
    kind: Kind,
    multi_buffer: bool,
    settings: Settings,
    maps: Maps,
}

struct Maps {
    xsks: XskMap<MapData>,
    local_addrs: HashMap<MapData, [u8; 16], u8>,
    settings: Array<MapData, [u8; 16]>,
    counters: PerCpuArray<MapData, u64>,
    sessions: HashMap<MapData, [u8; 4], [u8; 32]>,
    endpoints: HashMap<MapData, [u8; 20], [u8; 8]>,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Redirect {
    /// Loads the program into the kernel. It steers nothing until it is attached, has a port and
    /// addresses (underlay) and sockets.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Permission`] without `CAP_BPF` and `CAP_NET_ADMIN`,
    /// [`RedirectError::Load`] when the kernel refuses the program.
    pub fn load(kind: Kind) -> Result<Self, RedirectError> {
        let first = match Self::load_object(kind, OBJECT, true) {
            // What kernels before 5.18 say about a program for several buffers.
            Err(LoadFailure {
                errno: Some(error::EINVAL),
                reason,
            }) => reason,
            outcome => return outcome.map_err(|failure| failure.reason),
        };
        // The first refusal is the one that tells, should this not be the matter.
        Self::load_object(kind, LINEAR_OBJECT, false).map_err(|_| first)
    }

    fn load_object(kind: Kind, object: &[u8], multi_buffer: bool) -> Result<Self, LoadFailure> {
        let name = kind.program();
        let mut ebpf = EbpfLoader::new()
            // The programs read no kernel structures, so there is nothing to relocate.
            .btf(None)
            .map_max_entries("sessions", places(kind, MAX_SESSIONS))
            .map_max_entries("endpoints", places(kind, MAX_ENDPOINTS))
            .load(object)
            .map_err(|refusal| LoadFailure::new(name, &refusal))?;
        xdp_mut(&mut ebpf, name)?
            .load()
            .map_err(|refusal| LoadFailure::new(name, &refusal))?;
        let maps = Maps::take(&mut ebpf)?;
        let secret = getrandom::u64().map_err(|refusal| LoadFailure::new(name, &refusal))?;
        let settings = Settings {
            secret,
            ..Settings::default()
        };
        Ok(Self {
            link: None,
            ebpf,
            kind,
            multi_buffer,
            settings,
            maps,
        })
    }

    /// Which program this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether frames of several buffers are steered: those longer than a page, about 3,500
    /// octets. Kernels before 5.18 cannot, and refuse to attach where the MTU allows such frames.
    #[must_use]
    pub const fn multi_buffer(&self) -> bool {
        self.multi_buffer
    }

    /// Sets the UDP port whose datagrams the underlay program steers; 0 steers none. Takes effect
    /// with the next frame.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn set_port(&mut self, port: u16) -> Result<(), RedirectError> {
        self.change(Settings {
            port,
            ..self.settings
        })
    }

    /// Sets how many octets the access program makes free before each frame, 0..=[`MAX_ROOM`].
    /// Takes effect with the next frame; [`crate::Meta::room`] says what a frame has.
    ///
    /// # Errors
    ///
    /// [`RedirectError::RoomOutOfRange`], and [`RedirectError::Map`] when the kernel refuses.
    pub fn set_room(&mut self, room: u16) -> Result<(), RedirectError> {
        if room > MAX_ROOM {
            return Err(RedirectError::RoomOutOfRange { room });
        }
        self.change(Settings {
            room,
            ..self.settings
        })
    }

    fn change(&mut self, settings: Settings) -> Result<(), RedirectError> {
        self.maps
            .settings
            .set(0, settings.to_octets(), 0)
            .map_err(|refusal| RedirectError::map("the settings", &refusal))?;
        self.settings = settings;
        Ok(())
    }

    /// Adds an address whose datagrams the underlay program steers. Adding one twice is adding it
    /// once. An IPv4 address and its mapped form (`::ffff:a.b.c.d`) are the same.
    ///
    /// # Errors
    ///
    /// [`RedirectError::TooManyAddresses`] beyond [`crate::MAX_LOCAL_ADDRS`],
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn add_local(&mut self, address: IpAddr) -> Result<(), RedirectError> {
        let added = self
            .maps
            .local_addrs
            .insert(layout::address_key(address), 1, 0);
        added.map_err(|refusal| match error::errno(&refusal) {
            Some(error::E2BIG) => RedirectError::TooManyAddresses,
            _ => RedirectError::map("the addresses", &refusal),
        })
    }

    /// Removes an address. Removing one that is not there changes nothing.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn remove_local(&mut self, address: IpAddr) -> Result<(), RedirectError> {
        let removed = self.maps.local_addrs.remove(&layout::address_key(address));
        ignore_missing(removed).map_err(|refusal| RedirectError::map("the addresses", &refusal))
    }

    /// Lets data of a session pass the check that [`Redirect::set_session_check`] turns on.
    /// `session_id` is the number that this host gave the session, `lanes` how many lanes the
    /// peer announced: those from 0 on. Data comes from the address `peer`; from elsewhere 1000
    /// messages a second pass, 2000 at once, and all while that is `None`. Adding a session twice
    /// sets all of it anew. Takes effect with the next frame.
    ///
    /// Only the underlay program looks at sessions.
    ///
    /// # Errors
    ///
    /// [`RedirectError::TooManySessions`] beyond [`MAX_SESSIONS`], [`RedirectError::Map`] when
    /// the kernel refuses.
    pub fn add_session(
        &mut self,
        session_id: u32,
        lanes: u16,
        peer: Option<IpAddr>,
    ) -> Result<(), RedirectError> {
        self.set_session(session_id, layout::session_entry(lanes, peer))
    }

    /// Adds a session, or sets one anew, of which 1000 messages a second pass, and 2000 at once,
    /// wherever they come from; what is beyond is dropped and counted ([`Counters::too_much`]).
    ///
    /// # Errors
    ///
    /// As [`Redirect::add_session`].
    pub fn throttle_session(&mut self, session_id: u32, lanes: u16) -> Result<(), RedirectError> {
        self.set_session(session_id, layout::throttled_entry(lanes))
    }

    fn set_session(&mut self, session_id: u32, entry: [u8; 32]) -> Result<(), RedirectError> {
        let key = layout::session_key(session_id);
        let added = self.maps.sessions.insert(key, entry, 0);
        added.map_err(|refusal| match error::errno(&refusal) {
            Some(error::E2BIG) => RedirectError::TooManySessions,
            _ => RedirectError::map("the sessions", &refusal),
        })
    }

    /// Removes a session. Removing one that is not there changes nothing.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn remove_session(&mut self, session_id: u32) -> Result<(), RedirectError> {
        let removed = self.maps.sessions.remove(&layout::session_key(session_id));
        ignore_missing(removed).map_err(|refusal| RedirectError::map("the sessions", &refusal))
    }

    /// Whether the underlay program drops data of sessions that were not added, on lanes that the
    /// peer did not announce, and too much of it from elsewhere than the peer is; off at first.
    /// What is dropped is counted ([`Counters::no_session`], [`Counters::no_lane`],
    /// [`Counters::elsewhere`]). Takes effect with the next frame.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn set_session_check(&mut self, check_sessions: bool) -> Result<(), RedirectError> {
        self.change(Settings {
            check_sessions,
            ..self.settings
        })
    }

    /// Gives an endpoint of a peer its own share of messages without a session, which the check
    /// that [`Redirect::set_handshake_check`] turns on lets pass: 8 a second, 16 at once. What is
    /// more has to find room with that of strangers. Adding one twice fills its share up.
    ///
    /// Only the underlay program looks at endpoints.
    ///
    /// # Errors
    ///
    /// [`RedirectError::TooManyEndpoints`] beyond [`MAX_ENDPOINTS`], [`RedirectError::Map`] when
    /// the kernel refuses.
    pub fn add_endpoint(&mut self, endpoint: SocketAddr) -> Result<(), RedirectError> {
        let key = layout::endpoint_key(endpoint);
        let added = self.maps.endpoints.insert(key, [0; 8], 0);
        added.map_err(|refusal| match error::errno(&refusal) {
            Some(error::E2BIG) => RedirectError::TooManyEndpoints,
            _ => RedirectError::map("the endpoints", &refusal),
        })
    }

    /// Removes an endpoint. Removing one that is not there changes nothing.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn remove_endpoint(&mut self, endpoint: SocketAddr) -> Result<(), RedirectError> {
        let removed = self.maps.endpoints.remove(&layout::endpoint_key(endpoint));
        ignore_missing(removed).map_err(|refusal| RedirectError::map("the endpoints", &refusal))
    }

    /// Whether the underlay program drops messages without a session that have no type and length
    /// of a handshake, and of the others, those beyond the shares of endpoints and of where they
    /// come from (`bpf/omni_redirect.h`); off at first. What is dropped is counted
    /// ([`Counters::not_handshake`], [`Counters::too_many`]). Takes effect with the next frame.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn set_handshake_check(&mut self, check_handshakes: bool) -> Result<(), RedirectError> {
        self.change(Settings {
            check_handshakes,
            ..self.settings
        })
    }

    /// Hands frames of a receive queue to an `AF_XDP` socket, in place of the one before. The
    /// socket must be bound to this interface and queue: the kernel drops what others would get,
    /// and counts it at the socket. A socket that closes leaves its place by itself.
    ///
    /// # Errors
    ///
    /// [`RedirectError::QueueOutOfRange`] from [`crate::MAX_QUEUES`] on,
    /// [`RedirectError::Socket`] when `socket` is none, or lacks rings.
    pub fn set_socket(&mut self, queue: u32, socket: &impl AsRawFd) -> Result<(), RedirectError> {
        let set = self.maps.xsks.set(queue, socket.as_raw_fd(), 0);
        set.map_err(|refusal| match (&refusal, error::errno(&refusal)) {
            (MapError::OutOfBounds { .. }, _) => RedirectError::QueueOutOfRange { queue },
            (_, Some(error::EPERM)) => RedirectError::map("the sockets", &refusal),
            _ => RedirectError::Socket {
                queue,
                reason: error::explain(&refusal),
            },
        })
    }

    /// Takes a receive queue from its socket. Where there is none, nothing changes.
    ///
    /// # Errors
    ///
    /// [`RedirectError::QueueOutOfRange`] from [`crate::MAX_QUEUES`] on, [`RedirectError::Map`]
    /// when the kernel refuses.
    pub fn clear_socket(&mut self, queue: u32) -> Result<(), RedirectError> {
        ignore_missing(self.maps.xsks.unset(queue)).map_err(|refusal| match refusal {
            MapError::OutOfBounds { .. } => RedirectError::QueueOutOfRange { queue },
            refusal => RedirectError::map("the sockets", &refusal),
        })
    }

    /// What the program counted since it was loaded.
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn counters(&self) -> Result<Counters, RedirectError> {
        let sum = |which: u32| match self.maps.counters.get(&which, 0) {
            Ok(per_cpu) => Ok(per_cpu.iter().sum()),
            Err(refusal) => Err(RedirectError::map("the counters", &refusal)),
        };
        Ok(Counters {
            steered: sum(layout::STEERED)?,
            no_socket: sum(layout::NO_SOCKET)?,
            no_headroom: sum(layout::NO_HEADROOM)?,
            no_session: sum(layout::NO_SESSION)?,
            no_lane: sum(layout::NO_LANE)?,
            not_handshake: sum(layout::NOT_HANDSHAKE)?,
            too_many: sum(layout::TOO_MANY)?,
            elsewhere: sum(layout::ELSEWHERE)?,
            too_much: sum(layout::TOO_MUCH)?,
        })
    }

    /// Frames handed to a socket since the program was loaded, as in [`Counters::steered`].
    ///
    /// # Errors
    ///
    /// [`RedirectError::Map`] when the kernel refuses.
    pub fn steered(&self) -> Result<u64, RedirectError> {
        match self.maps.counters.get(&layout::STEERED, 0) {
            Ok(per_cpu) => Ok(per_cpu.iter().sum()),
            Err(refusal) => Err(RedirectError::map("the counters", &refusal)),
        }
    }

    /// The kernel's number of the program, by which netlink tells whether it is on an interface.
    /// `None` when the kernel does not say.
    #[must_use]
    pub fn program_id(&self) -> Option<u32> {
        Some(self.xdp().ok()?.info().ok()?.id())
    }

    /// Attaches the program to an interface of the calling thread's network namespace. An earlier
    /// attachment of this `Redirect` ends first.
    ///
    /// Blocks for up to [`crate::BUSY_RETRY`] while another program holds the interface.
    ///
    /// # Errors
    ///
    /// One of the interface's variants of [`RedirectError`]; nothing is attached then.
    pub fn attach(&mut self, interface: &str, mode: Mode) -> Result<(), RedirectError> {
        self.detach();
        let program = xdp_mut(&mut self.ebpf, self.kind.program())?;
        self.link = Some(attach::attach(program, interface, mode)?);
        Ok(())
    }

    /// Whether the program was attached and not detached since. An interface that is deleted
    /// takes the program off without notice here.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        self.link.is_some()
    }

    /// Ends the attachment; frames go to the kernel again. Without one, nothing changes.
    ///
    /// The kernel ends it with the last descriptor: a child of this process that has not come to
    /// its `execve` yet holds a copy for that moment.
    pub fn detach(&mut self) {
        // Closing the last descriptor of a link is what ends an attachment.
        self.link = None;
    }

    /// The program, to be run without an interface.
    pub(crate) fn xdp(&self) -> Result<&Xdp, RedirectError> {
        xdp(&self.ebpf, self.kind.program())
    }
}

/// A load that failed, with the kernel's error number where it gave one.
struct LoadFailure {
    errno: Option<i32>,
    reason: RedirectError,
}

impl LoadFailure {
    fn new(program: &'static str, refusal: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            errno: error::errno(refusal),
            reason: RedirectError::load(program, refusal),
        }
    }
}

impl From<RedirectError> for LoadFailure {
    fn from(reason: RedirectError) -> Self {
        Self {
            errno: None,
            reason,
        }
    }
}

impl Maps {
    /// Takes the maps out of the object by their names in `bpf/omni_redirect.bpf.c`.
    fn take(ebpf: &mut Ebpf) -> Result<Self, RedirectError> {
        let mut named = |name| ebpf.take_map(name).ok_or(RedirectError::Incomplete(name));
        Ok(Self {
            xsks: typed(named("xsks")?, "the sockets")?,
            local_addrs: typed(named("local_addrs")?, "the addresses")?,
            settings: typed(named("settings")?, "the settings")?,
            counters: typed(named("counters")?, "the counters")?,
            sessions: typed(named("sessions")?, "the sessions")?,
            endpoints: typed(named("endpoints")?, "the endpoints")?,
        })
    }
}

/// The size of a map that only the underlay program asks. Both come with it, and its table of 16
/// octets for each place the kernel makes at once: the access program gets the least.
const fn places(kind: Kind, most: u32) -> u32 {
    match kind {
        Kind::Underlay => most,
        Kind::Access => 1,
    }
}

pub(crate) fn typed<T: TryFrom<Map, Error = MapError>>(
    map: Map,
    what: &'static str,
) -> Result<T, RedirectError> {
    T::try_from(map).map_err(|refusal| RedirectError::map(what, &refusal))
}

/// The program of that name in a loaded object.
pub(crate) fn xdp<'a>(ebpf: &'a Ebpf, name: &'static str) -> Result<&'a Xdp, RedirectError> {
    let program = ebpf.program(name).ok_or(RedirectError::Incomplete(name))?;
    program
        .try_into()
        .map_err(|_| RedirectError::Incomplete(name))
}

/// As [`xdp`], to load or attach it.
pub(crate) fn xdp_mut<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut Xdp, RedirectError> {
    let program = ebpf
        .program_mut(name)
        .ok_or(RedirectError::Incomplete(name))?;
    program
        .try_into()
        .map_err(|_| RedirectError::Incomplete(name))
}

/// The wanted state is reached when there was nothing to remove.
pub(crate) fn ignore_missing(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(refusal) if error::errno(&refusal) == Some(error::ENOENT) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
#[path = "../tests/kernel/support/root.rs"]
#[expect(dead_code, reason = "here are also tests that need no root")]
mod root;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dry_run::Action;

    /// Every kernel takes the programs that older ones need. Needs root.
    #[test]
    fn the_programs_for_older_kernels_load_and_decide() {
        if root::lacks_root("the_programs_for_older_kernels_load_and_decide") {
            return;
        }
        let load = |kind| match Redirect::load_object(kind, LINEAR_OBJECT, false) {
            Ok(program) => program,
            Err(failure) => panic!("{}", failure.reason),
        };
        let frame = [0; 60];
        let underlay = load(Kind::Underlay);
        assert!(!underlay.multi_buffer());
        assert_eq!(underlay.dry_run(&frame).unwrap().action, Action::Pass);
        check_an_unknown_session(underlay);
        let access = load(Kind::Access);
        assert_eq!(access.dry_run(&frame).unwrap().action, Action::Drop);
        let expected = Counters {
            no_socket: 1,
            ..Counters::default()
        };
        assert_eq!(access.counters().unwrap(), expected);
    }

    fn check_an_unknown_session(mut underlay: Redirect) {
        let mut frame = [0; 14 + 20 + 8 + 32];
        frame[12] = 0x08;
        frame[14..18].copy_from_slice(&[0x45, 0, 0, 60]);
        frame[23] = 17;
        frame[30..34].copy_from_slice(&[192, 0, 2, 1]);
        frame[36..40].copy_from_slice(&[0x12, 0xb5, 0, 40]);
        frame[42..50].copy_from_slice(&[1, 2, 3, 4, 4, 0, 0, 1]);
        underlay.set_port(0x12b5).unwrap();
        underlay.add_local("192.0.2.1".parse().unwrap()).unwrap();
        underlay.set_session_check(true).unwrap();
        for (lanes, action) in [
            (None, Action::Drop),
            (Some(1), Action::Drop),
            // As there is no socket.
            (Some(2), Action::Pass),
        ] {
            if let Some(lanes) = lanes {
                underlay.add_session(0x0102_0304, lanes, None).unwrap();
            }
            let decided = underlay.dry_run(&frame).unwrap().action;
            assert_eq!(decided, action, "{lanes:?} lanes");
        }
        let expected = Counters {
            no_session: 1,
            no_lane: 1,
            ..Counters::default()
        };
        assert_eq!(underlay.counters().unwrap(), expected);
    }

    #[test]
    fn a_loaded_program_can_move_to_another_thread() {
        fn is_send<T: Send>() {}
        is_send::<Redirect>();
    }
}
