use std::net::IpAddr;
use std::time::Duration;

use omni_membership::{
    AuthorityKey, Binding, Certificate, Endpoint, EndpointKind, FabricName, Grants, IpPrefix,
    PrivateKey, PublicKey, Registration, Revocation, VlanRanges,
};
use omni_wire::{Instant, MacAddr, Now, WallTime};
use prost::Message as _;

use super::*;
use crate::protocol::{
    Called, Changes, FromNode, Pong, Refused, Welcome, from_node::What, from_nucleus,
};

const SECOND: Duration = Duration::from_secs(1);
const START: u64 = 1_800_000_000;
const ALPHA: u8 = 1;
const BETA: u8 = 2;
const GAMMA: u8 = 3;
const TOKEN: [u8; TOKEN_LEN] = [7; TOKEN_LEN];

fn fabric() -> FabricName {
    FabricName::new("lab").expect("a short name")
}

fn authority() -> AuthorityKey {
    AuthorityKey::from_seed(&[9; 32])
}

fn private(node: u8) -> PrivateKey {
    PrivateKey([node; 32])
}

fn public(node: u8) -> PublicKey {
    PublicKey::from_private(&private(node))
}

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 7, 0, n])
}

fn socket(n: u8) -> std::net::SocketAddr {
    (IpAddr::from([192, 0, 2, n]), 51_820).into()
}

fn certificate(node: u8, serial: u64, grants: Grants) -> Vec<u8> {
    let certificate = Certificate {
        public_key: public(node),
        name: format!("node-{node}"),
        serial,
        not_before: START - 100,
        not_after: Some(START + 10_000),
        grants,
    };
    let signed = certificate.sign(&fabric(), &authority()).expect("sound");
    signed.octets().to_vec()
}

fn registration(node: u8, sequence: u64, certificate: Option<Vec<u8>>) -> Vec<u8> {
    let endpoint = |n, kind| Endpoint {
        address: socket(n),
        kind,
    };
    let registration = Registration {
        public_key: public(node),
        sequence,
        endpoints: vec![
            endpoint(node, EndpointKind::Local),
            endpoint(node + 100, EndpointKind::Reflexive),
        ],
        lanes: 2,
        max_frame: 1440,
        vlans: None,
        certificate,
        expires: START + 20_000,
        name: format!("self-{node}"),
    };
    let signed = registration.sign(&fabric(), &private(node)).expect("sound");
    signed.octets().to_vec()
}

fn certified(node: u8, sequence: u64) -> Vec<u8> {
    registration(
        node,
        sequence,
        Some(certificate(node, 5, Grants::default())),
    )
}

fn binding(node: u8, address: u8, at: u8, sequence: u64) -> Binding {
    Binding {
        public_key: public(node),
        vlan: 0,
        mac: mac(at),
        ip: Some(ip(address)),
        sequence,
        expires: START + 600,
        withdrawn: false,
        release_to: None,
    }
}

fn signed(node: u8, binding: &Binding) -> Vec<u8> {
    let signed = binding.sign(&fabric(), &private(node)).expect("sound");
    signed.octets().to_vec()
}

fn bound(node: u8, address: u8, at: u8, sequence: u64) -> Vec<u8> {
    signed(node, &binding(node, address, at, sequence))
}

fn revocation(node: u8, serial: u64) -> Vec<u8> {
    let revocation = Revocation {
        public_key: public(node),
        serial,
        issued_at: START,
        reason: String::new(),
    };
    let signed = revocation.sign(&fabric(), &authority()).expect("sound");
    signed.octets().to_vec()
}

/// An agent, and Nuclei that say what a test wants.
struct Bench {
    agent: Agent,
    now: Now,
    /// What was sent to each.
    sent: Vec<(usize, What)>,
    events: Vec<AgentEvent>,
    revision: u64,
}

impl Bench {
    fn new(nuclei: usize) -> Self {
        Self::with(nuclei, &[])
    }

