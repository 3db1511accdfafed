use std::collections::BTreeMap;

use omni_engine::show::{
    AlarmView, FdbView, GroupView, NodeView, PortView, QueueView, RecoveryView, SwitchView,
    VlanPortView, VlanView, WantingAllView,
};
use omni_engine::stats::Percentiles;

use super::*;

const PLAIN: View<'_> = View {
    pen: Pen { colors: false },
    full_keys: false,
    width: WIDTH,
    rates: None,
};
const BETA: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
const GAMMA: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

/// A node at work.
pub(crate) fn sample() -> Show {
    Show {
        node: NodeView {
            name: "alpha".to_owned(),
            fabric: "lab".to_owned(),
            public_key: "5N+0u2Mcx2zHyTk+L3MHV6Yc7JgX3Qf5t2o7hY8a3gE=".to_owned(),
            uptime_seconds: 11_533,
        },
        peers: peers(),
        nuclei: Vec::new(),
        fdb: vec![
            fdb_entry(0, "02:00:00:00:00:01", "local:omni0", "learned", 4),
            fdb_entry(0, "02:00:00:00:00:02", BETA, "learned", 31),
            fdb_entry(20, "02:00:00:00:00:03", GAMMA, "static", 0),
            FdbView {
                sequence: Some(3_912_774),
                ..fdb_entry(20, "02:00:00:00:00:05", GAMMA, "learned", 2)
            },
            fdb_entry(4094, "02:00:00:00:00:04", "AAAAAAAAgone", "claimed", 400),
        ],
        neighbors: vec![NeighborView {
            vlan: 0,
            ip: "2001:db8::2".to_owned(),
            mac: "02:00:00:00:00:02".to_owned(),
            owner: BETA.to_owned(),
            source: "snooped".to_owned(),
            age_seconds: 31,
        }],
        vlans: vlans(),
        groups: vec![GroupView {
            vlan: 20,
            group: "ff05::1:3".to_owned(),
            members: ["local:omni1", GAMMA].map(str::to_owned).into(),
        }],
        alarms: vec![alarm(20, 5, GAMMA)],
        switch: switch_view(),
        ports: ports(),
        queues: queues(),
        drops: [
            ("bad_tag", 3),
            ("no_destination", 81_234),
            ("vlan_invalid", 3),
            ("new", 1),
        ]
        .map(|(reason, count)| (reason.to_owned(), count))
        .into(),
        umem: UmemView {
            frames_total: 8192,
            frames_free: 6100,
            frames_receiving: 2048,
            frames_sending: 12,
            frames_held: 32,
        },
        recovery: RecoveryView::default(),
    }
}

fn ports() -> Vec<PortView> {
    let underlay = PortView {
        name: "eth0".to_owned(),
        side: "underlay".to_owned(),
        driver: "afxdp".to_owned(),
        sends_by: "udp".to_owned(),
        mode: "native".to_owned(),
        made: false,
        mtu: 1500,
        vlans: None,
        vlan_mode: None,
        state: "up".to_owned(),
        rx_frames: 81_300,
        rx_bytes: 12_900_000,
        tx_frames: 1_234_600,
        tx_bytes: 1_900_000_000,
        rx_dropped: 0,
        tx_dropped: 3,
    };
    let access = PortView {
        name: "omni0".to_owned(),
        side: "access".to_owned(),
        driver: "tap".to_owned(),
        sends_by: "tap".to_owned(),
        mode: "tap".to_owned(),
        made: true,
        mtu: 1426,
        vlans: Some("0,20,100-200".to_owned()),
        vlan_mode: Some("trunk".to_owned()),
        ..underlay.clone()
    };
    vec![underlay, access]
}

