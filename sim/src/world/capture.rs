//! Recording what one host sends to another, and sending all of it again.

use std::time::Duration;

use omni_engine::datapath::BURST_MAX;

use super::World;
use crate::host::turn_delay;
use crate::model::Checked;
use crate::network::Envelope;
use crate::queue::Event;
use crate::report::Violation;

/// The filler of recorded frames, in octets.
const FILLER: usize = 10;

/// Messages of one length, one behind the other.
#[derive(Debug, Default)]
pub struct Capture {
    octets: Vec<u8>,
    /// Of each message, with its outer headers.
    len: usize,
    to: usize,
}

impl Capture {
    /// How many messages there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.octets.len().checked_div(self.len).unwrap_or(0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn message(&self, at: usize) -> &[u8] {
        &self.octets[at * self.len..(at + 1) * self.len]
    }
}

impl World {
    /// Sends frames from one host to another, burst by burst and by all workers in turn, and
    /// keeps the messages. They arrive at once; every frame must come out. Time stands still.
    ///
    /// # Errors
    /// When a rule is broken, or a frame is missing.
    pub fn record(&mut self, from: usize, to: usize, messages: usize) -> Checked<Capture> {
        let mut capture = Capture {
            to,
            ..Capture::default()
        };
        let now = self.truth.instant;
        for round in 0.. {
            let burst = BURST_MAX.min(messages - capture.len());
            if burst == 0 {
                break;
            }
            let worker = round % self.hosts[from].workers.len();
            for _ in 0..burst {
                self.enter_at(worker, from, Some(to), None, FILLER);
            }
            let turn = self.hosts[from].run_worker(worker, now, &mut self.model)?;
            let sealed = turn.sealed.len();
            if sealed != burst {
                return Violation::because(format!("{sealed} messages from {burst} frames"));
            }
            let receiver = (round / 2) % self.hosts[to].workers.len();
            for octets in turn.sealed {
                self.model.seals(now, from, worker, &octets)?;
                capture.len = octets.len();
                capture.octets.extend_from_slice(&octets);
                self.hosts[to].receive(receiver, &octets, now);
            }
            let turn = self.hosts[to].run_worker(receiver, now, &mut self.model)?;
            self.model
                .delivers(to, receiver, &turn.expected, &turn.delivered)?;
            if turn.delivered.len() != burst {
                return Violation::because("a message of the recording was not delivered");
            }
        }
        Ok(capture)
    }

    /// Sends recorded messages again, in this order, each to the worker that `steer` names by its
    /// place in the order. None may come out, nor may anything else.
    ///
    /// # Errors
    /// When one does, or one is not counted.
    pub fn play(
        &mut self,
        capture: &Capture,
        order: &[usize],
        steer: impl Fn(usize) -> usize,
    ) -> Checked {
        let (to, now) = (capture.to, self.truth.instant);
        let dropped = |world: &Self| -> u64 {
            let workers = world.hosts[to].workers.iter();
            workers.map(|worker| worker.datapath.drops().total()).sum()
        };
        let before = dropped(self);
        for (burst, messages) in order.chunks(BURST_MAX).enumerate() {
            for (at, &message) in messages.iter().enumerate() {
                let worker = steer(burst * BURST_MAX + at);
                self.hosts[to].receive(worker, capture.message(message), now);
            }
            for worker in 0..self.hosts[to].workers.len() {
                let turn = self.hosts[to].run_worker(worker, now, &mut self.model)?;
                if !turn.delivered.is_empty() || !turn.sealed.is_empty() {
                    return Violation::because("a replayed message was accepted");
                }
            }
        }
        let counted = dropped(self) - before;
        if counted != order.len() as u64 {
            return Violation::because(format!("{counted} of {} were counted", order.len()));
        }
        Ok(())
    }

    /// Keeps every message that is sent from now on.
    pub fn start_recording(&mut self) {
        self.network.tape = Some(Vec::new());
    }

    /// Ends that. Says how many there are.
    pub fn stop_recording(&mut self) -> usize {
        let tape = self.network.tape.take().unwrap_or_default();
        self.tape = tape;
        self.tape.len()
    }

    /// Sends messages that were kept again, in this order, from nobody of the fabric.
    ///
    /// # Errors
    /// When a rule is broken.
    pub fn send_again(&mut self, order: &[usize]) -> Checked {
        for burst in order.chunks(20) {
            for &at in burst {
                let message = Envelope {
                    from: None,
                    ..self.tape[at].clone()
                };
                self.after(Duration::ZERO, Event::Arrive(Box::new(message)));
            }
            self.advance(Duration::from_millis(1))?;
        }
        Ok(())
    }

    /// Ends a host's process for good.
    pub fn shut_down(&mut self, host: usize) {
        self.restart(host, Duration::from_secs(1_000_000));
    }

    /// Restarts a host at once, and lets it meet the others again.
    ///
    /// # Errors
    /// When a rule is broken.
    pub fn restart_host(&mut self, host: usize) -> Checked {
        // So that its clock has moved on since it last told anybody the time.
        self.advance(Duration::from_secs(1))?;
        let down = turn_delay(&mut self.turns);
        self.restart(host, down);
        self.advance(Duration::from_secs(1))?;
        self.meet(Duration::from_secs(10))?;
        self.advance(Duration::from_secs(1))
    }
}