    fn with(nuclei: usize, known: &[u8]) -> Self {
        let agent = Agent::new(AgentConfig {
            fabric: fabric(),
            authority: Some(authority().public_key()),
            known: known.iter().map(|&node| public(node)).collect(),
            private_key: private(ALPHA),
            name: "alpha".to_owned(),
            certificate: Some(certificate(ALPHA, 1, Grants::default())),
            lanes: 2,
            max_frame: 1440,
            vlans: None,
            nuclei,
        });
        let now = Now {
            instant: Instant(1_000_000_000),
            wall: WallTime(START * 1_000_000_000),
        };
        let mut bench = Self {
            agent: agent.expect("sound"),
            now,
            sent: Vec::new(),
            events: Vec::new(),
            revision: 0,
        };
        bench.agent.handle_timeout(now);
        bench
    }

    /// With a Nucleus that has welcomed it and has its registration.
    fn registered() -> Self {
        let mut bench = Self::new(1);
        bench.connect(0);
        bench.grant_all(0);
        bench.sent.clear();
        bench
    }

    fn connect(&mut self, nucleus: usize) {
        self.agent.connected(self.now, nucleus);
        self.collect();
        self.say(
            nucleus,
            from_nucleus::What::Welcome(Welcome {
                version: 1,
                token: TOKEN.to_vec(),
            }),
        );
    }

    fn collect(&mut self) {
        for nucleus in 0..self.agent.links.len() {
            while let Some(octets) = self.agent.poll_send(self.now, nucleus) {
                let what = FromNode::read(&octets).expect("sound").expect("known");
                self.sent.push((nucleus, what));
            }
        }
        self.events
            .extend(std::iter::from_fn(|| self.agent.poll_event()));
    }

    fn say(&mut self, nucleus: usize, what: from_nucleus::What) {
        let octets = FromNucleus::from(what).encode_to_vec();
        self.agent.handle_message(self.now, nucleus, &octets);
        self.collect();
    }

    fn tell(&mut self, registrations: &[Vec<u8>], bindings: &[Vec<u8>], revocations: &[Vec<u8>]) {
        self.revision += 1;
        let changes = Changes {
            incarnation: vec![1; 16],
            revision: self.revision,
            registrations: registrations.to_vec(),
            bindings: bindings.to_vec(),
            revocations: revocations.to_vec(),
            all: true,
        };
        self.say(0, from_nucleus::What::Changes(changes));
    }

    fn answer(&mut self, nucleus: usize, number: u64, refused: Refused) {
        let result = crate::protocol::Result {
            number,
            refused: refused.into(),
            why: "because".to_owned(),
        };
        self.say(nucleus, from_nucleus::What::Result(result));
    }

    /// Grants everything that was asked for so far, and what is asked for then.
    fn grant_all(&mut self, nucleus: usize) {
        let mut next = 0;
        while let Some((to, what)) = self.sent.get(next).cloned() {
            next += 1;
            let number = match what {
                What::Register(register) => register.number,
                What::Bind(bind) => bind.number,
                _ => continue,
            };
            if to == nucleus {
                self.answer(nucleus, number, Refused::No);
            }
        }
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now.instant + span;
        for _ in 0..100_000 {
            let at = self.agent.poll_timeout();
            if at > end {
                self.now = self.now.advanced(end.since(self.now.instant));
                return;
            }
            self.now = self.now.advanced(at.since(self.now.instant));
            self.agent.handle_timeout(self.now);
            while self.agent.poll_reflection(self.now, 0).is_some() {}
            self.collect();
        }
        panic!("time does not go on");
    }

    fn members(&self) -> Vec<PublicKey> {
        self.agent.members().map(|m| m.public_key).collect()
    }

    fn bound(&self) -> Vec<(IpAddr, MacAddr, PublicKey)> {
        let all = self.agent.bindings(self.now);
        all.map(|b| (b.ip, b.mac, b.owner)).collect()
    }

    fn registrations(&self) -> Vec<Registration> {
        let sent = self.sent.iter().filter_map(|(_, what)| match what {
            What::Register(register) => Some(&register.registration),
            _ => None,
        });
        sent.map(|octets| {
            Registration::verify(octets, &fabric())
                .expect("ours")
                .into_value()
        })
        .collect()
    }

