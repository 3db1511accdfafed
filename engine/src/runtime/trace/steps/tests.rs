use std::collections::BTreeMap;
use std::time::Duration;

use omni_control::PublicKey;
use omni_control::message::VlanBits;
use omni_wire::Instant;

use super::super::scene::{QueueScene, Settings};
use super::*;
use crate::switch::{Bound, PeerLimits, Switch, SwitchConfig};

const START: Instant = Instant(1_000_000_000_000);
const BETA: PeerId = PeerId(7);
const LOCAL: PortId = PortId(0);

fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn switch() -> Switch {
    let mut switch = Switch::new(SwitchConfig::new(2, PublicKey([9; 32])));
    switch.add_peer(START, BETA, PublicKey([7; 32]), PeerLimits::default());
    let key = |last| FdbKey {
        vlan: 0,
        mac: mac(last),
    };
    switch.learned(START, 0, key(1), Owner::Local(LOCAL));
    switch.learned(START, 0, key(2), Owner::Peer(BETA));
    switch
}

/// The local host has an IP address as well.
fn bound_switch() -> Switch {
    let mut switch = switch();
    let bound = Bound {
        vlan: 0,
        ip: ip("10.7.0.1"),
        mac: mac(1),
        owner: Owner::Local(LOCAL),
    };
    switch.bound(START, bound);
    switch
}

fn port(number: u8, name: &str, vlans: PortVlans) -> PortScene {
    PortScene {
        id: PortId(number),
        name: name.to_owned(),
        vlans,
        storm: None,
        queues: vec![QueueScene {
            queue: 0,
            worker: 0,
            core: Some(3),
        }],
    }
}

fn beta() -> PeerScene {
    PeerScene {
        name: "beta".to_owned(),
        public_key: PublicKey([7; 32]),
        state: PeerState::Established,
        session: Some(Duration::from_secs(5)),
        unanswered: None,
        endpoint: Some("192.0.2.2:51820".parse().expect("an endpoint")),
        way: None,
        lanes: vec![(0, 51820)],
        vlans: VlanBits::ALL,
        accepts: Some(1440),
        probed: Some(1400),
        limit: Some(1400),
        throttled: false,
    }
}

fn scene(switch: &Switch, peer: PeerScene) -> Scene<'_> {
    Scene {
        now: START + Duration::from_secs(12),
        switch,
        settings: Settings {
            ageing: Duration::from_secs(300),
            suppression: true,
            drop_unknown: false,
            engine_mac: mac(99),
            max_frame: 1440,
        },
        ports: vec![
            port(0, "omni0", PortVlans::default()),
            port(1, "omni1", PortVlans::Access(30)),
        ],
        peers: BTreeMap::from([(BETA, peer)]),
    }
}

fn text_of<'a>(trace: &'a Trace, step: &str) -> &'a str {
    let mut steps = trace.steps.iter();
    let found = steps.find(|known| known.step == step);
    found.map_or("", |found| found.text.as_str())
}

#[test]
fn a_known_address_is_followed_to_its_peer_and_the_limit_there() {
    let switch = switch();
    let scene = scene(&switch, beta());
    let trace = scene.trace("", &Target::Mac(mac(2)), None, Some(LOCAL));
    let learned = "02:00:00:00:00:02 is behind beta: learned, heard 12 s of 300 s ago";
    assert_eq!(text_of(&trace, "address"), learned);
    assert!(text_of(&trace, "port").contains("queue 0 by worker 0 on core 3"));
    assert!(text_of(&trace, "session").starts_with("with beta, 5 s old"));
    assert!(text_of(&trace, "mtu").starts_with("frames of 1400 octets, packets of 1386"));
    assert_eq!(trace.peers.len(), 1);
    // The kernel was not asked for the way yet.
    assert_eq!(trace.verdict, Verdict::Staged);
}

