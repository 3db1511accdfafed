//! A Nucleus, and nodes that have no list of peers but it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_control::{PrivateKey, PublicKey};
use omni_engine::show::NucleusView;
use omni_membership::{AuthorityKey, Certificate, FabricName, Grants, Kind, armour};
use rustix::process::{Pid, Signal, kill_process};

use super::lab::{Lab, Side};
use super::netns::Namespace;
use super::node::{Node, PROGRAM};
use super::tools::resumes;
use super::{seconds, wait_until};

/// How soon nodes that were started without knowing each other reach each other.
pub(crate) const MEET: Duration = seconds(8);
pub(crate) const NUCLEUS_PORT: u16 = 51_821;

pub(crate) fn authority() -> AuthorityKey {
    AuthorityKey::from_seed(&[0x77; 32])
}

pub(crate) fn fabric() -> FabricName {
    FabricName::new("lab").expect("a short name")
}

pub(crate) fn nucleus_key() -> PrivateKey {
    PrivateKey([0x4e; 32])
}

/// A running Nucleus. It ends with this.
pub(crate) struct Nucleus {
    child: Child,
}

impl Nucleus {
    /// Starts one in node a's namespace, on the store that an earlier one left.
    pub(crate) fn start(lab: &Lab) -> Self {
        Self::start_at(lab, &lab.a, endpoint(lab))
    }

    /// Starts one somewhere else.
    pub(crate) fn start_at(lab: &Lab, namespace: &Namespace, at: SocketAddr) -> Self {
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
            .args(["netns", "exec", namespace.name()])
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

    pub(crate) fn kill(mut self) {
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

pub(crate) fn endpoint(lab: &Lab) -> SocketAddr {
    (lab.outer(Side::A).0, NUCLEUS_PORT).into()
}

pub(crate) fn certify(lab: &Lab, side: Side, grants: Grants) {
    let name = format!("node-{}", side.name());
    certify_as(lab, side, &name, 1, grants);
}

/// Certifies a node under a name, in the place of what was certified before.
pub(crate) fn certify_as(lab: &Lab, side: Side, name: &str, serial: u64, grants: Grants) {
    let spec = lab.spec(side);
    let certificate = Certificate {
        public_key: PublicKey::from_private(&spec.private_key),
        name: name.to_owned(),
        serial,
        not_before: 0,
        not_after: None,
        grants,
    };
    let signed = certificate.sign(&fabric(), &authority()).expect("sound");
    let path = lab.folder().join(format!("{}.cert", spec.name));
    fs::write(path, armour::encode(Kind::Certificate, signed.octets())).expect("a file");
}

/// A configuration without peers.
pub(crate) fn yaml(lab: &Lab, side: Side, at: SocketAddr) -> String {
    let spec = lab.spec(side);
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

pub(crate) fn start(lab: &Lab, side: Side) -> Node {
    lab.spec(side).start_with(&yaml(lab, side, endpoint(lab)))
}

/// Two nodes, certified for everything, that have met through what `begin` starts.
pub(crate) fn meet<N>(lab: &Lab, begin: impl FnOnce(&Lab) -> N) -> (N, Node, Node) {
    for side in [Side::A, Side::B] {
        certify(lab, side, Grants::default());
    }
    let nucleus = begin(lab);
    let (a, b) = (start(lab, Side::A), start(lab, Side::B));
    let took = resumes(&lab.a, Side::B.inner_v4().into(), MEET);
    println!("met after {took:.0?}");
    (nucleus, a, b)
}

pub(crate) fn nucleus_of(node: &Node) -> NucleusView {
    node.show().nuclei.remove(0)
}

pub(crate) fn registered(node: &Node) {
    wait_until("the node is registered", MEET, || {
        nucleus_of(node).registered
    });
}

/// What `look` gives, as soon as it gives something.
pub(crate) fn wait_until_some(look: impl Fn() -> Option<String>) -> String {
    let mut found = None;
    wait_until("there is something to see", MEET, || {
        found = look();
        found.is_some()
    });
    found.expect("just seen")
}