    fn bindings(&self) -> Vec<(u64, Binding)> {
        let sent = self.sent.iter().filter_map(|(_, what)| match what {
            What::Bind(bind) => Some((bind.number, &bind.binding)),
            _ => None,
        });
        sent.map(|(number, octets)| {
            let binding = Binding::verify(octets, &fabric()).expect("ours");
            (number, binding.into_value())
        })
        .collect()
    }
}

#[test]
fn it_says_hello_registers_and_only_then_binds() {
    let mut bench = Bench::new(1);
    let local = [(0, ip(1), mac(1)), (7, ip(1), mac(2))];
    bench.agent.set_bindings(bench.now, local);
    bench.agent.connected(bench.now, 0);
    bench.collect();
    let [(0, What::Hello(hello))] = &bench.sent[..] else {
        panic!("{:?}", bench.sent);
    };
    assert_eq!((hello.version, hello.revision), (1, 0));
    bench.sent.clear();
    bench.connect(0);
    let [(_, What::Hello(_)), (_, What::Register(register))] = &bench.sent[..] else {
        panic!("{:?}", bench.sent);
    };
    let number = register.number;
    assert_eq!(bench.registrations()[0].name, "alpha");
    bench.answer(0, number, Refused::No);
    let sent: Vec<_> = bench
        .bindings()
        .iter()
        .map(|(_, b)| (b.vlan, b.ip, b.mac))
        .collect();
    assert_eq!(sent, [(0, Some(ip(1)), mac(1)), (7, Some(ip(1)), mac(2))]);
    assert!(bench.agent.links().next().expect("one").registered);
}

#[test]
fn members_are_those_with_a_certificate_and_those_of_the_configuration() {
    let mut bench = Bench::with(1, &[GAMMA]);
    bench.connect(0);
    bench.tell(
        &[
            registration(BETA, 1, None),
            registration(GAMMA, 1, None),
            certified(4, 1),
            registration(5, 1, Some(certificate(6, 1, Grants::default()))),
        ],
        &[],
        &[],
    );
    let mut members = vec![public(GAMMA), public(4)];
    members.sort_unstable();
    assert_eq!(bench.members(), members);
    assert_eq!(bench.agent.counters().refused, 2);
    let names = bench.events.iter().map(|event| match event {
        AgentEvent::Member(view) => view.name.as_str(),
        other => panic!("{other:?}"),
    });
    let named: Vec<&str> = names.collect();
    assert_eq!(named, ["self-3", "node-4"]);
    let AgentEvent::Member(view) = &bench.events[0] else {
        panic!("a member")
    };
    assert_eq!(view.endpoints, [socket(GAMMA + 100), socket(GAMMA)]);
}

#[test]
fn a_newer_registration_replaces_and_an_older_one_does_not() {
    let mut bench = Bench::registered();
    for (sequence, news) in [(10, 1), (9, 1), (10, 1), (11, 2)] {
        bench.tell(&[certified(BETA, sequence)], &[], &[]);
        assert_eq!(bench.events.len(), news, "{sequence}");
    }
    // One from a distant future would be the last word for ever.
    bench.tell(&[certified(BETA, (START + 3600) * 1000)], &[], &[]);
    assert_eq!(bench.events.len(), 2);
}

#[test]
fn who_is_revoked_is_gone_with_its_addresses_and_does_not_come_back() {
    let mut bench = Bench::registered();
    bench.tell(&[certified(BETA, 1), certified(GAMMA, 1)], &[], &[]);
    bench.tell(&[], &[bound(BETA, 1, 1, 1), bound(GAMMA, 2, 2, 1)], &[]);
    bench.events.clear();
    bench.tell(&[], &[], &[revocation(BETA, 5)]);
    let expected = [
        AgentEvent::Unbound {
            vlan: 0,
            ip: ip(1),
            owner: public(BETA),
        },
        AgentEvent::MemberGone {
            public_key: public(BETA),
            revoked: true,
        },
    ];
    assert_eq!(bench.events, expected);
    bench.tell(&[certified(BETA, 2)], &[bound(BETA, 1, 1, 2)], &[]);
    assert_eq!(bench.members(), [public(GAMMA)]);
    assert_eq!(bench.bound(), [(ip(2), mac(2), public(GAMMA))]);
    // With a later certificate it does.
    let later = certificate(BETA, 6, Grants::default());
    bench.tell(&[registration(BETA, 3, Some(later))], &[], &[]);
    assert_eq!(bench.members().len(), 2);
}

