//! What calls for somebody, beside the alarms of addresses: in words, so that it is seen without
//! colours too.

use omni_engine::show::{PeerView, Show};

use super::{Body, short_name, shortened};
use crate::table::{Tone, printable};

/// Peers that one line names.
const NAMED_MAX: usize = 3;

impl Body<'_> {
    /// One line for each, the worst first.
    pub(super) fn attention(self, show: &Show) -> String {
        let found = attention(show);
        let mut out: String = found
            .iter()
            .take(self.rows_max)
            .map(|(tone, text)| self.line(*tone, text))
            .collect();
        if let Some(more @ 1..) = found.len().checked_sub(self.rows_max) {
            out.push_str(&self.line(Tone::Warning, &format!("and {more} more: omni show --json")));
        }
        out
    }
}

/// Every one of them, the worst first, each beginning with `ALARM` or `WARNING`.
pub(crate) fn attention(show: &Show) -> Vec<(Tone, String)> {
    let (mut alarms, mut warnings) = (Vec::new(), Vec::new());
    if show.recovery.unsound > 0 {
        let times = show.recovery.unsound;
        alarms.push(format!(
            "frames did not add up {times} times: a defect, report it"
        ));
    }
    for port in show.ports.iter().filter(|port| port.state != "up") {
        alarms.push(format!("{} {} is {}", port.side, port.name, port.state));
    }
    if show.umem.frames_total > 0 && show.umem.frames_free == 0 {
        alarms.push("no frame of the packet memory is free".to_owned());
    }
    let throttled = |peer: &&PeerView| peer.throttled;
    alarms.extend(named(
        show,
        throttled,
        "throttled: most of what it sends is refused",
    ));
    let waits = |peer: &&PeerView| !peer.throttled && peer.state == "handshaking";
    warnings.extend(named(
        show,
        waits,
        "without a session: nothing answers its handshake",
    ));
    for port in show.ports.iter().filter(|port| port.mode == "detached") {
        warnings.push(format!("{} has no XDP program attached", port.name));
    }
    for nucleus in &show.nuclei {
        let at = &nucleus.endpoint;
        match &nucleus.refusal {
            Some(why) => warnings.push(format!("Nucleus {at} refuses: {why}")),
            None if nucleus.state != "connected" => {
                warnings.push(format!("Nucleus {at} is {}", nucleus.state));
            }
            None => {}
        }
    }
    let lines = |kind: &'static str, tone, texts: Vec<String>| {
        let texts = texts.into_iter();
        texts.map(move |text| (tone, printable(&format!("{kind}  {text}"))))
    };
    let alarms = lines("ALARM", Tone::Alarm, alarms);
    alarms
        .chain(lines("WARNING", Tone::Warning, warnings))
        .collect()
}

/// One line for all peers that have it; none when none has.
fn named(show: &Show, has: impl Fn(&&PeerView) -> bool, what: &str) -> Option<String> {
    let peers: Vec<_> = show.peers.iter().filter(has).collect();
    let names: Vec<_> = peers
        .iter()
        .take(NAMED_MAX)
        .map(|peer| peer_name(peer))
        .collect();
    let rest = match peers.len().checked_sub(NAMED_MAX) {
        Some(more @ 1..) => format!(" and {more} more"),
        _ => String::new(),
    };
    let noun = if peers.len() == 1 { "peer" } else { "peers" };
    (!peers.is_empty()).then(|| format!("{noun} {}{rest} {what}", names.join(", ")))
}

/// What a peer is called: the beginning of its key where it has no name.
pub(crate) fn peer_name(peer: &PeerView) -> String {
    match peer.name.as_str() {
        "" => shortened(&peer.public_key, super::KEY_SHORT),
        name => short_name(name),
    }
}

#[cfg(test)]
mod tests {
    use omni_engine::show::NucleusView;

    use super::super::tests::sample;
    use super::*;

    #[test]
    fn a_node_at_work_needs_nobody() {
        assert_eq!(attention(&sample()), []);
    }

    #[test]
    fn what_is_wrong_is_said_in_words_and_the_worst_comes_first() {
        let mut show = sample();
        show.peers[1].state = "handshaking".to_owned();
        show.peers[0].throttled = true;
        show.ports[1].state = "gone".to_owned();
        show.ports[0].mode = "detached".to_owned();
        show.umem.frames_free = 0;
        show.recovery.unsound = 2;
        let nucleus = |state: &str, refusal: Option<&str>| NucleusView {
            endpoint: "192.0.2.9:51821".to_owned(),
            state: state.to_owned(),
            registered: true,
            complete: true,
            revision: 1,
            heard_seconds: None,
            seen_at: None,
            refusal: refusal.map(str::to_owned),
            not_believed: 0,
        };
        show.nuclei = vec![
            nucleus("connecting", None),
            nucleus("connected", Some("a\x1b[2Jb")),
            nucleus("connected", None),
        ];
        let lines: Vec<_> = attention(&show).into_iter().map(|(_, text)| text).collect();
        let want = [
            "ALARM  frames did not add up 2 times: a defect, report it",
            "ALARM  access omni0 is gone",
            "ALARM  no frame of the packet memory is free",
            "ALARM  peer beta throttled: most of what it sends is refused",
            "WARNING  peer gamma without a session: nothing answers its handshake",
            "WARNING  eth0 has no XDP program attached",
            "WARNING  Nucleus 192.0.2.9:51821 is connecting",
            "WARNING  Nucleus 192.0.2.9:51821 refuses: a?[2Jb",
        ];
        assert_eq!(lines, want);
    }

    #[test]
    fn many_peers_share_a_line() {
        let mut show = sample();
        let mut peer = show.peers.remove(1);
        peer.state = "handshaking".to_owned();
        show.peers = vec![peer; 12];
        show.peers[0].name = String::new();
        let want = "WARNING  peers 3p7bfXt9.., gamma, gamma and 9 more without a session: \
                    nothing answers its handshake";
        assert_eq!(attention(&show), [(Tone::Warning, want.to_owned())]);
    }
}
