//! The wall clock, which certificates and handshakes go by.

use std::time::{SystemTime, UNIX_EPOCH};

use omni_config::Config;
use omni_control::{PrivateKey, PublicKey};
use omni_membership::{AuthorityPublicKey, Certificate, FabricName, Kind, armour};

use super::finding::Finding;
use super::host::Host;

/// 2025-01-01, before which this program did not exist.
const BEFORE_ALL: u64 = 1_735_689_600;
/// A certificate that ends within this time is warned of, in seconds.
const SOON_SECONDS: u64 = 7 * 86_400;

/// Since 1970.
pub(super) fn now_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}

pub(super) fn look(host: &Host, now: u64) -> Finding {
    const CHECK: &str = "clock";
    const FIX: &str = "timedatectl set-ntp true, or apt-get install chrony; without a network: \
                       date -u -s 'YYYY-MM-DD HH:MM:SS'";
    let why = "handshakes more than a day ahead of a peer's clock, or before those it saw, are \
               refused; certificates are good until a time";
    if now < BEFORE_ALL {
        return Finding::broken(CHECK, "it is before 2025 by this host's clock")
            .why(why)
            .fix(FIX);
    }
    if host.has("/run/systemd/timesync/synchronized") {
        return Finding::fine(CHECK, "synchronised by systemd-timesyncd");
    }
    let show = ["show", "--property", "NTPSynchronized", "--value"];
    match host.ask("timedatectl", &show).as_deref() {
        Some("yes") => Finding::fine(CHECK, "synchronised"),
        Some("no") => Finding::warning(CHECK, "not synchronised")
            .why(why)
            .fix(FIX),
        _ => Finding::unknown(CHECK, "nobody says whether it is synchronised"),
    }
}

/// The node's certificate, if it has to have one.
pub(super) fn certificate(config: &Config, now: u64) -> Option<Finding> {
    const CHECK: &str = "certificate";
    let authority = config.authority.as_ref()?;
    let path = authority.certificate_file.display();
    let own = PublicKey::from_private(&PrivateKey(*config.node.private_key.expose()));
    let enroll = format!(
        "omni authority enroll --fabric {} --name {} --key {own} --output {path}",
        config.fabric, config.node.name
    );
    let broken = |what: String| {
        let finding = Finding::broken(CHECK, format!("{path}: {what}"));
        Some(
            finding
                .why("members and Nuclei take nobody without a good one")
                .fix(enroll.clone()),
        )
    };
    let text = match std::fs::read(&authority.certificate_file) {
        Ok(text) => text,
        Err(error) => return broken(format!("cannot be read: {error}")),
    };
    let octets = match armour::decode_kind(&text, Kind::Certificate) {
        Ok(octets) => octets,
        Err(error) => return broken(error.to_string()),
    };
    let key = AuthorityPublicKey::from_octets(&authority.public_key);
    let (Ok(fabric), Ok(key)) = (FabricName::new(config.fabric.as_str()), key) else {
        return broken("authority.public_key, or fabric, is none".to_owned());
    };
    let signed = match Certificate::verify(&octets, &fabric, &key) {
        Ok(signed) => signed,
        Err(error) => {
            return broken(format!(
                "is not one of this fabric ({}) by this authority: {error}",
                config.fabric
            ));
        }
    };
    if signed.public_key != own {
        return broken(format!(
            "is for the key {}, not this node's",
            signed.public_key
        ));
    }
    match signed.not_after {
        Some(end) if end < now => broken(format!(
            "has expired {} hours ago by this host's clock",
            (now - end) / 3600
        )),
        Some(end) if end - now < SOON_SECONDS => Some(
            Finding::warning(
                CHECK,
                format!("{path}: ends in {} hours", (end - now) / 3600),
            )
            .why("then nobody takes this node any more")
            .fix(enroll),
        ),
        _ => Some(Finding::fine(CHECK, format!("{path} is good"))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::host::fake::host;
    use super::*;

    #[test]
    fn a_clock_is_judged_by_who_keeps_it() {
        let now = BEFORE_ALL + 1;
        let (_folder, nobody) = host(&[]);
        assert_eq!(look(&nobody, now).level, Level::Unknown);
        let (_folder, synchronised) = host(&[("/run/systemd/timesync/synchronized", "")]);
        assert_eq!(look(&synchronised, now).level, Level::Fine);
        assert_eq!(look(&synchronised, 1000).level, Level::Broken);
        let (_folder, free) = host(&[("commands/timedatectl", "no\n")]);
        assert_eq!(look(&free, now).level, Level::Warning);
    }
}