#[test]
fn what_a_nucleus_does_not_say_any_more_stays() {
    let mut bench = Bench::registered();
    bench.tell(&[certified(BETA, 1)], &[bound(BETA, 1, 1, 1)], &[]);
    bench.events.clear();
    let empty = |incarnation: u8, revision| {
        from_nucleus::What::Changes(Changes {
            incarnation: vec![incarnation; 16],
            revision,
            all: true,
            ..Changes::default()
        })
    };
    for (incarnation, revision) in [(1, 0), (2, 0), (2, u64::MAX)] {
        bench.say(0, empty(incarnation, revision));
    }
    bench.agent.disconnected(0);
    bench.wait(60 * SECOND);
    bench.connect(0);
    bench.say(0, empty(3, 1));
    assert_eq!((bench.members().len(), bench.bound().len()), (1, 1));
    assert!(bench.events.is_empty());
}

#[test]
fn it_goes_on_from_the_revision_that_it_knows() {
    let mut bench = Bench::registered();
    bench.revision = 41;
    bench.tell(&[certified(BETA, 1)], &[], &[]);
    bench.agent.disconnected(0);
    bench.sent.clear();
    bench.connect(0);
    let Some((_, What::Hello(hello))) = bench.sent.first() else {
        panic!("{:?}", bench.sent);
    };
    assert_eq!((&hello.incarnation[..], hello.revision), (&[1; 16][..], 42));
}

#[test]
fn one_bad_record_harms_no_other_and_garbage_nothing() {
    let mut bench = Bench::registered();
    let mut forged = certified(GAMMA, 1);
    *forged.last_mut().expect("not empty") ^= 1;
    bench.tell(
        &[vec![], vec![0xff; 100], forged, certified(BETA, 1)],
        &[vec![1, 2, 3], bound(BETA, 1, 1, 1)],
        &[vec![9; 9]],
    );
    assert_eq!(bench.members(), [public(BETA)]);
    assert_eq!(bench.bound().len(), 1);
    assert_eq!(bench.agent.counters().refused, 5);
    for octets in [&[0xff; 40][..], b"", &[0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f]] {
        bench.agent.handle_message(bench.now, 0, octets);
        bench.agent.handle_message(bench.now, 9, octets);
    }
    assert_eq!(bench.members().len(), 1);
}

