//! Echoes of peers: the probes of path MTU discovery, asked for by the operator.
//!
//! Every node answers probes at once, so nothing more is needed on the wire. The Ganglion knows its
//! own by their tokens, and never sees answers to these.

use std::sync::Arc;
use std::time::Duration;

use omni_control::message::{Command, PeerId, Upcall};
use omni_control::{PeerState, PeerStatus, Random};
use omni_wire::Instant;
use omni_wire::record::{Record, emit_probe};
use tokio::sync::oneshot;

use super::Node;
use crate::clock;
use crate::datapath::TableCommand;
use crate::echo::{Echo, EchoRequest, OCTETS_MIN, WAIT_MS_MAX};
use crate::random::SystemRandom;
use crate::switch::Audience;

/// Echoes that are waited for at once.
const WAITING_MAX: usize = 256;

/// An answer to a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Answered {
    /// What arrived, as the peer says.
    octets: u16,
    rtt: Duration,
}

/// An echo that is waited for.
#[derive(Debug)]
struct Waiting {
    peer: PeerId,
    token: [u8; 8],
    sent: Instant,
    reply: oneshot::Sender<Answered>,
}

/// Those that are waited for.
#[derive(Debug, Default)]
pub(super) struct Echoes(Vec<Waiting>);

impl Echoes {
    /// Waits for an answer, unless too many are waited for. Whoever lost patience is forgotten.
    fn expect(
        &mut self,
        now: Instant,
        peer: PeerId,
        token: [u8; 8],
    ) -> Option<oneshot::Receiver<Answered>> {
        self.0.retain(|waiting| !waiting.reply.is_closed());
        if self.0.len() >= WAITING_MAX {
            return None;
        }
        let (reply, answer) = oneshot::channel();
        self.0.push(Waiting {
            peer,
            token,
            sent: now,
            reply,
        });
        Some(answer)
    }

    /// Takes an upcall that is an answer waited for in here. Others are left alone.
    pub(super) fn take(&mut self, now: Instant, upcall: &Upcall) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let Upcall::Record { peer, record } = upcall else {
            return false;
        };
        let Some(Record::ProbeAck { token, size }) = Record::parse(record) else {
            return false;
        };
        let is_it = |waiting: &Waiting| waiting.peer == *peer && waiting.token == token;
        let Some(at) = self.0.iter().position(is_it) else {
            return false;
        };
        let waiting = self.0.swap_remove(at);
        // Who asked may have lost patience just now.
        let _ = waiting.reply.send(Answered {
            octets: size,
            rtt: now.since(waiting.sent),
        });
        true
    }
}

/// An echo under way, or one that could not be sent.
#[derive(Debug)]
pub(super) struct Begun {
    echo: Echo,
    wait: Duration,
    answer: Option<oneshot::Receiver<Answered>>,
}

impl Begun {
    /// Waits for the answer, as long as was asked for.
    pub(super) async fn finish(self) -> Echo {
        let Self {
            mut echo,
            wait,
            answer,
        } = self;
        if let Some(answer) = answer
            && let Ok(Ok(answered)) = tokio::time::timeout(wait, answer).await
        {
            echo.arrived = Some(answered.octets);
            echo.rtt_ns = u64::try_from(answered.rtt.as_nanos()).ok();
        }
        echo
    }
}

