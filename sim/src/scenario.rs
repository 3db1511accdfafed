//! What is done to a fabric: transitions, chosen at random by their weights.

use std::time::Duration;

use omni_wire::Instant;

use crate::host::{Host, MAX_FRAME, PORT, State};
use crate::model::Checked;
use crate::network::Weather;
use crate::queue::Event;
use crate::random::Rng;
use crate::trace::Step;
use crate::world::World;

/// The mean time between two transitions.
const PACE: Duration = Duration::from_millis(150);
/// How long the same stations talk to each other.
const PHASE: Duration = Duration::from_secs(60);
/// VLANs that stations use.
const VLANS: [u16; 3] = [7, 100, 4094];
/// Seconds of the jumps of a wall clock: an hour, ten years, and a little.
const JUMPS: [i64; 6] = [3600, -3600, 315_360_000, -315_360_000, 7, -7];

/// How often each transition is chosen, in relation to the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weights {
    /// Two stations of a conversation exchange a few frames.
    pub talk: u32,
    /// The same, tagged with a VLAN.
    pub talk_tagged: u32,
    /// A station calls out to all.
    pub broadcast: u32,
    /// A station asks for the MAC address of another one.
    pub ask: u32,
    /// A station moves behind another host.
    pub move_station: u32,
    /// A station is replaced by one with another MAC address.
    pub replace_station: u32,
    /// Somebody uses the MAC address of a station that is elsewhere.
    pub steal: u32,
    /// A station says to have the IP address of another one.
    pub spoof: u32,
    /// A host gets another address, or its first one back.
    pub roam: u32,
    /// Messages that were sent before are sent again.
    pub replay: u32,
    /// Messages are forged.
    pub forge: u32,
    /// A host is cut off, or two hosts from each other, for a while.
    pub cut: u32,
    /// A host is restarted.
    pub restart: u32,
    /// A host's wall clock is set wrong, or right again.
    pub clock: u32,
    /// A host's threads stand still for a while.
    pub stop: u32,
    /// The weather changes.
    pub weather: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            talk: 1000,
            talk_tagged: 60,
            broadcast: 8,
            ask: 60,
            move_station: 6,
            replace_station: 2,
            steal: 6,
            spoof: 6,
            roam: 6,
            replay: 30,
            forge: 30,
            cut: 8,
            restart: 3,
            clock: 4,
            stop: 4,
            weather: 10,
        }
    }
}

impl Weights {
    /// Traffic, and nothing that disturbs it.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            move_station: 0,
            replace_station: 0,
            steal: 0,
            spoof: 0,
            roam: 0,
            replay: 0,
            forge: 0,
            cut: 0,
            restart: 0,
            clock: 0,
            stop: 0,
            weather: 0,
            ..Self::default()
        }
    }
}

/// What is done next.
#[derive(Clone, Copy, Debug)]
enum Transition {
    Talk,
    TalkTagged,
    Broadcast,
    Ask,
    MoveStation,
    ReplaceStation,
    Steal,
    Spoof,
    Roam,
    Replay,
    Forge,
    Cut,
    Restart,
    Clock,
    Stop,
    Weather,
}

/// The state of the choice.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) weights: Weights,
    /// It ends here.
    pub(crate) until: Instant,
    rng: Rng,
    /// Pairs of stations that talk in this phase.
    conversations: Vec<(usize, usize)>,
    phase_ends: Instant,
}