#[test]
fn an_address_is_whose_newest_binding_it_is_within_what_is_granted() {
    let mut bench = Bench::registered();
    let grants = Grants {
        vlans: VlanRanges::new([0..=0]),
        macs: Some([mac(1)].into()),
        addresses: Some([IpPrefix::new(ip(0), 24).expect("a prefix")].into()),
    };
    let limited = registration(BETA, 1, Some(certificate(BETA, 5, grants)));
    bench.tell(&[limited, certified(GAMMA, 1)], &[], &[]);
    bench.events.clear();
    let elsewhere = Binding {
        ip: Some(IpAddr::from([10, 8, 0, 1])),
        ..binding(BETA, 1, 1, 5)
    };
    let tagged = Binding {
        vlan: 9,
        ..binding(BETA, 1, 1, 5)
    };
    let not_granted = [
        bound(BETA, 1, 2, 5),
        signed(BETA, &elsewhere),
        signed(BETA, &tagged),
        bound(4, 4, 4, 5),
    ];
    bench.tell(&[], &not_granted, &[]);
    assert!(bench.bound().is_empty());
    bench.tell(&[], &[bound(BETA, 1, 1, 5)], &[]);
    bench.tell(&[], &[bound(GAMMA, 1, 3, 4)], &[]);
    assert_eq!(bench.bound(), [(ip(1), mac(1), public(BETA))]);
    bench.tell(&[], &[bound(GAMMA, 1, 3, 6)], &[]);
    assert_eq!(bench.bound(), [(ip(1), mac(3), public(GAMMA))]);
    let withdrawn = Binding {
        withdrawn: true,
        ..binding(GAMMA, 1, 3, 7)
    };
    bench.tell(&[], &[signed(GAMMA, &withdrawn)], &[]);
    bench.tell(&[], &[bound(BETA, 1, 1, 5)], &[]);
    assert!(bench.bound().is_empty(), "nothing old comes back");
    let whose = bench.events.iter().map(|event| match event {
        AgentEvent::Bound(bound) => (true, bound.owner),
        AgentEvent::Unbound { owner, .. } => (false, *owner),
        other => panic!("{other:?}"),
    });
    let whose: Vec<_> = whose.collect();
    let (beta, gamma) = (public(BETA), public(GAMMA));
    assert_eq!(
        whose,
        [(true, beta), (false, beta), (true, gamma), (false, gamma)]
    );
}

#[test]
fn records_expire() {
    let mut bench = Bench::registered();
    bench.tell(&[certified(BETA, 1)], &[bound(BETA, 1, 1, 1)], &[]);
    bench.wait(Duration::from_secs(599));
    assert_eq!(bench.bound().len(), 1);
    bench.wait(3 * SECOND);
    assert!(bench.bound().is_empty());
    assert_eq!(bench.members().len(), 1);
    bench.wait(Duration::from_secs(9_500));
    assert!(bench.members().is_empty(), "its certificate has expired");
    let gone = AgentEvent::MemberGone {
        public_key: public(BETA),
        revoked: true,
    };
    assert_eq!(bench.events.last(), Some(&gone));
}

#[test]
fn what_somebody_else_holds_is_tried_again_when_something_is_heard_of_it_and_now_and_then() {
    let mut bench = Bench::registered();
    bench.tell(&[certified(BETA, 1)], &[bound(BETA, 1, 1, 1)], &[]);
    bench.agent.set_bindings(bench.now, [(0, ip(1), mac(9))]);
    bench.collect();
    let [(number, _)] = bench.bindings()[..] else {
        panic!("{:?}", bench.sent);
    };
    bench.answer(0, number, Refused::Held);
    bench.sent.clear();
    bench.wait(10 * SECOND);
    assert!(bench.bindings().is_empty());
    let withdrawn = Binding {
        withdrawn: true,
        ..binding(BETA, 1, 1, 2)
    };
    bench.tell(&[], &[signed(BETA, &withdrawn)], &[]);
    let [(number, _)] = bench.bindings()[..] else {
        panic!("{:?}", bench.sent);
    };
    bench.answer(0, number, Refused::Held);
    bench.sent.clear();
    bench.wait(31 * SECOND);
    assert_eq!(bench.bindings().len(), 1);
    let link = bench.agent.links().next().expect("one");
    assert_eq!(link.refusal.as_deref(), Some("because"));
}

#[test]
fn a_claim_goes_beyond_the_sequence_of_whoever_had_the_address() {
    let mut bench = Bench::registered();
    bench.tell(&[certified(BETA, 1)], &[], &[]);
    bench.agent.set_bindings(bench.now, [(0, ip(1), mac(9))]);
    bench.collect();
    let [(number, _)] = bench.bindings()[..] else {
        panic!("{:?}", bench.sent);
    };
    bench.answer(0, number, Refused::Held);
    bench.sent.clear();
    // Its clock is ahead of ours.
    let ahead = (START + 300) * 1000;
    let withdrawn = Binding {
        withdrawn: true,
        ..binding(BETA, 1, 1, ahead)
    };
    bench.tell(&[], &[signed(BETA, &withdrawn)], &[]);
    let said = bench.bindings();
    assert_eq!(said.len(), 1);
    assert!(said[0].1.sequence > ahead);
}