fn vlans() -> Vec<VlanView> {
    let port = |interface: &str, mode: &str| VlanPortView {
        interface: interface.to_owned(),
        mode: mode.to_owned(),
    };
    let untagged = VlanView {
        vlan: 0,
        ports: vec![port("omni0", "trunk")],
        peer_count: 2,
        peers: [BETA, GAMMA].map(str::to_owned).into(),
        macs: 2,
        addresses: 1,
        groups: 0,
    };
    let tagged = VlanView {
        vlan: 20,
        ports: vec![port("omni0", "trunk"), port("omni1", "access")],
        peer_count: 12,
        peers: Vec::new(),
        macs: 1_200,
        addresses: 0,
        groups: 1,
    };
    let elsewhere = VlanView {
        vlan: 4094,
        ports: Vec::new(),
        peer_count: 0,
        macs: 1,
        groups: 0,
        ..tagged.clone()
    };
    vec![untagged, tagged, elsewhere]
}

fn alarm(vlan: u16, last: u8, owner: &str) -> AlarmView {
    AlarmView {
        vlan,
        mac: format!("02:00:00:00:00:{last:02x}"),
        owner: owner.to_owned(),
        reason: "moved_too_often".to_owned(),
        remaining_seconds: 1_450,
    }
}

fn switch_view() -> SwitchView {
    let wanting = |owner: &str, vlan| WantingAllView {
        owner: owner.to_owned(),
        vlan,
    };
    SwitchView {
        suppression: "on".to_owned(),
        unknown_unicast: "flood".to_owned(),
        multicast: "snoop".to_owned(),
        wanting_all: vec![wanting("local:omni0", Some(20)), wanting(BETA, None)],
        arp_answered: 1_234,
        arp_unknown: 34,
        moves: 5,
        frozen: 1,
        ..SwitchView::default()
    }
}

fn peers() -> Vec<PeerView> {
    let beta = PeerView {
        name: "beta".to_owned(),
        public_key: BETA.to_owned(),
        endpoint: Some("192.0.2.2:51820".to_owned()),
        state: "established".to_owned(),
        last_handshake_seconds: Some(12),
        frame_limit: Some(1440),
        throttled: false,
        rx_frames: 81_234,
        rx_bytes: 12_345_678,
        tx_frames: 1_234_567,
        tx_bytes: 1_800_000_000,
    };
    let gamma = PeerView {
        name: "gamma".to_owned(),
        public_key: GAMMA.to_owned(),
        endpoint: None,
        state: "idle".to_owned(),
        last_handshake_seconds: None,
        frame_limit: None,
        throttled: false,
        rx_frames: 0,
        rx_bytes: 0,
        tx_frames: 0,
        tx_bytes: 0,
    };
    vec![beta, gamma]
}

fn fdb_entry(vlan: u16, mac: &str, owner: &str, kind: &str, age_seconds: u64) -> FdbView {
    let [mac, owner, kind] = [mac, owner, kind].map(str::to_owned);
    FdbView {
        vlan,
        mac,
        owner,
        kind,
        age_seconds,
        sequence: None,
    }
}

fn queues() -> Vec<QueueView> {
    let underlay = QueueView {
        worker: 0,
        core: Some(2),
        port: "eth0".to_owned(),
        queue: 0,
        mode: "native".to_owned(),
        copy: "zero_copy".to_owned(),
        rx_frames: 81_240,
        tx_frames: 1_234_570,
        stalls: 0,
        latency_ns: Percentiles {
            count: 81_234,
            p50: 812,
            p90: 1_234,
            p99: 12_400,
            p999: 99_960,
            p9999: 1_800_000,
            max: 2_000_000_000,
        },
    };
    let access = QueueView {
        core: None,
        port: "omni0-engine-up".to_owned(),
        queue: 11,
        mode: "generic".to_owned(),
        copy: "copy".to_owned(),
        latency_ns: Percentiles::default(),
        ..underlay.clone()
    };
    vec![underlay, access]
}

const SCREEN: &str = "\
alpha  fabric lab  key 5N+0u2Mcx2zHyTk+L3MHV6Yc7JgX3Qf5t2o7hY8a3gE=  up 3h 12m
ALARM  VLAN 20 02:00:00:00:00:05 moved too often: stays behind gamma for 24m 10s

