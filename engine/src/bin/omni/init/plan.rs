//! What `omni init` is going to write: `fabric.yaml` with comments, out of a few values.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// The port that nodes use unless told otherwise.
pub(super) const PORT: u16 = 51820;
/// The column at which comments begin.
const COMMENTS_AT: usize = 38;
/// Words that YAML does not take for texts.
const NO_TEXTS: [&str; 7] = ["true", "false", "null", "yes", "no", "on", "off"];

/// Another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Peer {
    pub(super) name: String,
    /// In base64.
    pub(super) public_key: String,
    pub(super) endpoint: Option<String>,
}

/// A rendezvous.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Nucleus {
    pub(super) endpoint: String,
    /// In base64.
    pub(super) public_key: String,
}

/// The values. Whether they are good is for [`Plan::check`] to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub(super) fabric: String,
    pub(super) name: String,
    /// As the file names it: relative to the file, or whole.
    pub(super) key_file: String,
    pub(super) interface: String,
    pub(super) port: u16,
    pub(super) access: String,
    pub(super) addresses: Vec<String>,
    pub(super) peers: Vec<Peer>,
    pub(super) nuclei: Vec<Nucleus>,
    /// Who certifies members, in base64.
    pub(super) authority: Option<String>,
    /// As the file names it.
    pub(super) certificate: String,
}

impl Plan {
    /// What would be wrong with the file, as `omni-engine --check` finds it; key files aside.
    pub(super) fn check(&self) -> Result<(), String> {
        let some_key = |_: &Path| Ok(STANDARD.encode([9; 32]).into_bytes());
        let text = self.text();
        match omni_config::load_octets(Path::new("fabric.yaml"), text.as_bytes(), &some_key) {
            Ok(_) => Ok(()),
            Err(error) => Err(match error.key() {
                Some(key) => format!("{key}: {}", error.what()),
                None => error.what().to_owned(),
            }),
        }
    }

    /// The file. `peers` are its end, so that further ones can be appended.
    pub(super) fn text(&self) -> String {
        let mut text = String::from(
            "# Made by `omni init`. config/KEYS.md has every key; those that are not here have \
             their defaults.\n\n",
        );
        let mut put = |line: &str, comment: &str| text += &commented(line, comment);
        put(
            &format!("fabric: {}", scalar(&self.fabric)),
            "the same on all nodes",
        );
        put("node:", "");
        put(
            &format!("  name: {}", scalar(&self.name)),
            "also names its control socket and its state file",
        );
        put(
            &format!("  private_key_file: {}", scalar(&self.key_file)),
            "relative to this file; never leaves this host",
        );
        put("underlay:", "");
        put(
            &format!("  interface: {}", scalar(&self.interface)),
            "the way to the other nodes",
        );
        put(
            &format!("  port: {}", self.port),
            "UDP; firewalls have to let it in",
        );
        put("access:", "");
        put(
            &format!("  - interface: {}", scalar(&self.access)),
            "what applications use; the engine makes it",
        );
        if !self.addresses.is_empty() {
            let quoted: Vec<String> = self.addresses.iter().map(|each| quoted(each)).collect();
            put(
                &format!("    addresses: [{}]", quoted.join(", ")),
                "this host's in the fabric",
            );
        }
        if !self.nuclei.is_empty() {
            put("nucleus:", "where nodes meet");
        }
        for each in &self.nuclei {
            put(&format!("  - endpoint: {}", quoted(&each.endpoint)), "");
            put(&format!("    public_key: {}", quoted(&each.public_key)), "");
        }
        if let Some(key) = &self.authority {
            put("authority:", "who certifies members");
            put(&format!("  public_key: {}", quoted(key)), "");
            put(
                &format!("  certificate_file: {}", scalar(&self.certificate)),
                "what `omni authority enroll` wrote for this node",
            );
        }
        put(
            "peers:",
            "nodes known by their keys; append more at the end",
        );
        for peer in &self.peers {
            text += &peer.lines();
        }
        text
    }
}

impl Peer {
    /// Its element of `peers`.
    pub(super) fn lines(&self) -> String {
        let mut lines = format!(
            "  - name: {}\n    public_key: {}\n",
            scalar(&self.name),
            quoted(&self.public_key)
        );
        if let Some(endpoint) = &self.endpoint {
            lines += &format!("    endpoint: {}\n", quoted(endpoint));
        }
        lines
    }