#[test]
fn a_claim_that_was_too_old_is_made_anew_at_once_though_its_refusal_comes_last() {
    let mut bench = Bench::registered();
    bench.tell(&[certified(BETA, 1)], &[], &[]);
    bench.agent.set_bindings(bench.now, [(0, ip(1), mac(9))]);
    bench.collect();
    let asked = bench.bindings();
    assert_eq!(asked.len(), 1);
    // Both moved in the same millisecond: the old owner's last word is as new as the claim.
    let (number, sequence) = (asked[0].0, asked[0].1.sequence);
    let withdrawn = Binding {
        withdrawn: true,
        ..binding(BETA, 1, 1, sequence)
    };
    bench.sent.clear();
    bench.tell(&[], &[signed(BETA, &withdrawn)], &[]);
    bench.answer(0, number, Refused::Older);
    let asked = bench.bindings();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].1.sequence > sequence);
}

#[test]
fn what_cannot_be_taken_now_is_tried_again() {
    let mut bench = Bench::new(1);
    bench.connect(0);
    for refused in [Refused::Unavailable, Refused::NotMember, Refused::Limit] {
        let Some((_, What::Register(register))) = bench.sent.last().cloned() else {
            panic!("{:?}", bench.sent);
        };
        bench.answer(0, register.number, refused);
        bench.sent.clear();
        bench.wait(4 * SECOND);
        assert!(bench.registrations().is_empty());
        bench.wait(2 * SECOND);
        assert_eq!(bench.registrations().len(), 1);
        bench
            .sent
            .retain(|(_, what)| matches!(what, What::Register(_)));
    }
}

#[test]
fn local_addresses_are_withdrawn_and_renewed() {
    let mut bench = Bench::registered();
    let local = [(0, ip(1), mac(1)), (0, ip(2), mac(2))];
    bench.agent.set_bindings(bench.now, local);
    bench.collect();
    bench.grant_all(0);
    bench.sent.clear();
    bench.agent.set_bindings(bench.now, local);
    bench.collect();
    assert!(bench.sent.is_empty(), "nothing has changed");
    bench.agent.set_bindings(bench.now, [(0, ip(1), mac(3))]);
    bench.collect();
    let sent = bench.bindings();
    let said: Vec<_> = sent.iter().map(|(_, b)| (b.mac, b.withdrawn)).collect();
    assert_eq!(said, [(mac(3), false), (mac(2), true)]);
    bench.grant_all(0);
    bench.sent.clear();
    bench.wait(Duration::from_secs(1805));
    let said: Vec<_> = bench.bindings().iter().map(|(_, b)| b.mac).collect();
    assert_eq!(said, [mac(3)], "half its time is over");
}

#[test]
fn every_nucleus_is_told_everything_and_one_suffices() {
    let mut bench = Bench::new(2);
    bench.agent.set_bindings(bench.now, [(0, ip(1), mac(1))]);
    bench.connect(0);
    bench.grant_all(0);
    bench.connect(1);
    bench.grant_all(1);
    for nucleus in [0, 1] {
        let told = bench.sent.iter().filter(|(to, what)| {
            *to == nucleus && matches!(what, What::Bind(_) | What::Register(_))
        });
        assert_eq!(told.count(), 2);
    }
    // Again when it comes back.
    bench.agent.disconnected(1);
    bench.sent.clear();
    bench.connect(1);
    bench.grant_all(1);
    assert_eq!(bench.bindings().len(), 1);
}