impl Node {
    /// Sends a probe to a peer. Without a session it begins a handshake instead.
    ///
    /// # Errors
    /// What is wrong with the question, in words for the operator.
    pub(super) fn begin_echo(&mut self, request: &EchoRequest) -> Result<Begun, String> {
        let peer = self.find_peer(&request.peer)?;
        let octets = request.octets;
        if octets < OCTETS_MIN {
            return Err(format!("an echo takes {OCTETS_MIN} octets at least"));
        }
        if let Some(accepts) = peer.accepts.filter(|&accepts| octets > accepts) {
            return Err(format!(
                "{} accepts frames of {accepts} octets at most",
                self.peer_name(peer.id)
            ));
        }
        let mut begun = Begun {
            echo: self.echo_to(&peer, octets),
            wait: Duration::from_millis(request.wait_ms.min(WAIT_MS_MAX).into()),
            answer: None,
        };
        let now = clock::now();
        if peer.state != PeerState::Established {
            begun.echo.refusal = Some(
                if peer.endpoint.is_none() {
                    "no session, and it is not known where the peer is: it has to speak first"
                } else {
                    "no session: a handshake is under way"
                }
                .to_owned(),
            );
            let upcall = Upcall::NeedSession { peer: peer.id };
            self.plane.ganglion.handle_upcall(now, &upcall);
            return Ok(begun);
        }
        let mut token = [0; 8];
        SystemRandom.fill(&mut token);
        let mut record = vec![0; usize::from(octets)];
        emit_probe(&mut record, token, usize::from(octets))
            .ok_or_else(|| format!("no record has {octets} octets"))?;
        let answer = self.echoes.expect(now.instant, peer.id, token);
        begun.answer = Some(answer.ok_or("too many echoes are waited for")?);
        let command = Command::SendRecord {
            peer: peer.id,
            record: Arc::from(record),
        };
        self.tell(Audience::Only(0), TableCommand::Control(command));
        Ok(begun)
    }

    fn echo_to(&self, peer: &PeerStatus, octets: u16) -> Echo {
        Echo {
            peer: self.peer_name(peer.id).to_owned(),
            public_key: peer.public_key.to_string(),
            state: peer.state.as_str().to_owned(),
            endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
            source: self.paths.source(peer.id).map(|source| source.to_string()),
            frame_limit: self.frame_limit(peer),
            octets,
            arrived: None,
            rtt_ns: None,
            refusal: None,
        }
    }

    /// The longest inner frame that is sent to a peer now; `None` without a session.
    pub(super) fn frame_limit(&self, peer: &PeerStatus) -> Option<u16> {
        let ours = u16::try_from(self.ports.max_frame()).unwrap_or(u16::MAX);
        let accepted = peer.accepts?.min(ours);
        Some(peer.frame_limit.map_or(accepted, |way| way.min(accepted)))
    }
}

#[cfg(test)]
mod tests {
    use omni_wire::record::emit_probe_ack;

    use super::*;

    const START: Instant = Instant(1_000_000_000);
    const BETA: PeerId = PeerId(3);
    const TOKEN: [u8; 8] = [7; 8];

    fn answer(peer: PeerId, token: [u8; 8]) -> Upcall {
        let mut record = [0; 64];
        let len = emit_probe_ack(&mut record, token, 100).expect("room");
        let record = Box::from(&record[..len]);
        Upcall::Record { peer, record }
    }

    #[test]
    fn an_answer_is_known_by_peer_and_token_and_taken_once() {
        let mut echoes = Echoes::default();
        let mut answered = echoes.expect(START, BETA, TOKEN).expect("room");
        let now = START + Duration::from_micros(250);
        assert!(!echoes.take(now, &answer(PeerId(4), TOKEN)));
        assert!(!echoes.take(now, &answer(BETA, [8; 8])));
        assert!(!echoes.take(now, &Upcall::NeedSession { peer: BETA }));
        assert!(answered.try_recv().is_err());
        assert!(echoes.take(now, &answer(BETA, TOKEN)));
        let want = Answered {
            octets: 100,
            rtt: Duration::from_micros(250),
        };
        assert_eq!(answered.try_recv(), Ok(want));
        assert!(!echoes.take(now, &answer(BETA, TOKEN)));
    }

    #[test]
    fn who_lost_patience_makes_room() {
        let mut echoes = Echoes::default();
        let mut kept: Vec<_> = (0..WAITING_MAX)
            .map(|_| echoes.expect(START, BETA, TOKEN).expect("room"))
            .collect();
        assert!(echoes.expect(START, BETA, TOKEN).is_none());
        kept.pop();
        assert!(echoes.expect(START, BETA, TOKEN).is_some());
    }
}
