//! What each event does: messages on their way, turns of threads, and changes of hosts.

use std::net::SocketAddr;
use std::time::Duration;

use omni_control::message::{Command, PeerId, Role};
use omni_engine::switch::Audience;
use omni_wire::Instant;
use omni_wire::header::DataHeader;
use omni_wire::outer::Outer;

use super::{Stream, World, stream};
use crate::host::{State, host_of, turn_delay};
use crate::model::{Checked, Expected};
use crate::network::{Carried, Envelope};
use crate::queue::Event;
use crate::trace::Step;

/// Upcalls that the control thread handles in one turn, as in production.
const UPCALLS: usize = 1024;
/// How often the control thread keeps house, as in production.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long it waits before it hands over what a full mailbox refused, as in production.
const MAILBOX_RETRY: Duration = Duration::from_millis(2);

impl World {
    pub(super) fn handle(&mut self, event: Event) -> Checked {
        match event {
            Event::Arrive(envelope) => self.arrive(*envelope),
            Event::Worker { host, life, worker } => {
                if self.hosts[host].life != life {
                    return Ok(());
                }
                self.hosts[host].workers[worker].awake = false;
                if self.hosts[host].is_running() {
                    return self.run_worker(host, worker);
                }
            }
            Event::Control { host, life } => {
                let at = &mut self.hosts[host];
                let due = at.control_at == Some(self.truth.instant);
                if at.life == life && due {
                    at.control_at = None;
                    if at.is_running() {
                        return self.run_control(host);
                    }
                }
            }
            Event::Housekeeping { host, life } => {
                if self.hosts[host].life == life {
                    return self.keep_house(host, life);
                }
            }
            Event::Resolved { host, life, peer } => {
                if self.hosts[host].life == life && self.hosts[host].is_running() {
                    return self.resolve(host, peer);
                }
            }
            Event::Begin { host } => return self.begin(host),
            Event::AddressKnown { host } => return self.notice_address(host),
            Event::Resume { host, since } => return self.resume(host, since),
            Event::Boot { host, life } => {
                if self.hosts[host].life == life && self.hosts[host].state == State::Down {
                    return self.boot(host);
                }
            }
            Event::Heal { one, other } => {
                self.network.heal(one, other);
                self.note(Step::Healed { one, other });
            }
            Event::Answer {
                station,
                host,
                saying,
            } => self.answer(station, host, saying),
            Event::Act => return self.act(),
        }
        Ok(())
    }

    pub(crate) fn note(&mut self, step: Step) {
        self.trace.note(self.truth.instant, step);
    }

    /// Lets an event happen after some time.
    pub(crate) fn after(&mut self, span: Duration, event: Event) {
        self.queue.push(self.truth.instant + span, event);
    }

    /// Tells a host that has just begun to run of all others, and lets it say what it has to say.
    fn begin(&mut self, host: usize) -> Checked {
        let others = (0..self.hosts.len()).filter(|&other| other != host);
        let others: Vec<_> = others
            .map(|other| {
                (
                    self.hosts[other].identity.public_key(),
                    self.hosts[other].home,
                )
            })
            .collect();
        let at = &mut self.hosts[host];
        let now = at.now(self.truth);
        for (public_key, endpoint) in others {
            at.control.add_peer(now, public_key, endpoint);
        }
        let life = at.life;
        let first = self.turns.span(Duration::ZERO, HOUSEKEEPING);
        self.after(first, Event::Housekeeping { host, life });
        self.carry_out(host)
    }

    /// Lets a worker have a turn soon.
    pub(super) fn wake_worker(&mut self, host: usize, worker: usize) {
        let at = &mut self.hosts[host];
        let life = at.life;
        if at.is_running() && !std::mem::replace(&mut at.workers[worker].awake, true) {
            let delay = turn_delay(&mut self.turns);
            self.after(delay, Event::Worker { host, life, worker });
        }
    }

    /// Lets a control thread have a turn soon.
    fn wake_control(&mut self, host: usize) {
        let delay = turn_delay(&mut self.turns);
        self.control_by(host, self.truth.instant + delay);
    }

    /// Lets a control thread have a turn at `at` at the latest.
    fn control_by(&mut self, host: usize, at: Instant) {
        let at = at.max(self.truth.instant);
        let due = &mut self.hosts[host].control_at;
        if due.is_none_or(|due| at < due) {
            *due = Some(at);
            let life = self.hosts[host].life;
            self.queue.push(at, Event::Control { host, life });
        }
    }

    /// Puts a message into the network.
    pub(crate) fn post(&mut self, envelope: Envelope) {
        for (span, arriving) in self.network.carry(envelope.clone()) {
            self.after(span, Event::Arrive(Box::new(arriving)));
        }
    }

