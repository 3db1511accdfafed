//! What a running engine says of itself, and what that points to.

use omni_engine::show::{PeerView, Show};

use super::finding::Finding;

/// Reasons for drops that mean that something is configured wrongly: what is wrong, why that
/// matters, and the remedy.
const TELLING: [(&str, &str, &str, &str); 10] = [
    (
        "handshake_bad_mac",
        "somebody calls with a wrong public key for this node",
        "peers that have it never get a session",
        "give them the key that `omni show` has here: omni show --json | jq -r .node.public_key",
    ),
    (
        "handshake_invalid",
        "a peer has another fabric name, or another preshared key",
        "it never gets a session",
        "compare `fabric` and peers[].preshared_key_file on both sides",
    ),
    (
        "handshake_unknown_peer",
        "somebody calls whose key is not among the peers",
        "it never gets a session: this node has another public key for it, or none",
        "compare peers[].public_key with what `omni pubkey < KEYFILE` prints there",
    ),
    (
        "handshake_replayed",
        "a peer's clock is behind, or a day ahead, or two nodes have one key",
        "its handshakes are refused as old ones",
        "set the clocks; give each node a key of its own",
    ),
    (
        "message_version",
        "a peer speaks another version of the protocol",
        "it never gets a session",
        "update the older one",
    ),
    (
        "vlan_not_allowed",
        "frames came in a VLAN that the port or the peer does not carry",
        "they are dropped",
        "compare access[].vlans, access[].vlan and peers[].vlans: omni show vlans",
    ),
    (
        "address_not_granted",
        "a host uses an address that its node's certificate does not grant",
        "it is not reached by that address",
        "enroll the node again with --addresses, or take the address from the host",
    ),
    (
        "binding_not_owned",
        "two hosts have one IP address",
        "the second one is not reached",
        "omni show neighbors says who has it: give the other one another address",
    ),
    (
        "source_mac_not_owned",
        "two hosts have one MAC address, or there is a loop",
        "frames of the second one are dropped",
        "omni show fdb says who has it: change one (ip link set DEVICE address MAC)",
    ),
    (
        "source_mac_not_allowed",
        "a host behind a port is not in access[].macs",
        "its frames are dropped",
        "add its MAC address to access[].macs, or find it",
    ),
];

pub(super) fn look(show: &Show) -> Vec<Finding> {
    let mut found = vec![peers(&show.peers)];
    found.extend(nuclei(show));
    for (reason, what, why, fix) in TELLING {
        if let Some(count) = show.drops.get(reason).filter(|count| **count > 0) {
            let what = format!("{what} ({reason}: {count} since the start)");
            found.push(Finding::warning("drops", what).why(why).fix(fix));
        }
    }
    for alarm in &show.alarms {
        let what = format!("{} moved too often in VLAN {}", alarm.mac, alarm.vlan);
        found.push(
            Finding::warning("alarms", what)
                .why("it is frozen: two hosts have that MAC address, or there is a loop")
                .fix("omni show fdb, then change one host's MAC address, or break the loop"),
        );
    }
    let recovery = show.recovery;
    if recovery.worker_stalls + recovery.queue_stalls + recovery.unsound > 0 {
        let what = format!(
            "{} workers and {} queues stood still since the start",
            recovery.worker_stalls, recovery.queue_stalls
        );
        found.push(
            Finding::warning("recovery", what)
                .why("frames were lost meanwhile: a driver that hangs, or a host without time")
                .fix(
                    "journalctl -u 'omni-engine@*' says when; workers.cores apart from other work",
                ),
        );
    }
    found
}

fn peers(peers: &[PeerView]) -> Finding {
    const CHECK: &str = "peers";
    let named = |state: &str| {
        let peers = peers.iter().filter(|peer| peer.state == state);
        peers.map(|peer| peer.name.as_str()).collect::<Vec<_>>()
    };
    let calling = named("handshaking");
    if !calling.is_empty() {
        let what = format!(
            "no session with {}: no answer to handshakes",
            calling.join(", ")
        );
        return Finding::broken(CHECK, what)
            .why("a firewall, a wrong endpoint, public key, fabric name or preshared key")
            .fix("run omni doctor there: who is called knows why it does not answer");
    }
    let sessions = named("established").len();
    let idle = named("idle").len();
    Finding::fine(
        CHECK,
        format!(
            "sessions with {sessions} of {}, {idle} idle (nothing was sent)",
            peers.len()
        ),
    )
}

fn nuclei(show: &Show) -> Vec<Finding> {
    const CHECK: &str = "Nucleus";
    let each = show.nuclei.iter().map(|nucleus| {
        let at = &nucleus.endpoint;
        match (&nucleus.refusal, nucleus.registered) {
            (Some(refusal), _) => Finding::broken(CHECK, format!("{at} refuses: {refusal}"))
                .why("other members do not learn of this node")
                .fix("omni authority show CERTIFICATE; enroll the node again where it is wrong"),
            (None, true) => Finding::fine(CHECK, format!("{at} has this node's registration")),
            (None, false) => {
                Finding::broken(CHECK, format!("{at}: {}, not registered", nucleus.state))
                    .why("other members do not learn of this node")
                    .fix("let TCP in at the Nucleus, and compare nucleus[].public_key with its own")
            }
        }
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;
    use omni_wire::DropReason;

    fn peer(state: &str) -> PeerView {
        let peer = serde_json::json!({
            "name": "beta", "public_key": "", "endpoint": null, "state": state,
            "last_handshake_seconds": null, "frame_limit": null,
            "rx_frames": 0, "rx_bytes": 0, "tx_frames": 0, "tx_bytes": 0,
        });
        serde_json::from_value(peer).unwrap()
    }

    #[test]
    fn the_reasons_that_tell_are_reasons_that_there_are() {
        for (reason, ..) in TELLING {
            let known = DropReason::ALL.iter().any(|known| known.as_str() == reason);
            assert!(known, "{reason}");
        }
    }

    #[test]
    fn a_peer_that_does_not_answer_is_named_and_an_idle_one_is_fine() {
        let calling = peers(&[peer("established"), peer("handshaking")]);
        assert_eq!(calling.level, Level::Broken);
        assert!(calling.what.contains("beta"));
        assert_eq!(peers(&[peer("idle")]).level, Level::Fine);
    }
}
