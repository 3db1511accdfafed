//! Nodes that find each other through a Nucleus, and hold each other to their certificates.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_control::{PrivateKey, PublicKey};
use omni_engine::show::NucleusView;
use omni_membership::{
    AuthorityKey, Certificate, FabricName, Grants, IpPrefix, Kind, Revocation, armour,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::lab::{Lab, PORT, Plan, Side};
use crate::support::node::{Node, PROGRAM};
use crate::support::tools::{ping, ping_all, reaches, resumes};
use crate::support::{seconds, wait_until};

/// How soon nodes that were started without knowing each other reach each other.
const MEET: Duration = seconds(8);
/// How soon a revoked member is cut off.
const CUT: Duration = seconds(5);

const NUCLEUS_PORT: u16 = 51_821;

fn authority() -> AuthorityKey {
    AuthorityKey::from_seed(&[0x77; 32])
}

fn fabric() -> FabricName {
    FabricName::new("lab").expect("a short name")
}

fn nucleus_key() -> PrivateKey {
    PrivateKey([0x4e; 32])
}

/// A running Nucleus. It ends with this.
struct Nucleus {
    child: Child,
}

impl Nucleus {
    /// Starts one in node a's namespace, on the store that an earlier one left.
    fn start(lab: &Lab) -> Self {
        let program = Path::new(PROGRAM).with_file_name("omni-nucleus");
        assert!(
            program.exists(),
            "{} is missing: cargo build -p omni-nucleus",
            program.display()
        );
        let folder = lab.folder();
        write_private(
            &folder.join("nucleus.key"),
            &STANDARD.encode(nucleus_key().0),
        );
        let config = folder.join("nucleus.yaml");
        let at = endpoint(lab);
        let key = authority().public_key();
        fs::write(
            &config,
            format!(
                "fabric: lab\nlisten: \"{at}\"\nprivate_key_file: nucleus.key\n\
                 store: {{ redb: nucleus.redb }}\nauthority: \"{key}\"\n\
                 control: {{ socket: nucleus.sock }}\n"
            ),
        )
        .expect("a configuration");
        let log = File::options()
            .create(true)
            .append(true)
            .open(folder.join("nucleus.log"))
            .expect("a log");
        let child = Command::new("ip")
            .args(["netns", "exec", lab.a.name()])
            .arg(program)
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log's file"))
            .stderr(log)
            .spawn()
            .expect("a process");
        Self { child }
    }

    fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Ok(id) = i32::try_from(self.child.id())
            && let Some(id) = Pid::from_raw(id)
        {
            let _ = kill_process(id, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Nucleus {
    fn drop(&mut self) {
        self.end();
    }
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).expect("a file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

fn endpoint(lab: &Lab) -> SocketAddr {
    (lab.outer(Side::A).0, NUCLEUS_PORT).into()
}

fn certify(lab: &Lab, side: Side, grants: Grants) {
    let spec = lab.spec(side);
    let certificate = Certificate {
        public_key: PublicKey::from_private(&spec.private_key),
        name: format!("node-{}", spec.name),
        serial: 1,
        not_before: 0,
        not_after: None,
        grants,
    };
    let signed = certificate.sign(&fabric(), &authority()).expect("sound");
    let path = lab.folder().join(format!("{}.cert", spec.name));
    fs::write(path, armour::encode(Kind::Certificate, signed.octets())).expect("a file");
}

/// A configuration without peers.
fn yaml(lab: &Lab, side: Side) -> String {
    let (spec, at) = (lab.spec(side), endpoint(lab));
    let yaml = spec.yaml();
    let lines = yaml.lines().filter(|line| !line.contains("public_key:"));
    let without: String = lines
        .filter(|line| *line != "peers:")
        .map(|line| format!("{line}\n"))
        .collect();
    let nucleus = PublicKey::from_private(&nucleus_key());
    let authority = authority().public_key();
    let name = &spec.name;
    format!(
        "{without}nucleus:\n  - {{ endpoint: \"{at}\", public_key: \"{nucleus}\" }}\n\
         authority: {{ public_key: \"{authority}\", certificate_file: {name}.cert }}\n"
    )
}

fn start(lab: &Lab, side: Side) -> Node {
    lab.spec(side).start_with(&yaml(lab, side))
}

fn nucleus_of(node: &Node) -> NucleusView {
    node.show().nuclei.remove(0)
}

fn registered(node: &Node) {
    wait_until("the node is registered", MEET, || {
        nucleus_of(node).registered
    });
}

#[test]
fn nodes_without_a_list_of_peers_meet_through_a_nucleus_and_need_it_no_more() {
    let lab = Lab::new(Plan::default());
    for side in [Side::A, Side::B] {
        certify(&lab, side, Grants::default());
    }
    let nucleus = Nucleus::start(&lab);
    let (a, b) = (start(&lab, Side::A), start(&lab, Side::B));
    let took = resumes(&lab.a, Side::B.inner_v4().into(), MEET);
    println!("met after {took:.0?}");
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
fn a_revoked_member_is_cut_off_everywhere() {
    let lab = Lab::new(Plan::default());
    for side in [Side::A, Side::B] {
        certify(&lab, side, Grants::default());
    }
    let _nucleus = Nucleus::start(&lab);
    let (a, b) = (start(&lab, Side::A), start(&lab, Side::B));
    resumes(&lab.a, Side::B.inner_v4().into(), MEET);
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

/// What `look` gives, as soon as it gives something.
fn wait_until_some(look: impl Fn() -> Option<String>) -> String {
    let mut found = None;
    wait_until("there is something to see", MEET, || {
        found = look();
        found.is_some()
    });
    found.expect("just seen")
}