    fn arrive(&mut self, envelope: Envelope) {
        let Envelope {
            from, destination, ..
        } = envelope;
        let to = self
            .hosts
            .iter()
            .position(|host| host.address == destination);
        let why = match to {
            None => "nobody has the address",
            Some(to) if self.network.is_cut(from, to) => "the network is cut",
            Some(to) if self.hosts[to].state == State::Down => "the host is down",
            Some(to) => {
                let step = Step::Arrived {
                    host: to,
                    from,
                    len: envelope.octets.len(),
                    genuine: envelope.genuine,
                };
                if self.put_in(to, envelope) {
                    return self.note(step);
                }
                "its queue is full"
            }
        };
        let to = destination;
        self.note(Step::Lost { from, to, why });
    }

    /// Puts a message into the queue that it is for. False when that is full.
    fn put_in(&mut self, to: usize, envelope: Envelope) -> bool {
        let at = self.truth.instant;
        match envelope.carried {
            Carried::Data => {
                let worker = self.turns.below(self.hosts[to].workers.len());
                let taken = self.hosts[to].receive(worker, &envelope.octets, at);
                self.wake_worker(to, worker);
                taken
            }
            Carried::Handshake => {
                let taken = self.hosts[to].queue_datagram(envelope.source, envelope.octets);
                self.wake_control(to);
                taken
            }
        }
    }

    fn run_worker(&mut self, host: usize, worker: usize) -> Checked {
        let now = self.truth.instant;
        let turn = self.hosts[host].run_worker(worker, now, &mut self.model)?;
        self.model
            .delivers(host, worker, &turn.expected, &turn.delivered)?;
        for expected in turn.expected {
            self.note(match expected {
                Expected::Frame(number) => Step::Delivered { host, number },
                Expected::Own(octets) => Step::Told { host, octets },
            });
        }
        for octets in &turn.delivered {
            self.hear(host, octets)?;
        }
        for octets in turn.sealed {
            let contents = self.model.seals(now, host, worker, &octets)?;
            self.trace.octets(&octets);
            let DataHeader {
                session_id: session,
                lane,
                nonce,
                ..
            } = contents.header;
            let to = contents.to;
            self.note(Step::Sealed {
                from: host,
                to,
                session,
                lane,
                nonce,
            });
            self.send_data(host, to, contents.header, octets);
        }
        self.model
            .balance(host, worker, &self.hosts[host].workers[worker])?;
        if turn.told {
            self.wake_control(host);
        }
        if turn.more {
            self.wake_worker(host, worker);
        }
        Ok(())
    }

    /// Puts a sealed message into the network.
    fn send_data(&mut self, host: usize, to: usize, header: DataHeader, octets: Vec<u8>) {
        let Ok(outer) = Outer::parse(&octets) else {
            return;
        };
        let envelope = Envelope {
            carried: Carried::Data,
            from: Some(host),
            source: outer.source,
            destination: outer.destination,
            octets,
            genuine: true,
        };
        let arriving = self.network.carry(envelope);
        let arrives = |(_, envelope): &(Duration, Envelope)| envelope.from == Some(host);
        if !arriving.iter().any(arrives) {
            self.model.loses(to, &header);
        }
        for (span, envelope) in arriving {
            self.after(span, Event::Arrive(Box::new(envelope)));
        }
    }

    /// One turn of a control thread, in the order of production: datagrams, upcalls, timers, and
    /// then whatever follows from them.
    fn run_control(&mut self, host: usize) -> Checked {
        let now = self.hosts[host].now(self.truth);
        while let Some((source, payload)) = self.hosts[host].socket.pop_front() {
            let at = &mut self.hosts[host];
            let local = at.address.ip();
            at.control.datagram(now, source, local, &payload);
            let answers = at.control.transmits();
            let orders = at.control.orders(now);
            self.model.answers(host, &payload, &answers, orders.len())?;
            if !answers.is_empty() {
                self.note(Step::Answered { host, to: source });
            }
            for answer in answers {
                self.send_handshake(host, answer.destination, answer.payload)?;
            }
            self.pass_on(host, orders);
        }
        for _ in 0..UPCALLS {
            let at = &mut self.hosts[host];
            let Some((worker, upcall)) = at.mailbox.next_upcall() else {
                break;
            };
            at.control.upcall(now, worker, upcall);
        }
        self.hosts[host].control.timeout(now);
        self.carry_out(host)
    }

    /// Carries out what a control plane decided.
    pub(crate) fn carry_out(&mut self, host: usize) -> Checked {
        let now = self.hosts[host].now(self.truth);
        let orders = self.hosts[host].control.orders(now);
        self.pass_on(host, orders);
        for transmit in self.hosts[host].control.transmits() {
            self.send_handshake(host, transmit.destination, transmit.payload)?;
        }
        while let Some((peer, endpoint)) = self.hosts[host].control.wanted_path() {
            self.hosts[host].wanted.insert(peer, endpoint);
            self.look_for(host, peer);
        }
        let at = &mut self.hosts[host];
        let crowded = at.mailbox.flush();
        for worker in 0..self.hosts[host].workers.len() {
            self.wake_worker(host, worker);
        }
        if let Some(at) = self.hosts[host].control.next_timeout() {
            self.control_by(host, at);
        }
        if crowded {
            self.control_by(host, self.truth.instant + MAILBOX_RETRY);
        }
        Ok(())
    }