impl Scenario {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            weights: Weights::default(),
            until: Instant(0),
            rng,
            conversations: Vec::new(),
            phase_ends: Instant(0),
        }
    }

    fn choose(&mut self) -> Transition {
        let w = &self.weights;
        let table = [
            (w.talk, Transition::Talk),
            (w.talk_tagged, Transition::TalkTagged),
            (w.broadcast, Transition::Broadcast),
            (w.ask, Transition::Ask),
            (w.move_station, Transition::MoveStation),
            (w.replace_station, Transition::ReplaceStation),
            (w.steal, Transition::Steal),
            (w.spoof, Transition::Spoof),
            (w.roam, Transition::Roam),
            (w.replay, Transition::Replay),
            (w.forge, Transition::Forge),
            (w.cut, Transition::Cut),
            (w.restart, Transition::Restart),
            (w.clock, Transition::Clock),
            (w.stop, Transition::Stop),
            (w.weather, Transition::Weather),
        ];
        let sum: u32 = table.iter().map(|(weight, _)| weight).sum();
        let mut drawn = self.rng.below(sum as usize) as u32;
        for (weight, transition) in table {
            if drawn < weight {
                return transition;
            }
            drawn -= weight;
        }
        Transition::Talk
    }

    /// Chooses who talks to whom: few pairs, so that few sessions are in use at a time.
    fn begin_phase(&mut self, now: Instant, stations: usize) {
        self.phase_ends = now + PHASE;
        let pair = |rng: &mut Rng| {
            let one = rng.below(stations);
            let other = (one + 1 + rng.below(stations - 1)) % stations;
            (one, other)
        };
        self.conversations = (0..stations / 3).map(|_| pair(&mut self.rng)).collect();
    }
}

impl World {
    /// Chooses what is done to the fabric from now on.
    pub fn set_weights(&mut self, weights: Weights) {
        self.scenario.weights = weights;
    }

    /// The next transition, and when the one after it is due.
    pub(crate) fn act(&mut self) -> Checked {
        let now = self.truth.instant;
        if now >= self.scenario.until {
            return Ok(());
        }
        if now >= self.scenario.phase_ends {
            let stations = self.stations.len();
            self.scenario.begin_phase(now, stations);
        }
        match self.scenario.choose() {
            Transition::Talk => self.talk(None),
            Transition::TalkTagged => {
                let vlan = self.scenario.rng.pick(&VLANS);
                self.talk(Some(vlan));
            }
            Transition::Broadcast => {
                let station = self.scenario.rng.below(self.stations.len());
                self.send(station, None, None, 40);
            }
            Transition::Ask => self.ask_for_one(),
            Transition::MoveStation => self.move_station(),
            Transition::ReplaceStation => {
                let station = self.scenario.rng.below(self.stations.len());
                self.replace(station);
            }
            Transition::Steal => self.steal_one(),
            Transition::Spoof => {
                let (one, other) = self.draw_pair();
                self.spoof(one, other, 0);
            }
            Transition::Roam => self.roam_somewhere(),
            Transition::Replay => self.inject(false),
            Transition::Forge => self.inject(true),
            Transition::Cut => self.cut(),
            Transition::Restart => self.restart_one(),
            Transition::Clock => self.set_clock(),
            Transition::Stop => self.stop_one(),
            Transition::Weather => {
                let weather = Weather::draw(&mut self.scenario.rng);
                self.set_weather(weather);
            }
        }
        let pause = self.scenario.rng.span(Duration::ZERO, PACE * 2);
        self.after(pause, Event::Act);
        Ok(())
    }

    fn draw_host(&mut self) -> usize {
        self.scenario.rng.below(self.hosts.len())
    }

    fn talk(&mut self, vlan: Option<u16>) {
        let rng = &mut self.scenario.rng;
        let (one, other) = rng.pick(&self.scenario.conversations);
        let (there, back) = (1 + rng.below(4), rng.below(4));
        let most = if rng.chance(50_000) {
            MAX_FRAME - 34
        } else {
            200
        };
        let filler = rng.below(most);
        for _ in 0..there {
            self.send(one, Some(other), vlan, filler);
        }
        for _ in 0..back {
            self.send(other, Some(one), vlan, filler);
        }
    }

    /// Two stations.
    fn draw_pair(&mut self) -> (usize, usize) {
        let (stations, rng) = (self.stations.len(), &mut self.scenario.rng);
        let one = rng.below(stations);
        (one, (one + 1 + rng.below(stations - 1)) % stations)
    }