#[test]
fn a_node_starts_from_its_cache_which_is_verified_again() {
    let mut bench = Bench::registered();
    bench.tell(&[certified(BETA, 1)], &[bound(BETA, 1, 1, 1)], &[]);
    let cache = bench.agent.take_cache(bench.now).expect("it has changed");
    assert_eq!(bench.agent.take_cache(bench.now), None);
    let ours = bench.agent.own.sequence();

    let mut other = Bench::new(1);
    other.agent.load(other.now, &cache).expect("sound");
    assert_eq!(
        (other.members(), other.bound()),
        (bench.members(), bench.bound())
    );
    assert!(other.agent.own.sequence() >= ours);
    assert_eq!(other.agent.take_cache(other.now), None);
    for len in 0..cache.len() {
        // Cut short it is none, or some records of it are.
        let mut cut = Bench::new(1);
        let _ = cut.agent.load(cut.now, &cache[..len]);
        assert!(cut.members().len() <= 1);
    }
    let mut changed = cache.clone();
    for place in 0..cache.len() {
        changed[place] ^= 0x10;
        let mut other = Bench::new(1);
        if other.agent.load(other.now, &changed).is_ok() {
            let found = other.members();
            assert!(found.is_empty() || found == bench.members());
        }
        changed[place] = cache[place];
    }
}

#[test]
fn what_we_said_with_a_clock_that_was_ahead_is_outdone() {
    let mut bench = Bench::registered();
    let ahead = (START + 300) * 1000;
    let own = registration(ALPHA, ahead, Some(certificate(ALPHA, 1, Grants::default())));
    bench.tell(&[own], &[], &[]);
    bench.wait(SECOND);
    let said = bench.registrations();
    assert_eq!(said.last().map(|r| r.sequence), Some(ahead + 1));
    assert!(bench.members().is_empty(), "we are no peer of ours");
}

#[test]
fn where_a_nucleus_sees_us_is_an_endpoint() {
    let mut bench = Bench::registered();
    let configured = [socket(50)];
    bench
        .agent
        .set_endpoints(bench.now, &configured, &[socket(51)]);
    assert_eq!(bench.agent.poll_reflection(bench.now, 0), Some(TOKEN));
    assert_eq!(bench.agent.poll_reflection(bench.now, 0), None);
    bench.now = bench.now.advanced(SECOND);
    assert_eq!(
        bench.agent.poll_reflection(bench.now, 0),
        Some(TOKEN),
        "until it is heard"
    );
    bench
        .agent
        .handle_reflection(bench.now, &[8; TOKEN_LEN], socket(66));
    bench.agent.handle_reflection(bench.now, &TOKEN, socket(52));
    bench.now = bench.now.advanced(20 * SECOND);
    assert_eq!(bench.agent.poll_reflection(bench.now, 0), None);
    bench.collect();
    let said = bench.registrations();
    let endpoints = &said.last().expect("said anew").endpoints;
    let found: Vec<_> = endpoints.iter().map(|e| (e.address, e.kind)).collect();
    let expected = [
        (socket(52), EndpointKind::Reflexive),
        (socket(50), EndpointKind::Configured),
        (socket(51), EndpointKind::Local),
    ];
    assert_eq!(found, expected);
}

#[test]
fn calls_are_passed_on_by_members_only() {
    let mut bench = Bench::registered();
    bench.tell(&[certified(BETA, 1)], &[], &[]);
    bench.events.clear();
    for caller in [public(BETA).0.to_vec(), public(GAMMA).0.to_vec(), vec![1]] {
        let called = Called { public_key: caller };
        bench.say(0, from_nucleus::What::Called(called));
    }
    assert_eq!(bench.events, [AgentEvent::Called(public(BETA))]);
    for _ in 0..3 {
        bench.agent.call(public(BETA));
    }
    bench.collect();
    let calls = bench
        .sent
        .iter()
        .filter(|(_, what)| matches!(what, What::Call(_)));
    assert_eq!(calls.count(), 1);
}

#[test]
fn who_has_nothing_to_say_pings_and_time_goes_on() {
    let mut bench = Bench::registered();
    bench.say(0, from_nucleus::What::Pong(Pong {}));
    bench.wait(Duration::from_secs(60));
    let pings = bench
        .sent
        .iter()
        .filter(|(_, what)| matches!(what, What::Ping(_)));
    assert_eq!(pings.count(), 6);
    // Not welcomed yet, and not connected.
    let mut bench = Bench::new(1);
    bench.wait(60 * SECOND);
    bench.agent.connected(bench.now, 0);
    bench.wait(60 * SECOND);
}