#[test]
fn without_a_session_it_waits_or_is_dropped_where_nobody_can_be_called() {
    let switch = switch();
    let idle = PeerScene {
        state: PeerState::Idle,
        session: None,
        accepts: None,
        limit: None,
        ..beta()
    };
    let callable = scene(&switch, idle.clone());
    let trace = callable.trace("", &Target::Peer(BETA), None, None);
    assert_eq!((trace.verdict, trace.drop), (Verdict::Staged, None));
    let unknown = PeerScene {
        endpoint: None,
        ..idle
    };
    let trace = scene(&switch, unknown).trace("", &Target::Mac(mac(2)), None, None);
    let want = (Verdict::Dropped, Some("no_endpoint".to_owned()));
    assert_eq!((trace.verdict, trace.drop), want);
}

#[test]
fn what_is_local_is_delivered_or_reflected_and_vlans_are_kept_apart() {
    let switch = bound_switch();
    let scene = scene(&switch, beta());
    let to_host = |from, vlan| scene.trace("", &Target::Ip(ip("10.7.0.1")), vlan, from);
    let trace = to_host(None, None);
    assert_eq!(trace.verdict, Verdict::Delivered);
    assert_eq!(
        (trace.vlan, &trace.ports[..]),
        (0, &["omni0".to_owned()][..])
    );
    assert!(text_of(&trace, "binding").contains("snooped 12 s ago; questions for it"));
    let reflected = to_host(Some(LOCAL), None);
    assert_eq!(reflected.drop.as_deref(), Some("reflected"));
    // The other port is in VLAN 30 alone, where nobody was heard with it.
    let other = to_host(Some(PortId(1)), None);
    assert_eq!((other.vlan, other.verdict), (30, Verdict::Flooded));
    let strange = to_host(Some(PortId(1)), Some(20));
    assert_eq!(strange.drop.as_deref(), Some("vlan_not_allowed"));
}

#[test]
fn what_nobody_has_is_flooded_to_those_who_may_have_it_or_dropped() {
    let switch = switch();
    let mut scene = scene(&switch, beta());
    let unknown = Target::Mac(mac(50));
    let trace = scene.trace("", &unknown, None, Some(LOCAL));
    assert_eq!(trace.verdict, Verdict::Flooded);
    assert_eq!((trace.ports.len(), trace.peers.len()), (0, 1));
    scene.settings.drop_unknown = true;
    let trace = scene.trace("", &unknown, None, Some(LOCAL));
    assert_eq!(trace.drop.as_deref(), Some("unknown_unicast"));
    let shut_out = PeerScene {
        vlans: VlanBits::NONE,
        ..beta()
    };
    scene.peers.insert(BETA, shut_out);
    let trace = scene.trace("", &Target::Mac(MacAddr([0xff; 6])), None, Some(LOCAL));
    assert_eq!(trace.drop.as_deref(), Some("no_destination"));
    let reserved = Target::Mac(MacAddr([1, 0x80, 0xc2, 0, 0, 14]));
    let trace = scene.trace("", &reserved, None, Some(LOCAL));
    assert_eq!(trace.drop.as_deref(), Some("reserved_destination"));
}

#[test]
fn a_frozen_address_is_warned_of() {
    let mut switch = switch();
    let key = FdbKey {
        vlan: 0,
        mac: mac(1),
    };
    let mut now = START;
    for port in [1, 0, 1, 0, 1] {
        switch.contested(now, key, Owner::Local(PortId(port)));
        // Nobody answers for it, and it was silent for long enough.
        now = now + Duration::from_secs(40);
        switch.handle_timeout(now);
        while switch.poll_order().is_some() {}
    }
    let mut scene = scene(&switch, beta());
    scene.now = now;
    let trace = scene.trace("", &Target::Mac(mac(1)), Some(0), None);
    let mut steps = trace.steps.iter();
    let frozen = steps.find(|step| step.text.contains("frozen"));
    let frozen = frozen.expect("a warning");
    assert_eq!(frozen.weight, Weight::Warning);
    assert!(
        frozen.text.contains("source_mac_not_owned"),
        "{}",
        frozen.text
    );
}