    fn ask_for_one(&mut self) {
        let rng = &mut self.scenario.rng;
        let vlan = if rng.chance(100_000) {
            rng.pick(&VLANS)
        } else {
            0
        };
        // Mostly before they talk.
        let (one, other) = if rng.chance(700_000) {
            rng.pick(&self.scenario.conversations)
        } else {
            self.draw_pair()
        };
        self.ask(one, other, vlan);
    }

    /// One of the stations that may move does. Most of them say so.
    fn move_station(&mut self) {
        let station = self.hosts.len() + self.draw_host();
        let to = self.draw_host();
        self.place(station, to);
        if self.scenario.rng.chance(700_000) {
            self.announce(station, 0);
        }
    }

    /// Somebody sends a few frames from the address of a station that is elsewhere: one of those
    /// that may move, as the others have to be heard by everybody soon after the last fault.
    fn steal_one(&mut self) {
        let victim = self.hosts.len() + self.draw_host();
        let thief = self.draw_host();
        let rng = &mut self.scenario.rng;
        let vlan = rng.chance(200_000).then(|| rng.pick(&VLANS));
        if self.stations[victim].host != thief {
            for _ in 0..=self.scenario.rng.below(3) {
                self.steal(thief, victim, vlan);
            }
        }
    }

    fn roam_somewhere(&mut self) {
        let host = self.draw_host();
        let rng = &mut self.scenario.rng;
        let notices_after = rng.span(Duration::ZERO, Duration::from_secs(2));
        let (goes_home, keeps_port) = (rng.chance(300_000), rng.chance(700_000));
        let port = if keeps_port {
            PORT
        } else {
            20_000 + rng.below(20_000) as u16
        };
        let to = if goes_home {
            self.hosts[host].home
        } else {
            self.new_address(port)
        };
        self.roam(host, to, notices_after);
    }

    fn inject(&mut self, forged: bool) {
        let copies = 1 + self.scenario.rng.below(50);
        self.note(Step::Injected { copies, forged });
        for _ in 0..copies {
            let message = if forged {
                self.network.forge()
            } else {
                self.network.recall()
            };
            let Some(mut message) = message else {
                return;
            };
            // Some go to a host that they were never meant for.
            if self.scenario.rng.chance(100_000) {
                let host = self.draw_host();
                message.destination = self.hosts[host].address;
            }
            let span = self
                .scenario
                .rng
                .span(Duration::ZERO, Duration::from_millis(20));
            self.after(span, Event::Arrive(Box::new(message)));
        }
    }

    fn cut(&mut self) {
        let one = self.draw_host();
        let other = self.draw_host();
        let rng = &mut self.scenario.rng;
        let other = (rng.chance(600_000) && other != one).then_some(other);
        let span = rng.span(Duration::from_secs(1), Duration::from_secs(120));
        self.network.cut(one, other);
        self.faultless = false;
        self.note(Step::Cut { one, other, span });
        self.after(span, Event::Heal { one, other });
    }

    fn restart_one(&mut self) {
        let host = self.draw_host();
        let down = self
            .scenario
            .rng
            .span(Duration::from_millis(50), Duration::from_secs(20));
        if self.hosts[host].state != State::Down {
            self.restart(host, down);
        }
    }

    /// One wall clock is wrong at a time: who is to believe whom when more are cannot be told.
    fn set_clock(&mut self) {
        let is_wrong = |host: &Host| host.clock_error != 0;
        let wrong = self.hosts.iter().position(is_wrong);
        let host = wrong.unwrap_or_else(|| self.draw_host());
        let set_right = wrong.is_some() && self.scenario.rng.chance(500_000);
        let ahead_s = if set_right {
            0
        } else {
            self.scenario.rng.pick(&JUMPS)
        };
        self.hosts[host].clock_error = ahead_s * 1_000_000_000;
        self.model.distrust(host);
        self.note(Step::Clock { host, ahead_s });
    }

    fn stop_one(&mut self) {
        let host = self.draw_host();
        let rng = &mut self.scenario.rng;
        let most = rng.pick(&[1, 20, 60, 200]);
        let span = rng.span(Duration::from_millis(100), Duration::from_secs(most));
        if self.hosts[host].is_running() {
            self.stop(host, span);
        }
    }
}
