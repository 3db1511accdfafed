//! A frame's way through the data path, in memory: all but the kernel.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use omni_control::message::Role;
use omni_control::message::{Command, FdbKey, InstallSession, Owner, PeerId, PeerTraffic, PortId};
use omni_control::{PublicKey, SymmetricKey};
use omni_engine::datapath::policy::SwitchPolicy;
use omni_engine::datapath::{BURST_MAX, Datapath, DatapathConfig, Output, TableCommand};
use omni_engine::io::mem::{MemFrame, MemIo};
use omni_engine::io::{FrameIo, Port};
use omni_wire::outer::Path;
use omni_wire::{Instant, MacAddr};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::rounds::{Measured, take_turns};

const ACCESS: Port = Port::Access(PortId(0));
const PEER: PeerId = PeerId(0);
const HERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const THERE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
/// Inner frame lengths in octets.
const LENGTHS: [usize; 4] = [64, 512, 1440, 8940];
/// Frames of one round.
const BURSTS: usize = 8;

/// One end of a session: data path and frames in memory.
struct End {
    datapath: Datapath<MemFrame>,
    io: MemIo,
    out: Output<MemFrame>,
    burst: Vec<MemFrame>,
}

impl End {
    fn new(initiator: bool) -> Self {
        let config = DatapathConfig {
            worker: 0,
            max_frame: 9000,
            complete_checksums: false,
            staged_max: 64,
            spread_ports: false,
            policy: Arc::new(SwitchPolicy::open(1)),
        };
        let mut end = Self {
            datapath: Datapath::new(config),
            io: MemIo::new(4096, 74),
            out: Output::new(1),
            burst: Vec::new(),
        };
        let [ours, theirs] = if initiator { [1, 2] } else { [2, 1] };
        let keys = [SymmetricKey([ours; 32]), SymmetricKey([theirs; 32])];
        let [send_key, receive_key] = keys;
        let address = |last: u8| ([192, 0, 2, last], 51820).into();
        let path = Path {
            source_mac: HERE,
            next_hop_mac: THERE,
            vlan: None,
            source: std::net::Ipv4Addr::new(192, 0, 2, ours).into(),
            source_port: 51820,
            endpoint: address(theirs),
        };
        let key = FdbKey {
            vlan: 0,
            mac: if initiator { THERE } else { HERE },
        };
        let traffic = PeerTraffic::new(1);
        let public_key = PublicKey([9; 32]);
        for command in [
            Command::AddPeer {
                peer: PEER,
                public_key,
                traffic,
            },
            Command::SetPath {
                peer: PEER,
                path: Some(path),
            },
            Command::InstallSession(Box::new(InstallSession {
                peer: PEER,
                session_id: ours.into(),
                remote_session_id: theirs.into(),
                role: Role::Initiator,
                receive_key,
                send_key,
                peer_lanes: 1,
                peer_max_frame: 9000,
                established_at: Instant(0),
            })),
            Command::FdbInsert {
                key,
                owner: Owner::Peer(PEER),
            },
        ] {
            let command = TableCommand::Control(command);
            end.datapath.apply(NOW, command, &mut end.io, &mut end.out);
        }
        end.send();
        while end.io.pop(Port::Underlay).is_some() {}
        end
    }

    fn send(&mut self) {
        self.io.transmit(ACCESS, &mut self.out.access[0]);
        self.io.transmit(Port::Underlay, &mut self.out.underlay);
        self.io.free(&mut self.out.free);
    }
}

const NOW: Instant = Instant(Duration::from_secs(1).as_nanos() as u64);

/// Measures every length and prints a table.
pub(crate) fn run(rounds: u32) {
    println!(
        "{rounds} rounds of {} frames, contenders in turn; ns a frame: median [quartiles]",
        { BURSTS * BURST_MAX }
    );
    println!(
        "{:>6}  {:>22}  {:>22}  {:>22}  {:>7}  {:>7}",
        "octets", "ring, seal only", "egress", "ingress", "egress/", "ingress/"
    );
    for len in LENGTHS {
        let [bare, egress, ingress] = measure(rounds, len);
        println!(
            "{len:>6}  {:>22}  {:>22}  {:>22}  {:>7.2}  {:>7.2}",
            bare.shown(0),
            egress.shown(0),
            ingress.shown(0),
            egress.median / bare.median,
            ingress.median / bare.median,
        );
    }
}

/// The bare primitive, the way out and the way in, in turn. Only the data path is timed: making
/// frames and taking them away is the memory driver's work, which stands for the kernel's.
fn measure(rounds: u32, len: usize) -> [Measured; 3] {
    let (mut sender, mut receiver) = (End::new(true), End::new(false));
    let mut frame = [&THERE.0[..], &HERE.0[..], &[0x88, 0xb5]].concat();
    frame.resize(len, 0x5a);
    let mut bare = bare_seal(frame.clone());
    let messages = RefCell::new(Vec::new());
    let mut egress = || {
        let mut sent = messages.borrow_mut();
        let mut elapsed = Duration::ZERO;
        for _ in 0..BURSTS {
            for _ in 0..BURST_MAX {
                sender.io.push(ACCESS, &frame, NOW);
            }
            let End {
                datapath,
                io,
                out,
                burst,
            } = &mut sender;
            io.receive(ACCESS, burst, BURST_MAX);
            let start = Clock::now();
            datapath.egress(NOW, PortId(0), burst, io, out);
            elapsed += start.elapsed();
            sender.send();
        }
        while let Some(message) = sender.io.pop(Port::Underlay) {
            sent.push(message);
        }
        (sent.len() as u32, elapsed)
    };
    let mut ingress = || {
        let mut sent = messages.borrow_mut();
        let mut elapsed = Duration::ZERO;
        let mut received = 0;
        for messages in sent.chunks(BURST_MAX) {
            for message in messages {
                receiver.io.push(Port::Underlay, message, NOW);
            }
            let End {
                datapath,
                io,
                out,
                burst,
            } = &mut receiver;
            io.receive(Port::Underlay, burst, BURST_MAX);
            let start = Clock::now();
            datapath.ingress(NOW, burst, io, out);
            elapsed += start.elapsed();
            receiver.send();
            while receiver.io.pop(ACCESS).is_some() {
                received += 1;
            }
        }
        assert_eq!(received, sent.len() as u32, "every message was delivered");
        sent.clear();
        (received, elapsed)
    };
    let measured = take_turns(rounds, &mut [&mut bare, &mut egress, &mut ingress]);
    [measured[0], measured[1], measured[2]]
}

/// `ring` on one buffer, again and again: the least that sealing a frame can cost with it.
fn bare_seal(mut buffer: Vec<u8>) -> impl FnMut() -> (u32, Duration) {
    let key = UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]).map(LessSafeKey::new);
    let key = key.unwrap_or_else(|_| unreachable!("32 octets are a key"));
    let mut counter = 0u64;
    move || {
        let start = Clock::now();
        for _ in 0..BURSTS * BURST_MAX {
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_be_bytes());
            counter += 1;
            let nonce = Nonce::assume_unique_for_key(nonce);
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; 16]), &mut buffer);
            let _ = black_box(tag);
        }
        ((BURSTS * BURST_MAX) as u32, start.elapsed())
    }
}