    /// Out of `NAME=KEY` or `NAME=KEY@ENDPOINT`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once('=')
            .ok_or("expected is NAME=KEY or NAME=KEY@ENDPOINT")?;
        let (public_key, endpoint) = match rest.split_once('@') {
            Some((key, endpoint)) => (key, Some(endpoint.to_owned())),
            None => (rest, None),
        };
        Ok(Self {
            name: name.to_owned(),
            public_key: public_key.to_owned(),
            endpoint,
        })
    }
}

impl Nucleus {
    /// Out of `KEY@ENDPOINT`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (key, endpoint) = text.split_once('@').ok_or("expected is KEY@ENDPOINT")?;
        Ok(Self {
            endpoint: endpoint.to_owned(),
            public_key: key.to_owned(),
        })
    }
}

/// A line, with its comment at the common column where there is room.
fn commented(line: &str, comment: &str) -> String {
    match comment {
        "" => format!("{line}\n"),
        _ => format!("{line:<width$}  # {comment}\n", width = COMMENTS_AT - 2),
    }
}

/// A text as YAML takes it: bare where nothing else can be meant.
fn scalar(text: &str) -> String {
    let is_word_char = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let is_bare = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(is_word_char)
        && !NO_TEXTS.contains(&text.to_ascii_lowercase().as_str());
    if is_bare {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// A text in quotes: a string of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

    fn plan() -> Plan {
        Plan {
            fabric: "home".to_owned(),
            name: "alpha".to_owned(),
            key_file: "alpha.key".to_owned(),
            interface: "eth0".to_owned(),
            port: PORT,
            access: "omni0".to_owned(),
            addresses: Vec::new(),
            peers: Vec::new(),
            nuclei: Vec::new(),
            authority: None,
            certificate: "alpha.cert".to_owned(),
        }
    }

    #[test]
    fn what_is_written_reads_back_as_it_was_meant() {
        let mut plan = plan();
        plan.fabric = "null # \"ours\"".to_owned();
        plan.name = "7".to_owned();
        plan.addresses = vec!["10.7.0.1/24".to_owned(), "fd00:7::1/64".to_owned()];
        plan.peers = vec![Peer::parse(&format!("on={KEY}@[2001:db8::2]:4790")).unwrap()];
        plan.nuclei = vec![Nucleus::parse(&format!("{KEY}@192.0.2.9:51821")).unwrap()];
        plan.authority = Some("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".to_owned());
        plan.check().unwrap();
        let key = |_: &Path| Ok(STANDARD.encode([9; 32]).into_bytes());
        let path = Path::new("/etc/omni/x.yaml");
        let read = omni_config::load_octets(path, plan.text().as_bytes(), &key).unwrap();
        assert_eq!(read.fabric, plan.fabric);
        assert_eq!((&*read.node.name, read.underlay.port), ("7", PORT));
        let addresses = read.access[0].addresses.iter().map(ToString::to_string);
        assert_eq!(addresses.collect::<Vec<_>>(), plan.addresses);
        assert_eq!(read.peers[0].name, "on");
        let endpoint = read.peers[0].endpoint.unwrap().to_string();
        assert_eq!(endpoint, "[2001:db8::2]:4790");
        assert_eq!(read.nucleus[0].endpoint.to_string(), "192.0.2.9:51821");
        let certificate = read.authority.unwrap().certificate_file;
        assert_eq!(certificate, Path::new("/etc/omni/alpha.cert"));
    }

    #[test]
    fn peers_can_be_appended_to_a_file_without_any() {
        let peer = Peer::parse(&format!("beta={KEY}")).unwrap();
        let text = plan().text() + &peer.lines();
        let key = |_: &Path| Ok(STANDARD.encode([9; 32]).into_bytes());
        let read = omni_config::load_octets(Path::new("x"), text.as_bytes(), &key).unwrap();
        assert_eq!(read.peers.len(), 1);
        assert_eq!(read.peers[0].endpoint, None);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        let mut plan = plan();
        plan.peers = vec![Peer::parse("beta=short").unwrap()];
        let why = plan.check().unwrap_err();
        assert!(why.starts_with("peers[0].public_key: "), "{why}");
        plan.peers.clear();
        plan.addresses = vec!["10.7.0.1/33".to_owned()];
        let why = plan.check().unwrap_err();
        assert!(why.starts_with("access[0].addresses[0]: "), "{why}");
        assert!(Peer::parse("beta").is_err() && Nucleus::parse(KEY).is_err());
    }
}
