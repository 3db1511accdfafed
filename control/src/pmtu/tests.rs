use std::collections::BTreeMap;

use omni_wire::MacAddr;

use super::search::PRECISION;
use super::*;

const PEER: PeerId = PeerId(3);
const START: Instant = Instant(1_000_000_000_000);

/// A generator that gives the same sequence for the same seed (splitmix64).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Random for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes()[..chunk.len()]);
        }
    }
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn way(endpoint: &str, most: u16) -> Way {
    let endpoint: core::net::SocketAddr = endpoint.parse().expect("an address and a port");
    let ours = if endpoint.is_ipv4() {
        "192.0.2.1"
    } else {
        "2001:db8::1"
    };
    Way {
        path: Path {
            source_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            next_hop_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            vlan: None,
            source: ours.parse().expect("an address"),
            source_port: 51820,
            endpoint,
        },
        most,
    }
}

const IPV4: &str = "192.0.2.2:51820";
const ELSEWHERE: &str = "192.0.2.9:51820";
const IPV6: &str = "[2001:db8::2]:51820";

/// One side, and a network with a peer that answers what arrives.
struct World {
    path_mtu: PathMtu,
    rng: Seeded,
    commands: VecDeque<Command>,
    now: Instant,
    /// The longest inner frame that the network carries.
    cut: u16,
    /// Of what goes and, again, of what comes back.
    loss_percent: u64,
    round_trip: Duration,
    is_silent: bool,
    /// Whether data is sent all the time.
    is_busy: bool,
    data_at: Option<Instant>,
    under_way: BTreeMap<(Instant, usize), (Token, u16)>,
    /// All probes: when, and of what size.
    probes: Vec<(Instant, u16)>,
    /// The tokens of the last ones.
    tokens: Vec<Token>,
    /// All limits told.
    limits: Vec<u16>,
}

impl World {
    fn new(cut: u16) -> Self {
        Self {
            path_mtu: PathMtu::default(),
            rng: Seeded(u64::from(cut)),
            commands: VecDeque::new(),
            now: START,
            cut,
            loss_percent: 0,
            round_trip: Duration::from_millis(30),
            is_silent: false,
            is_busy: true,
            data_at: None,
            under_way: BTreeMap::new(),
            probes: Vec::new(),
            tokens: Vec::new(),
            limits: Vec::new(),
        }
    }

    /// A session begins over `way`, and `span` passes.
    fn start(way: Way, cut: u16, span: Duration) -> Self {
        let mut world = Self::new(cut);
        world.follow(way);
        world.run(span);
        world
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut PathMtu, Instant, &mut Hands<'_>) -> T) -> T {
        let mut hands = Hands {
            peer: PEER,
            rng: &mut self.rng,
            commands: &mut self.commands,
        };
        let result = act(&mut self.path_mtu, self.now, &mut hands);
        assert!(self.commands.len() <= 3, "{:?}", self.commands);
        while let Some(command) = self.commands.pop_front() {
            self.carry_out(&command);
        }
        result
    }

    fn carry_out(&mut self, command: &Command) {
        match command {
            Command::SetFrameLimit { peer: PEER, octets } => self.limits.push(*octets),
            Command::SendRecord { peer: PEER, record } => {
                let Some(Record::Probe { token, octets }) = Record::parse(record) else {
                    panic!("no probe: {record:?}");
                };
                assert_eq!(usize::from(octets), record.len());
                self.probes.push((self.now, octets));
                self.tokens.push(token);
                let percent = self.loss_percent;
                let mut is_lost = || self.rng.next() % 100 < percent;
                let (there, back) = (is_lost(), is_lost());
                if octets <= self.cut && !self.is_silent && !there && !back {
                    let at = self.now + self.round_trip;
                    self.under_way
                        .insert((at, self.probes.len()), (token, octets));
                }
            }
            other => panic!("not expected: {other:?}"),
        }
    }

    fn follow(&mut self, way: Way) {
        self.act(|path_mtu, now, hands| path_mtu.follow(now, way, hands));
    }

