//! What hostile members and strangers do.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use omni_control::Random as _;
use omni_control::channel::PLAINTEXT_MAX;
use omni_engine::random::SystemRandom;
use omni_nucleus::protocol::{Ping, from_node, from_nucleus};
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::super::fabric::{Member, milliseconds};
use super::super::line::{Call, connect};
use super::super::speaker::{Speaker, own_address};
use super::forge::padded;
use crate::Failure;

/// For a connection to open.
const OPENS_WITHIN: Duration = Duration::from_secs(5);
/// For a few messages to be taken. A Nucleus that reads from nobody for longer does not end.
const TAKEN_WITHIN: Duration = Duration::from_secs(20);
/// At the end: for what was asked to be answered.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// Messages between two looks at what was answered.
const BATCH: usize = 16;
/// Records that are signed before the attack, and said over and over.
const RECORDS: u32 = 1536;
/// The same of those that are as long as may be: they are kept.
const PADDED: u32 = 128;
/// Connections that one stranger keeps open: more than a source may.
const STALLED: usize = 100;
/// How far ahead sequences of claims are, in milliseconds: less than a Nucleus takes.
const AHEAD: u64 = 5 * 60 * 1000;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Attack {
    /// Members register at full speed.
    Registrations,
    /// Members register with the largest certificates there may be.
    Large,
    /// Members claim addresses of others, with greater sequences.
    Claims,
    /// Members bind more addresses than they may hold.
    Bindings,
    /// Members send messages of 64 KiB that are none.
    Garbage,
    /// Members send messages of 64 KiB of a kind that a later version may have.
    Unknown,
    /// Members ask for everything and read nothing.
    Deaf,
    /// Members connect and leave at full speed.
    Storm,
    /// Strangers who finish the handshake and then say nothing.
    Strangers,
    /// Strangers who connect and say nothing at all.
    Stalled,
    /// Members bind addresses by records as long as may be. What is kept stays, so it is the last.
    Padded,
}