    fn pass_on(&mut self, host: usize, orders: Vec<(Audience, Command)>) {
        for (audience, command) in orders {
            match &command {
                Command::InstallSession(install) => {
                    self.model.session(host, install);
                    self.note(Step::Session {
                        host,
                        peer: host_of(host, install.peer),
                        id: install.session_id,
                        initiator: install.role == Role::Initiator,
                    });
                }
                &Command::EraseSession { session_id: id } => self.note(Step::Erased { host, id }),
                _ => {}
            }
            self.hosts[host].tell(audience, command);
        }
    }

    fn send_handshake(&mut self, host: usize, to: SocketAddr, payload: Vec<u8>) -> Checked {
        self.model.shakes(host, &payload)?;
        self.trace.octets(&payload);
        let kind = payload.get(4).copied().unwrap_or(0);
        self.note(Step::Handshake {
            from: host,
            to,
            kind,
        });
        self.post(Envelope {
            carried: Carried::Handshake,
            from: Some(host),
            source: self.hosts[host].address,
            destination: to,
            octets: payload,
            genuine: true,
        });
        Ok(())
    }

    fn keep_house(&mut self, host: usize, life: u32) -> Checked {
        self.after(HOUSEKEEPING, Event::Housekeeping { host, life });
        if !self.hosts[host].is_running() {
            return Ok(());
        }
        self.run_control(host)
    }

    /// Lets the kernel look for the way to a peer: a moment if it knows the neighbour.
    fn look_for(&mut self, host: usize, peer: PeerId) {
        let most = if self.turns.chance(100_000) {
            Duration::from_secs(1)
        } else {
            Duration::from_millis(1)
        };
        let delay = self.turns.span(Duration::ZERO, most);
        let life = self.hosts[host].life;
        self.after(delay, Event::Resolved { host, life, peer });
    }

    fn resolve(&mut self, host: usize, peer: PeerId) -> Checked {
        let at = &mut self.hosts[host];
        let now = at.now(self.truth);
        let Some(&endpoint) = at.wanted.get(&peer) else {
            return Ok(());
        };
        let path = at.path_to(endpoint);
        at.control.path(now, peer, endpoint, Some(path));
        self.note(Step::Path {
            host,
            peer: host_of(host, peer),
            to: endpoint,
        });
        self.carry_out(host)
    }

    /// Moves a host to another address. It notices after a while.
    pub(crate) fn roam(&mut self, host: usize, to: SocketAddr, notices_after: Duration) {
        self.hosts[host].address = to;
        self.faultless = false;
        self.note(Step::Roamed { host, to });
        self.after(notices_after, Event::AddressKnown { host });
    }

    fn notice_address(&mut self, host: usize) -> Checked {
        let at = &mut self.hosts[host];
        let before = std::mem::replace(&mut at.known_address, at.address);
        if !at.is_running() {
            return Ok(());
        }
        if before.ip() != at.address.ip() {
            let now = at.now(self.truth);
            at.control.address_gone(now, before.ip());
        }
        let peers: Vec<PeerId> = at.wanted.keys().copied().collect();
        for peer in peers {
            self.look_for(host, peer);
        }
        Ok(())
    }

    /// Takes a host's threads their turns.
    pub(crate) fn stop(&mut self, host: usize, span: Duration) {
        let since = self.truth.instant;
        self.disturb(host);
        self.hosts[host].state = State::Stopped(since);
        self.note(Step::Stopped { host, span });
        self.after(span, Event::Resume { host, since });
    }

    pub(super) fn resume(&mut self, host: usize, since: Instant) -> Checked {
        if self.hosts[host].state != State::Stopped(since) {
            return Ok(());
        }
        self.disturb(host);
        self.hosts[host].state = State::Running;
        self.note(Step::Resumed { host });
        for worker in 0..self.hosts[host].workers.len() {
            self.hosts[host].workers[worker].awake = false;
            self.wake_worker(host, worker);
        }
        self.wake_control(host);
        self.notice_address(host)
    }

    /// Ends a host's process. Another one begins after a while.
    pub(crate) fn restart(&mut self, host: usize, down: Duration) {
        self.disturb(host);
        let at = &mut self.hosts[host];
        at.state = State::Down;
        let life = at.life;
        self.note(Step::Restarted { host, down });
        self.after(down, Event::Boot { host, life });
    }

    pub(super) fn boot(&mut self, host: usize) -> Checked {
        self.disturb(host);
        let life = u64::from(self.hosts[host].life) + 1;
        let rng = stream(&self.setup, Stream::Ganglion, (host as u64) << 16 | life);
        let at = &mut self.hosts[host];
        let now = at.now(self.truth);
        at.reborn(self.link, rng, now);
        self.model.reborn(host, at.identity.lanes);
        self.note(Step::Booted { host });
        self.begin(host)
    }
}