    fn answer(&mut self, token: Token, octets: u16) -> bool {
        self.act(|path_mtu, now, hands| path_mtu.handle_answer(now, token, octets, hands))
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        let mut at_once = 0;
        loop {
            if self.is_busy {
                self.data_at = Some(self.now);
            }
            // As the Ganglion looks at traffic from time to time.
            let poll = self.now + Duration::from_millis(500);
            let arrival = self.under_way.keys().next().map(|&(at, _)| at);
            let due = self.path_mtu.deadline(self.data_at);
            let next = [arrival, due]
                .into_iter()
                .flatten()
                .fold(poll, Instant::min);
            at_once = if next > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 4, "called again and again");
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            while let Some(entry) = self.under_way.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let (token, octets) = entry.remove();
                self.answer(token, octets);
            }
            let due = self.path_mtu.deadline(self.data_at);
            if due.is_some_and(|due| due <= self.now) {
                let data_at = self.data_at;
                self.act(|path_mtu, now, hands| path_mtu.handle_timeout(now, data_at, hands));
            }
        }
    }

    fn limit(&self) -> u16 {
        self.path_mtu.limit().expect("something is known")
    }

    /// What may be found where the network cuts at `cut` now.
    fn is_found(&self, most: u16) -> bool {
        let best = self.cut.min(most);
        let limit = self.path_mtu.limit();
        limit.is_some_and(|limit| limit <= best && best - limit < PRECISION)
    }
}

#[test]
fn what_both_sides_accept_is_taken_to_work_and_asked_once() {
    let mut world = World::new(1440);
    world.is_busy = false;
    world.follow(way(IPV4, 1440));
    assert_eq!((world.path_mtu.limit(), world.probes.len()), (None, 1));
    world.run(s(3600));
    assert_eq!(world.limits, [1440]);
    assert_eq!(world.probes, [(START, 1440)]);
}

#[test]
fn every_size_is_found_and_none_above_it_is_ever_told() {
    let nothing_else = |world: &World| {
        let mut limits = world.limits.iter();
        limits.all(|&limit| limit <= world.cut)
    };
    for (endpoint, headers) in [(IPV4, 60), (IPV6, 80)] {
        let way = way(endpoint, 9000 - 14);
        for cut in 1200 - headers..=9000 - headers {
            let world = World::start(way, cut, s(75));
            assert!(world.is_found(way.most), "{cut}: {:?}", world.limits);
            assert!(nothing_else(&world), "{cut}: {:?}", world.limits);
            assert!(matches!(world.path_mtu.phase, Phase::Rest), "{cut}");
        }
    }
}

#[test]
fn what_underlays_have_is_found_exactly_and_within_ten_seconds() {
    for (endpoint, headers) in [(IPV4, 60), (IPV6, 80)] {
        for packet in PLAUSIBLE_PACKETS {
            let cut = packet as u16 - headers;
            let world = World::start(way(endpoint, 9200), cut, s(10));
            assert_eq!(world.limit(), cut, "{:?}", world.limits);
            assert_eq!(world.limits[0], 1200 - headers);
            assert!(world.limits.is_sorted());
        }
    }
}

#[test]
fn the_limit_falls_after_three_probes_and_not_before() {
    let mut world = World::new(1440);
    world.follow(way(IPV4, 8926));
    world.run(Duration::from_millis(2999));
    assert!(world.limits.is_empty());
    let sizes: Vec<u16> = world.probes.iter().map(|&(_, octets)| octets).collect();
    assert_eq!(sizes, [8926, 8926, 1140, 8926, 1140]);
    world.run(Duration::from_millis(1));
    assert_eq!(world.limits, [1140]);
}

#[test]
fn losses_are_not_taken_for_a_short_way() {
    let mut in_all = 0;
    for seed in 0..40 {
        let mut world = World::new(1500 + 61 * seed);
        world.loss_percent = 30;
        let way = way(IPV4, 9000);
        world.follow(way);
        world.run(s(300));
        let mut found = 0;
        for _ in 0..100 {
            world.run(s(36));
            found += usize::from(world.is_found(way.most));
        }
        assert!(world.limits.iter().all(|&limit| limit <= world.cut));
        assert!(found >= 80, "{}: {:?}", world.cut, world.limits);
        in_all += found;
    }
    assert!(in_all > 99 * 40, "percent of 40 hours: {in_all}");
}

#[test]
fn a_peer_that_says_nothing_says_nothing_about_sizes() {
    let mut world = World::new(9000);
    world.is_silent = true;
    world.follow(way(IPV4, 8926));
    world.run(s(3600));
    assert_eq!((world.path_mtu.limit(), world.limits.len()), (None, 0));
    assert!(world.probes.len() < 12 * 17, "{}", world.probes.len());
    world.is_busy = false;
    world.run(s(620));
    let before = world.probes.len();
    world.run(s(36_000));
    assert_eq!(world.probes.len(), before, "no data, no probes");
    world.is_silent = false;
    world.follow(way(IPV4, 8926));
    world.run(s(1));
    assert_eq!(world.limits, [8926], "a session is a sign of life");
}