peers  2
  name   key         endpoint         state        handshake  limit       rx  frames      tx  frames
  beta   hSDwCYkw..  192.0.2.2:51820  established  12 s ago    1440  12.3 MB  81.2 k  1.8 GB   1.2 M
  gamma  3p7bfXt9..  -                idle         -              -      0 B       0     0 B       0

fdb  5
  vlan  mac                owner        kind     seen          move
     -  02:00:00:00:00:01  local:omni0  learned  4 s ago          -
     -  02:00:00:00:00:02  beta         learned  31 s ago         -
    20  02:00:00:00:00:03  gamma        static   now              -
    20  02:00:00:00:00:05  gamma        learned  2 s ago    3912774
  4094  02:00:00:00:00:04  AAAAAAAA..   claimed  6 min ago        -

neighbors  1
  vlan  ip           mac                owner  source   seen
     -  2001:db8::2  02:00:00:00:00:02  beta   snooped  31 s ago

vlans  3
  vlan   macs  ips  groups  peers  carried by
     -      2    1       0      2  omni0 (trunk), beta, gamma
    20  1.2 k    0       1     12  omni0 (trunk), omni1 (access)
  4094      1    0       0      0  -

groups  1
  vlan  group        wanted by
   all  every group  beta
    20  every group  local:omni0
    20  ff05::1:3    local:omni1, gamma

switch
  suppression on, unknown unicast flood, multicast snoop
  event         count  meaning
  arp_answered  1.2 k  ARP requests answered here.
  arp_unknown      34  ARP requests for unknown addresses; they went on.
  moves             5  MAC addresses that went from one owner to another.
  frozen            1  MAC addresses that moved too often and stayed where they were for a while.

ports  2
  port   driver      mode     mtu  vlans         state       rx  frames      tx  frames  dropped
  eth0   afxdp, udp  native  1500  -             up     12.9 MB  81.3 k  1.9 GB   1.2 M        3
  omni0  tap         tap     1426  0,20,100-200  up     12.9 MB  81.3 k  1.9 GB   1.2 M        3

queues  2
  worker  core  port             queue  mode                   rx     tx
       0     2  eth0                 0  native, zero-copy  81.2 k  1.2 M
       0     -  omni0-engine-up     11  generic, copy      81.2 k  1.2 M

  port             queue  measured     p50     p90      p99   p99.9  p99.99    max
  eth0                 0    81.2 k  812 ns  1.2 us  12.4 us  100 us  1.8 ms  2.0 s
  omni0-engine-up     11         -       -       -        -       -       -      -

drops
  reason           count  meaning
  no_destination  81.2 k  Destination is unknown and there is no peer to flood to.
  bad_tag              3  Poly1305 tag does not verify.
  vlan_invalid         3  VLAN tags that are not carried: VID 4095, VID 0 below another tag, more
                          than two tags.
  new                  1  Not known to this version of omni.

