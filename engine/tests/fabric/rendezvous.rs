//! Nodes that find each other through a Nucleus, and hold each other to their certificates.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use omni_control::PublicKey;
use omni_membership::{Grants, IpPrefix, Kind, Revocation, armour};

use crate::reload::{refused, reloaded};
use crate::support::lab::{Lab, PORT, Plan, Side};
use crate::support::node::PROGRAM;
use crate::support::nucleus::{
    MEET, Nucleus, authority, certify, certify_as, endpoint, fabric, meet, nucleus_of, registered,
    start, wait_until_some, yaml,
};
use crate::support::tools::{ping, ping_all, reaches, resumes};
use crate::support::{seconds, wait_until};

/// How soon a revoked member is cut off.
const CUT: Duration = seconds(5);

#[test]
fn nodes_without_a_list_of_peers_meet_through_a_nucleus_and_need_it_no_more() {
    let lab = Lab::new(Plan::default());
    let (nucleus, a, b) = meet(&lab, Nucleus::start);
    assert!(reaches(&lab.b, Side::A.inner_v6().into()));
    for (node, other) in [(&a, "node-b"), (&b, "node-a")] {
        registered(node);
        assert_eq!(
            node.peer().name,
            other,
            "it is called what its certificate says"
        );
        let seen = wait_until_some(|| nucleus_of(node).seen_at);
        let at: SocketAddr = seen.parse().expect("an endpoint");
        assert_eq!(at.port(), PORT, "it is seen by its fabric port");
    }

    // Without it nothing is lost, and a node that is restarted finds the other.
    let (received, report) = std::thread::scope(|scope| {
        let pings = scope.spawn(|| ping(&lab.b, Side::A.inner_v4().into(), "-c 300 -i 0.01"));
        std::thread::sleep(seconds(1));
        nucleus.kill();
        wait_until("the loss is noticed", seconds(5), || {
            nucleus_of(&b).state == "connecting"
        });
        pings.join().expect("ping")
    });
    assert_eq!(received, 300, "{report}");
    b.kill();
    let b = start(&lab, Side::B);
    let took = resumes(&lab.b, Side::A.inner_v4().into(), MEET);
    println!("found again from the file after {took:.0?}");

    // Back again, it knows them from its store, and they register anew.
    let _nucleus = Nucleus::start(&lab);
    registered(&a);
    registered(&b);
}

#[test]
fn a_certificate_is_renewed_and_nuclei_are_changed_while_the_node_runs() {
    let lab = Lab::new(Plan::default());
    let (_nucleus, a, b) = meet(&lab, Nucleus::start);
    let spec = lab.spec(Side::B);
    let file = spec.folder.join("b.yaml");
    let good = yaml(&lab, Side::B, endpoint(&lab));
    let (received, report) = std::thread::scope(|scope| {
        let pings = scope.spawn(|| ping(&lab.a, Side::B.inner_v4().into(), "-c 250 -i 0.02"));
        certify_as(&lab, Side::B, "renewed", 2, Grants::default());
        let said = reloaded(&spec);
        assert_eq!(said, "authority: another key or certificate\n");
        wait_until("the new certificate is known", MEET, || {
            a.peer().name == "renewed"
        });
        // Where nobody answers; then none at all, when nobody is a member any more.
        let elsewhere = good.replace(":51821", ":51822");
        fs::write(&file, &elsewhere).expect("a configuration");
        assert!(reloaded(&spec).starts_with("nucleus: "));
        wait_until("it calls there", seconds(3), || {
            nucleus_of(&b).state == "connecting"
        });
        pings.join().expect("ping")
    });
    assert_eq!(received, 250, "{report}");
    let without: String = good
        .lines()
        .filter(|line| !line.contains("51821") && *line != "nucleus:")
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&file, without).expect("a configuration");
    assert_eq!(reloaded(&spec), "nucleus: none\n");
    assert!(b.show().peers.is_empty());
    fs::write(&file, &good).expect("a configuration");
    reloaded(&spec);
    resumes(&lab.b, Side::A.inner_v4().into(), MEET);
    // A file that is wrong changes nothing.
    certify_as(&lab, Side::A, "renewed", 3, Grants::default());
    fs::copy(spec.folder.join("a.cert"), spec.folder.join("b.cert")).expect("a file");
    assert!(refused(&spec).contains("b.cert: it is for the key"));
    assert!(reaches(&lab.b, Side::A.inner_v4().into()));
}

#[test]
fn a_revoked_member_is_cut_off_everywhere() {
    let lab = Lab::new(Plan::default());
    let (_nucleus, a, b) = meet(&lab, Nucleus::start);
    let revocation = Revocation {
        public_key: PublicKey::from_private(&lab.spec(Side::B).private_key),
        serial: 1,
        issued_at: 0,
        reason: "it was lost".to_owned(),
    };
    let signed = revocation.sign(&fabric(), &authority()).expect("sound");
    let path: PathBuf = lab.folder().join("b.revoked");
    fs::write(&path, armour::encode(Kind::Revocation, signed.octets())).expect("a file");
    let omni = Path::new(PROGRAM).with_file_name("omni");
    let revoked = Command::new(omni)
        .args(["nucleus", "revoke"])
        .arg(&path)
        .arg("--socket")
        .arg(lab.folder().join("nucleus.sock"))
        .output()
        .expect("omni");
    assert!(revoked.status.success(), "{revoked:?}");
    wait_until("the session ends", CUT, || a.show().peers.is_empty());
    let (answered, report) = ping(&lab.a, Side::B.inner_v4().into(), "-c 2 -W 1");
    assert_eq!(answered, 0, "{report}");
    wait_until("it is told why", MEET, || {
        let refusal = nucleus_of(&b).refusal;
        refusal.is_some_and(|why| why.contains("revoked"))
    });
}

#[test]
fn a_member_is_held_to_the_addresses_that_its_certificate_grants() {
    let lab = Lab::new(Plan::default());
    certify(&lab, Side::A, Grants::default());
    let granted = IpPrefix::new(Side::B.inner_v4().into(), 32).expect("a host");
    let grants = Grants {
        addresses: Some([granted].into()),
        ..Grants::default()
    };
    certify(&lab, Side::B, grants);
    let _nucleus = Nucleus::start(&lab);
    let (a, _b) = (start(&lab, Side::A), start(&lab, Side::B));
    resumes(&lab.a, Side::B.inner_v4().into(), MEET);
    ping_all(&lab.a, Side::B.inner_v4().into(), "-i 0.1");
    lab.b.ip("addr add 10.7.0.77/24 dev omni0");
    let (answered, report) = ping(&lab.b, Side::A.inner_v4().into(), "-I 10.7.0.77 -c 2 -W 1");
    assert_eq!(answered, 0, "{report}");
    wait_until("the claim is counted", seconds(3), || {
        a.show().drops.contains_key("address_not_granted")
    });
}