#[test]
fn a_peer_that_dies_in_the_middle_leaves_the_limit_as_it_is() {
    for dies_after in [500, 1500, 3500, 4200, 40_000] {
        let way = way(IPV4, 8926);
        let mut world = World::start(way, 1440, Duration::from_millis(dies_after));
        world.is_silent = true;
        world.run(s(30));
        let limit = world.path_mtu.limit();
        world.run(s(300));
        assert_eq!(world.path_mtu.limit(), limit);
        world.is_silent = false;
        world.run(s(620));
        assert_eq!(world.limit(), 1440, "after {dies_after} ms");
    }
}

#[test]
fn a_black_hole_is_noticed_and_left_when_it_heals() {
    let way = way(IPV4, 1440);
    let mut world = World::start(way, 9000, s(1000));
    assert_eq!(world.limits, [1440]);
    world.cut = 1340;
    world.run(s(34));
    assert_eq!(world.limits[1..], [1140, 1220, 1340]);
    world.run(s(26));
    assert_eq!(world.limits.len(), 4);
    world.cut = 9000;
    world.run(s(560));
    assert_eq!(world.limit(), 1340);
    world.run(s(50));
    assert_eq!(world.limits[4..], [1440]);
}

#[test]
fn trying_more_does_not_lower_what_there_is() {
    let way = way(IPV4, 8926);
    let world = World::start(way, 1433, s(4000));
    let lowest = world.limits.iter().position(|&limit| limit == 1140);
    assert_eq!(lowest, Some(0));
    assert!(world.limits.is_sorted(), "{:?}", world.limits);
    assert!(world.is_found(way.most));
    let tried = world.probes.iter().filter(|(_, octets)| *octets == 8926);
    assert_eq!(tried.count(), 3 * 7, "at the start, and every ten minutes");
}

#[test]
fn only_a_probe_under_way_can_be_answered_with_its_size_and_once() {
    let mut world = World::new(1440);
    world.is_silent = true;
    world.follow(way(IPV4, 8926));
    world.run(Duration::from_millis(2500));
    let [size, _, base, ..] = world.tokens[..] else {
        panic!("five probes");
    };
    for (token, octets) in [
        ([0; 8], 8926),
        ([7; 8], 1140),
        (size, 1140),
        (size, 8925),
        (size, 9000),
        (base, 8926),
        (base, 0),
    ] {
        assert!(!world.answer(token, octets));
    }
    assert!(world.answer(base, 1140));
    assert!(!world.answer(base, 1140));
    assert!(world.limits.is_empty());
    assert!(world.answer(size, 8926));
    assert!(!world.answer(size, 8926));
    assert_eq!(world.limits, [8926]);
}

#[test]
fn nothing_is_probed_while_no_data_is_sent() {
    let mut world = World::start(way(IPV4, 8926), 1440, s(60));
    world.is_busy = false;
    world.run(s(60));
    let before = world.probes.len();
    world.run(s(3600));
    assert_eq!(world.probes.len(), before);
    assert_eq!(world.path_mtu.deadline(world.data_at), None);
    world.data_at = Some(world.now);
    world.run(s(30));
    assert!(world.probes.len() > before);
}

#[test]
fn the_limit_is_confirmed_every_30_seconds_while_data_is_sent() {
    let mut world = World::start(way(IPV4, 1440), 1440, s(300));
    assert!((10..=11).contains(&world.probes.len()));
    world.is_busy = false;
    world.run(s(31));
    let before = world.probes.len();
    world.run(s(300));
    assert_eq!(world.probes.len(), before);
}

#[test]
fn a_new_session_on_a_known_way_asks_nothing_while_that_is_young() {
    let mut world = World::new(1440);
    world.is_busy = false;
    world.follow(way(IPV4, 8926));
    world.run(s(10));
    let before = world.probes.len();
    for _ in 0..4 {
        world.run(s(120));
        world.follow(way(IPV4, 8926));
    }
    assert_eq!(world.probes.len(), before);
    world.run(s(120));
    world.follow(way(IPV4, 8926));
    world.run(s(10));
    assert!(world.probes.len() > before);
    assert_eq!(world.limit(), 1440);
    assert_eq!(
        world.limits.iter().filter(|&&limit| limit < 1440).count(),
        {
            let first = world.limits.iter().position(|&limit| limit == 1440);
            first.expect("it was found")
        }
    );
}

#[test]
fn another_way_is_measured_anew_and_keeps_the_limit_meanwhile() {
    let mut world = World::start(way(IPV4, 8926), 1440, s(20));
    let told = world.limits.len();
    world.cut = 8926;
    world.follow(way(ELSEWHERE, 8926));
    world.run(Duration::from_millis(100));
    assert_eq!(world.limits[told..], [8926]);
    world.cut = 1400;
    world.follow(way(IPV6, 8926));
    world.run(s(20));
    assert_eq!(world.limits[told + 1], 1120, "IPv6 has longer headers");
    assert_eq!(world.limit(), 1400);
    let told = world.limits.len();
    world.follow(way(IPV4, 8926));
    world.run(s(20));
    assert_eq!(world.limits.len(), told, "as much as before");
}