umem
  [#<<<<<<<<<<<<<<<>...........................................]  8192 frames in all
  . 6100 free   # 32 held   < 2048 with the kernel to receive   > 12 to send
";

#[test]
fn the_whole_screen_is_as_drawn() {
    assert_eq!(screen(&sample(), PLAIN), SCREEN);
}

#[test]
fn a_node_without_anything_says_so_in_words() {
    let empty = Show {
        peers: Vec::new(),
        nuclei: Vec::new(),
        fdb: Vec::new(),
        neighbors: Vec::new(),
        vlans: Vec::new(),
        groups: Vec::new(),
        alarms: Vec::new(),
        switch: SwitchView {
            suppression: "off".to_owned(),
            unknown_unicast: "drop".to_owned(),
            multicast: "snoop".to_owned(),
            ..SwitchView::default()
        },
        ports: Vec::new(),
        queues: Vec::new(),
        drops: BTreeMap::new(),
        umem: UmemView {
            frames_total: 0,
            frames_free: 0,
            frames_receiving: 0,
            frames_sending: 0,
            frames_held: 0,
        },
        ..sample()
    };
    let bar = ".".repeat(BAR);
    let want = format!(
        "\
alpha  fabric lab  key 5N+0u2Mcx2zHyTk+L3MHV6Yc7JgX3Qf5t2o7hY8a3gE=  up 3h 12m

peers
  no peers

fdb
  no addresses yet

neighbors
  no bindings

vlans
  nothing is known of any VLAN

groups
  no groups

switch
  suppression off, unknown unicast drop, multicast snoop

ports
  not told by this engine

queues
  no queues

drops
  nothing was dropped

umem
  [{bar}]  0 frames in all
  . 0 free   # 0 held   < 0 with the kernel to receive   > 0 to send
"
    );
    assert_eq!(screen(&empty, PLAIN), want);
}

#[test]
fn the_longest_names_and_addresses_fit_into_100_columns() {
    let mut show = sample();
    show.node.name = "n".repeat(64);
    show.node.fabric = "f".repeat(64);
    show.node.uptime_seconds = 86_400 * 1_000;
    for peer in &mut show.peers {
        peer.name = "p".repeat(64);
        peer.endpoint = Some("[2001:0db8:1111:2222:3333:4444:5555:6666]:51820".to_owned());
        peer.last_handshake_seconds = Some(3_599);
        peer.frame_limit = Some(9_578);
        (peer.rx_bytes, peer.tx_bytes) = (u64::MAX, 99_900);
    }
    for vlan in &mut show.vlans {
        vlan.ports = (0..16)
            .map(|n| VlanPortView {
                interface: format!("fifteen-char-{n:02}"),
                mode: "access".to_owned(),
            })
            .collect();
        vlan.peers = [BETA, GAMMA].map(str::to_owned).into();
    }
    show.groups[0].group = "ff05:1111:2222:3333:4444:5555:6666:7777".to_owned();
    show.groups[0].members = vec![BETA.to_owned(); 16];
    show.alarms = vec![alarm(4094, 5, GAMMA); 9];
    show.switch = most_of_everything();
    for port in &mut show.ports {
        port.name = "fifteen-char-00".to_owned();
        (port.mtu, port.state) = (65_535, "down".to_owned());
        (port.rx_bytes, port.rx_frames, port.tx_frames) = (u64::MAX, 99_900, 99_900);
        port.tx_dropped = 99_900;
        port.vlans = Some("0,1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31,33,35".to_owned());
        port.vlan_mode = Some("trunk".to_owned());
    }
    for queue in &mut show.queues {
        let worst = 99_900;
        (queue.rx_frames, queue.tx_frames) = (u64::MAX, worst);
        queue.latency_ns = Percentiles {
            count: worst,
            p50: worst,
            p90: worst,
            p99: worst,
            p999: worst,
            p9999: worst,
            max: worst,
        };
    }
    show.drops = DropReason::ALL
        .iter()
        .map(|it| (it.as_str().to_owned(), 99_900))
        .collect();
    let alone = Section::value_variants().iter();
    let alone: String = alone.map(|&it| section(&show, it, PLAIN)).collect();
    for line in (screen(&show, PLAIN) + &alone).lines() {
        assert!(line.chars().count() <= WIDTH, "{line}");
    }
}

/// Every count of the switch at its widest.
fn most_of_everything() -> SwitchView {
    let n = 99_900;
    SwitchView {
        arp_answered: n,
        arp_unknown: n,
        nd_answered: n,
        nd_unknown: n,
        stale_answers: n,
        too_big_answered: n,
        moves: n,
        frozen: n,
        claims_sent: n,
        claims_refused: n,
        evicted: n,
        bindings_refused: n,
        groups_refused: n,
        records_limited: n,
        records_malformed: n,
        sends_left_out: n,
        ..switch_view()
    }
}

#[test]
fn alarms_are_on_top_of_the_screen_and_of_the_addresses() {
    let mut show = sample();
    let text = section(&show, Section::Fdb, PLAIN);
    let first =
        "ALARM  VLAN 20 02:00:00:00:00:05 moved too often: stays behind gamma for 24m 10s\n\n";
    assert!(text.starts_with(first), "{text}");
    show.alarms = (0..7).map(|n| alarm(0, n, "local:omni0")).collect();
    let text = screen(&show, PLAIN);
    let lines: Vec<_> = text.lines().collect();
    let third = "ALARM  02:00:00:00:00:02 moved too often: stays behind local:omni0 for 24m 10s";
    assert_eq!(lines[3], third);
    assert_eq!(lines[5..8], ["and 3 more: omni show fdb", "", "peers  2"]);
    let fdb = section(&show, Section::Fdb, PLAIN);
    assert_eq!(fdb.matches("ALARM").count(), 7);
    let colored = View {
        pen: Pen { colors: true },
        ..PLAIN
    };
    assert!(screen(&show, colored).contains("\x1b[1;31mALARM"));
}

#[test]
fn the_section_of_the_switch_has_every_count_and_the_screen_those_that_occurred() {
    let text = section(&sample(), Section::Switch, PLAIN);
    assert_eq!(text.lines().count(), 2 + 16, "{text}");
    assert!(text.contains("\nclaims_sent "), "{text}");
    let json = serde_json::to_value(most_of_everything()).unwrap();
    let members = json.as_object().unwrap().iter();
    for (name, _) in members.filter(|(_, value)| value.is_u64()) {
        assert!(text.contains(name.as_str()), "{name} is not on the screen");
    }
}

#[test]
fn groups_are_not_listed_where_multicast_goes_to_everyone() {
    let mut show = sample();
    show.switch.multicast = "flood".to_owned();
    let want = "multicast goes to everyone: switch.multicast: flood\n";
    assert_eq!(section(&show, Section::Groups, PLAIN), want);
}

#[test]
fn the_screen_cuts_long_tables_and_a_section_does_not() {
    let mut show = sample();
    let rows = ROWS_MAX + 5;
    show.alarms.clear();
    show.fdb = (0..rows)
        .map(|_| fdb_entry(0, "02:00:00:00:00:01", BETA, "learned", 1))
        .collect();
    let text = screen(&show, PLAIN);
    assert_eq!(text.matches("02:00:00:00:00:01").count(), ROWS_MAX);
    assert!(text.contains("  and 5 more: omni show fdb\n"), "{text}");
    assert!(text.contains(&format!("fdb  {rows}\n")), "{text}");
    assert_eq!(
        section(&show, Section::Fdb, PLAIN).lines().count(),
        1 + rows
    );
    show.fdb.truncate(ROWS_MAX);
    assert!(!screen(&show, PLAIN).contains("more:"));
}

#[test]
fn full_keys_are_whole_wherever_a_key_stands() {
    let mut show = sample();
    show.peers[0].name = "a-name-of-more-than-20-characters".to_owned();
    let full = View {
        full_keys: true,
        ..PLAIN
    };
    let text = section(&show, Section::Peers, full) + &section(&show, Section::Fdb, full);
    for whole in [BETA, GAMMA, "AAAAAAAAgone"] {
        assert!(text.contains(whole), "{text}");
    }
    assert!(!text.contains(".."), "{text}");
    assert!(text.contains("a-name-of-more-than-20-characters"), "{text}");
    assert!(section(&show, Section::Peers, PLAIN).contains("a-name-of-more-tha..  "));
}

#[test]
fn states_have_their_colours_and_numbers_have_none() {
    let mut show = sample();
    show.peers[1].state = "handshaking".to_owned();
    let colored = View {
        pen: Pen { colors: true },
        ..PLAIN
    };
    let text = screen(&show, colored);
    for want in [
        "\x1b[32mestablished\x1b[0m",
        "\x1b[33mhandshaking\x1b[0m",
        "  12.3 MB  81.2 k  ",
    ] {
        assert!(text.contains(want), "{want:?} in {text:?}");
    }
    assert!(section(&sample(), Section::Peers, colored).contains("\x1b[2midle\x1b[0m"));
    assert!(!screen(&show, PLAIN).contains('\x1b'));
}

#[test]
fn names_from_the_engine_cannot_move_the_cursor() {
    let mut show = sample();
    show.node.name = "a\x1b[2J".to_owned();
    show.peers[0].name = "b\x1b[H\n".to_owned();
    show.queues[0].port = "\x07eth".to_owned();
    show.alarms[0].mac = "\x1b[2J".to_owned();
    show.switch.multicast = "\r".to_owned();
    show.vlans[0].ports[0].interface = "\x1b[H".to_owned();
    show.groups[0].members[0] = "\n".to_owned();
    let text = screen(&show, PLAIN);
    assert!(
        text.chars().all(|char| char == '\n' || !char.is_control()),
        "{text:?}"
    );
}

#[test]
fn what_did_not_go_on_is_told_below_the_queues_and_a_defect_below_the_bar() {
    let trouble = Show {
        recovery: RecoveryView {
            worker_stalls: 0,
            queue_stalls: 2,
            reopened: 1,
            reattached: 0,
            unsound: 3,
        },
        ..sample()
    };
    let text = screen(&trouble, PLAIN);
    let stalls = "2 times a queue stood still, 1 times sockets were made anew\n";
    assert!(text.contains(stalls), "{text}");
    assert!(
        text.ends_with("frames did not add up 3 times: a defect, report it\n"),
        "{text}"
    );
}

#[test]
fn what_is_watched_has_rates_in_columns_of_their_own() {
    let flow = Flow {
        in_frames: 1_234.0,
        in_bits: 10_000_000.0,
        out_frames: 0.5,
        out_bits: 400.0,
    };
    let rates = Rates {
        seconds: 1.0,
        total: flow,
        peers: [(BETA.to_owned(), flow)].into(),
        queues: [(("eth0".to_owned(), 0), flow)].into(),
        ports: [("eth0".to_owned(), flow)].into(),
        port_drops: [("eth0".to_owned(), 7.0)].into(),
        drops: [("bad_tag".to_owned(), 2.5)].into(),
    };
    let watched = View {
        rates: Some(&rates),
        width: 180,
        ..PLAIN
    };
    let text = screen(&sample(), watched);
    for want in [
        "tx  frames       rx/s  frames/s     tx/s  frames/s\n",
        "1.2 M  10.0 Mbit     1.2 k  400 bit       0.5\n",
        "  0          -         -        -         -\n",
        "frames/s  dropped/s\n",
        "0.5        7.0\n",
        "  bad_tag              3    2.5  Poly1305 tag does not verify.\n",
        "  no_destination  81.2 k      -  Destination",
    ] {
        assert!(text.contains(want), "{want:?} in {text}");
    }
    let queue = text
        .lines()
        .find(|line| line.contains("zero-copy"))
        .expect("a queue");
    assert!(queue.contains("1.2 M  1.2 k   0.5"), "{text}");
    let colored = View {
        pen: Pen { colors: true },
        ..watched
    };
    let text = section(&sample(), Section::Drops, colored);
    assert!(text.contains("\x1b[1;31m2.5\x1b[0m"), "{text:?}");
    assert!(!screen(&sample(), PLAIN).contains("/s"));
}

#[test]
fn every_drop_reason_is_explained() {
    for reason in DropReason::ALL {
        assert!(
            !meaning(reason.as_str()).starts_with("Not known"),
            "{reason:?}"
        );
    }
}

#[test]
fn the_bar_is_as_long_whatever_the_numbers() {
    let umem = |total, receiving, sending, held| UmemView {
        frames_total: total,
        frames_free: 0,
        frames_receiving: receiving,
        frames_sending: sending,
        frames_held: held,
    };
    let cases = [
        umem(1, 1, 0, 0),
        umem(3, 1, 1, 1),
        umem(1_000_000, 1, 1, 1),
        umem(8, 8, 8, 8),
        umem(0, u64::MAX, u64::MAX, u64::MAX),
    ];
    for umem in cases {
        let text = Body {
            view: PLAIN,
            indent: 0,
            rows_max: 0,
        }
        .umem(umem, 0);
        assert_eq!(text.find(']'), Some(BAR + 1), "{text}");
    }
    assert_eq!(
        [share(0, 8), share(1, 1_000_000), share(4, 8), share(8, 8)],
        [0, 1, 30, 60]
    );
}