impl Attack {
    /// Whether what it asks has to be refused. The rest is asked within limits, or asks nothing.
    pub(super) const fn is_refused(self) -> bool {
        matches!(self, Self::Claims)
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Tally {
    /// Connections that were opened.
    pub(super) opened: u64,
    /// Those that the Nucleus ended, or did not let open.
    pub(super) closed: u64,
    /// Messages that were sent.
    pub(super) sent: u64,
    /// Answers, by why it is refused; `No`: it is not.
    pub(super) answers: BTreeMap<String, u64>,
    /// Requests that were neither answered nor ended by a closed connection.
    pub(super) unanswered: u64,
}

/// One attacker.
pub(super) struct Attacker {
    pub(super) attack: Attack,
    /// A member; of strangers, one whom the fabric does not know.
    pub(super) member: Member,
    pub(super) number: u32,
    pub(super) call: Call,
    /// Addresses of others.
    pub(super) victims: Arc<Vec<IpAddr>>,
    pub(super) tally: Arc<Mutex<Tally>>,
    pub(super) stop: Arc<AtomicBool>,
    /// Whether it registered once, which is enough to bind.
    pub(super) has_joined: Cell<bool>,
}

impl Attacker {
    /// Attacks until it is stopped.
    ///
    /// # Errors
    /// When a record cannot be signed.
    pub(super) async fn run(&self) -> Result<(), Failure> {
        let records = self.records()?;
        match self.attack {
            Attack::Stalled => self.stall().await,
            Attack::Storm => self.again(async |it: &Self| it.storm().await).await,
            Attack::Strangers => self.again(async |it: &Self| it.wait().await).await,
            Attack::Deaf => self.again(async |it: &Self| it.deaf().await).await,
            _ => self.again(async |it: &Self| it.flood(&records).await).await,
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        change(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What is said over and over.
    fn records(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let now = milliseconds();
        let records: Result<Vec<_>, _> = match self.attack {
            Attack::Registrations | Attack::Large => (0..RECORDS)
                .map(|at| self.member.registration(now + u64::from(at)))
                .collect(),
            Attack::Claims => self
                .victims
                .iter()
                .map(|&ip| self.member.binding(ip, now + AHEAD, false))
                .collect(),
            Attack::Bindings => (0..RECORDS)
                .map(|at| own_address(self.number * (RECORDS / 256) + at / 256, at))
                .map(|ip| self.member.binding(ip, now, false))
                .collect(),
            Attack::Padded => return (0..PADDED).map(|at| self.padded(at, now)).collect(),
            _ => Ok(Vec::new()),
        };
        Ok(records?)
    }

    fn padded(&self, at: u32, sequence: u64) -> Result<Vec<u8>, Failure> {
        let ip = own_address(self.number * (RECORDS / 256), at);
        let binding = self.member.binding(ip, sequence, false)?;
        padded(&self.member.fabric, &self.member.private, &binding)
    }

    /// Connects again whenever it is over.
    async fn again(&self, attack: impl AsyncFn(&Self) -> Result<(), Failure>) {
        while !self.is_over() {
            if attack(self).await.is_err() {
                self.count(|tally| tally.closed += 1);
                // Not to spin where nothing can be opened.
                sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn open(&self) -> Result<Speaker, Failure> {
        let speaker = timeout(OPENS_WITHIN, Speaker::connect(&self.call)).await??;
        self.count(|tally| tally.opened += 1);
        Ok(speaker)
    }

    /// Says one thing after the other, as fast as it is taken.
    async fn flood(&self, records: &[Vec<u8>]) -> Result<(), Failure> {
        let mut speaker = self.open().await?;
        let binds = matches!(
            self.attack,
            Attack::Claims | Attack::Bindings | Attack::Padded
        );
        if binds && !self.has_joined.get() {
            speaker.join(&self.member, milliseconds()).await?;
            self.has_joined.set(true);
        }
        let mut garbage = vec![0; PLAINTEXT_MAX];
        SystemRandom.fill(&mut garbage);
        let mut open = 0;
        let mut records = records.iter().cycle();
        while !self.is_over() {
            for _ in 0..BATCH {
                match (self.attack, records.next()) {
                    (Attack::Registrations | Attack::Large, Some(record)) => {
                        speaker.register(record.clone())?;
                        open += 1;
                    }
                    (_, Some(record)) => {
                        speaker.bind(record.clone())?;
                        open += 1;
                    }
                    (Attack::Garbage, None) => speaker.line.queue(&garbage)?,
                    (_, None) => speaker.line.queue(&of_later_version())?,
                }
            }
            self.count(|tally| tally.sent += BATCH as u64);
            let Ok(taken) = timeout(TAKEN_WITHIN, speaker.line.flush(0)).await else {
                self.count(|tally| tally.unanswered += open.max(1));
                return Ok(());
            };
            taken?;
            self.take_answers(&mut speaker, &mut open)?;
            tokio::task::yield_now().await;
        }
        let answered = async {
            while open > 0 {
                let heard = speaker.hear().await?;
                self.answered(heard, &mut open);
            }
            Ok::<(), Failure>(())
        };
        if timeout(ANSWERED_WITHIN, answered).await.is_err() {
            self.count(|tally| tally.unanswered += open);
        }
        Ok(())
    }

    fn take_answers(&self, speaker: &mut Speaker, open: &mut u64) -> Result<(), Failure> {
        while let Some(heard) = speaker.heard()? {
            self.answered(heard, open);
        }
        Ok(())
    }

    fn answered(&self, heard: from_nucleus::What, open: &mut u64) {
        if let from_nucleus::What::Result(result) = heard {
            *open = open.saturating_sub(1);
            let why = format!("{:?}", result.refused());
            self.count(|tally| *tally.answers.entry(why).or_default() += 1);
        }
    }

    /// Asks for the whole list, goes on to ping, and reads nothing.
    async fn deaf(&self) -> Result<(), Failure> {
        let mut speaker = self.open().await?;
        let registration = self.member.registration(milliseconds())?;
        speaker.register(registration)?;
        while !self.is_over() {
            speaker.say(from_node::What::Ping(Ping {}))?;
            self.count(|tally| tally.sent += 1);
            timeout(OPENS_WITHIN, speaker.line.push()).await??;
            sleep(Duration::from_millis(7)).await;
        }
        Ok(())
    }

    async fn storm(&self) -> Result<(), Failure> {
        let mut speaker = self.open().await?;
        speaker.line.push().await?;
        self.count(|tally| tally.sent += 1);
        Ok(())
    }

    /// Is there, and no member.
    async fn wait(&self) -> Result<(), Failure> {
        let mut speaker = self.open().await?;
        while !self.is_over() {
            let heard = timeout(Duration::from_millis(100), speaker.hear()).await;
            heard.unwrap_or_else(|_| Ok(from_nucleus::What::Pong(Default::default())))?;
        }
        Ok(())
    }

    /// Keeps connections open that say nothing, and opens others when they are closed.
    async fn stall(&self) {
        let mut open = VecDeque::new();
        while !self.is_over() {
            match timeout(OPENS_WITHIN, connect(self.call.source, self.call.endpoint)).await {
                Ok(Ok(stream)) => {
                    self.count(|tally| tally.opened += 1);
                    open.push_back(stream);
                }
                _ => self.count(|tally| tally.closed += 1),
            }
            if open.len() > STALLED {
                self.close_ended(&mut open);
                sleep(Duration::from_millis(20)).await;
            }
        }
    }

    fn close_ended(&self, open: &mut VecDeque<tokio::net::TcpStream>) {
        let before = open.len();
        open.retain(|stream| is_open(stream).is_continue());
        let ended = before - open.len();
        self.count(|tally| tally.closed += ended as u64);
        // One too many in any case.
        open.pop_front();
    }
}

fn is_open(stream: &tokio::net::TcpStream) -> ControlFlow<()> {
    match stream.try_read(&mut [0; 1]) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => ControlFlow::Continue(()),
        _ => ControlFlow::Break(()),
    }
}

/// A message of a kind that nobody knows: field 100, as long as a message may be.
fn of_later_version() -> Vec<u8> {
    const TAG: [u8; 2] = [0xa2, 0x06];
    // Tag and length take five octets.
    let len = PLAINTEXT_MAX - 5;
    let length = [
        (len & 0x7f) as u8 | 0x80,
        (len >> 7 & 0x7f) as u8 | 0x80,
        (len >> 14) as u8,
    ];
    let mut message = [&TAG[..], &length].concat();
    message.resize(PLAINTEXT_MAX, 0);
    message
}

#[cfg(test)]
mod tests {
    use omni_nucleus::protocol::FromNode;

    use super::*;

    #[test]
    fn a_message_of_a_later_version_decodes_and_is_of_no_known_kind() {
        let message = of_later_version();
        assert_eq!(message.len(), PLAINTEXT_MAX);
        assert_eq!(FromNode::read(&message), Ok(None));
        assert!(FromNode::read(&message[..1000]).is_err(), "it is one field");
    }
}