#[test]
fn answers_that_were_sent_another_way_do_not_count() {
    let mut world = World::new(9000);
    world.follow(way(IPV4, 8926));
    world.under_way.clear();
    let token = world.tokens[0];
    world.follow(way(ELSEWHERE, 8926));
    assert!(!world.answer(token, 8926));
    assert!(world.limits.is_empty());
}

#[test]
fn ways_that_change_all_the_time_cause_a_probe_a_second() {
    let mut world = World::new(9000);
    for round in 0..1000 {
        world.follow(way([IPV4, ELSEWHERE][round % 2], 8926));
        world.run(Duration::from_millis(10));
    }
    assert!((9..=11).contains(&world.probes.len()), "{:?}", world.probes);
}

#[test]
fn a_lower_bound_of_one_side_counts_at_once_and_a_higher_one_is_asked_for() {
    let mut world = World::start(way(IPV4, 8926), 9000, s(5));
    world.follow(way(IPV4, 1440));
    assert_eq!(world.limits, [8926, 1440]);
    assert_eq!(world.probes.len(), 1);
    world.follow(way(IPV4, 4000));
    world.run(s(1));
    assert_eq!(world.limits, [8926, 1440, 4000]);
    world.cut = 1340;
    world.run(s(40));
    let told = world.limits.len();
    assert_eq!(world.limit(), 1340);
    world.follow(way(IPV4, 8926));
    world.run(s(10));
    assert_eq!(world.limits.len(), told, "the way is what limits");
}

#[test]
fn nothing_is_to_be_found_out_about_what_every_underlay_carries() {
    for most in [0, 12, 64, 1139, 1140] {
        let world = World::start(way(IPV4, most), 9000, s(2000));
        assert!(world.probes.is_empty() && world.limits.is_empty());
    }
    let mut world = World::start(way(IPV4, 8926), 1440, s(60));
    world.follow(way(IPV6, 1130));
    world.run(s(2000));
    world.follow(way(IPV4, 1130));
    world.run(s(2000));
    assert_eq!(world.limit(), 1130);
}

#[test]
fn answers_may_take_seconds() {
    for round_trip in [900, 1100, 2500, 6000] {
        let mut world = World::new(1440);
        world.round_trip = Duration::from_millis(round_trip);
        world.follow(way(IPV4, 8926));
        world.run(s(400));
        assert_eq!(world.limit(), 1440, "{round_trip} ms");
        world.cut = 9000;
        world.run(s(700));
        assert_eq!(world.limit(), 8926, "{round_trip} ms");
    }
}

#[test]
fn the_longest_frame_of_all_can_be_asked_for() {
    let world = World::start(way(IPV4, u16::MAX), u16::MAX, s(1));
    assert_eq!(world.limits, [u16::MAX]);
}

#[test]
fn records_are_what_the_document_says() {
    let probe = Record::Probe {
        token: *b"question",
        octets: 1400,
    };
    let answer = Record::Answer {
        token: *b"question",
        octets: 1400,
    };
    let octets = |record: Record| match record.to(PEER) {
        Command::SendRecord { peer: PEER, record } => record.to_vec(),
        other => panic!("not expected: {other:?}"),
    };
    let sent = octets(probe);
    assert_eq!(sent.len(), 1400);
    assert_eq!(&sent[..12], b"\x10\x00\x05\x74question");
    assert!(sent[12..].iter().all(|&octet| octet == 0));
    assert_eq!(octets(answer), b"\x11\x00\x00\x0aquestion\x05\x78");
    for record in [probe, answer] {
        let sent = octets(record);
        assert!(Record::is_of_kind(&sent));
        assert_eq!(Record::parse(&sent), Some(record));
        for len in 0..sent.len() {
            assert_eq!(Record::parse(&sent[..len]), None);
        }
    }
}

#[test]
fn records_of_other_kinds_and_lengths_are_none() {
    for kind in 0..=u8::MAX {
        let record = [&[kind, 0, 0, 10], &[1; 10][..]].concat();
        let is_ours = matches!(kind, 16 | 17);
        assert_eq!(Record::is_of_kind(&record), is_ours);
        assert_eq!(Record::parse(&record).is_some(), is_ours);
    }
    assert!(!Record::is_of_kind(&[]));
    assert_eq!(Record::parse(&[17, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]), None);
    assert_eq!(Record::parse(&[16, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7]), None);
    let least = [16, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let token = [1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(
        Record::parse(&least),
        Some(Record::Probe { token, octets: 12 })
    );
}
