//! A node without an engine: its agent on a line that is opened again whenever it ends.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use omni_engine::clock;
use omni_engine::random::SystemRandom;
use omni_membership::Binding;
use omni_nucleus::agent::{Agent, AgentEvent, Pauses};
use omni_nucleus::protocol::{Changes, FromNode, FromNucleus, Refused, from_node, from_nucleus};
use omni_wire::Instant;
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::fabric::{Member, VLAN, mac_of};
use super::line::{Call, Line};
use super::nucleus::Nucleus;
use crate::Failure;

/// As the engine's: how long a connection and its channel may take to open.
const OPENS_WITHIN: Duration = Duration::from_secs(5);
/// As the engine's: a Nucleus that says nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// What a node says about itself while it runs.
pub(super) enum Told<'a> {
    /// The Nucleus answered what it was asked about this address.
    Answered {
        /// What was asked.
        binding: &'a Binding,
        /// Why not, if not.
        refused: Refused,
    },
    /// The agent learned something.
    Event(AgentEvent),
}

/// Who listens to all nodes: the number of the node comes first.
pub(super) type Listener = Rc<dyn Fn(usize, Told<'_>)>;

/// A node.
pub(super) struct Node {
    number: usize,
    pub(super) member: Member,
    agent: RefCell<Agent>,
    wake: Notify,
    /// Whether it takes in what it is told of others.
    is_aware: bool,
    listener: Listener,
    /// Addresses that the Nucleus acknowledged in this connection, as they are now.
    acknowledged: RefCell<BTreeSet<IpAddr>>,
    /// When the last of all that was to be acknowledged in this connection was.
    settled_at: Cell<Option<Instant>>,
    wanted: RefCell<BTreeSet<IpAddr>>,
}

impl Node {
    /// A node that is to have these addresses. It begins to run with [`Node::run`].
    ///
    /// One that is not aware passes over what it is told of others: to verify that is most of what
    /// a node does, and here all of them share a core.
    ///
    /// # Errors
    /// When what it says of itself is out of range.
    pub(super) fn new(
        number: usize,
        member: Member,
        is_aware: bool,
        wanted: impl IntoIterator<Item = IpAddr>,
        listener: Listener,
    ) -> Result<Rc<Self>, Failure> {
        let mut agent = Agent::new(member.agent())?;
        let now = clock::now();
        agent.set_endpoints(now, &[], &[(member.source, 51_820).into()]);
        let node = Rc::new(Self {
            number,
            member,
            agent: RefCell::new(agent),
            wake: Notify::new(),
            is_aware,
            listener,
            acknowledged: RefCell::default(),
            settled_at: Cell::new(None),
            wanted: RefCell::default(),
        });
        node.set_bindings(wanted);
        Ok(node)
    }

    /// Its addresses, from now on.
    pub(super) fn set_bindings(&self, wanted: impl IntoIterator<Item = IpAddr>) {
        let wanted: BTreeSet<IpAddr> = wanted.into_iter().collect();
        let bindings = wanted.iter().map(|&ip| (VLAN, Some(ip), mac_of(ip)));
        self.agent.borrow_mut().set_bindings(clock::now(), bindings);
        self.acknowledged
            .borrow_mut()
            .retain(|ip| wanted.contains(ip));
        self.wanted.replace(wanted);
        self.settled_at.set(None);
        self.wake.notify_one();
    }

    /// Its addresses.
    pub(super) fn wanted(&self) -> BTreeSet<IpAddr> {
        self.wanted.borrow().clone()
    }

    /// When the Nucleus that it is connected to had acknowledged its registration and all its
    /// addresses; `None` while it has not.
    pub(super) fn settled_at(&self) -> Option<Instant> {
        self.settled_at.get()
    }

    /// How many others it knows, and how many addresses of theirs.
    pub(super) fn knows(&self) -> (usize, usize) {
        let agent = self.agent.borrow();
        let bindings = agent.bindings(clock::now()).count();
        (agent.members().count(), bindings)
    }

    /// Why the Nucleus refused something last, in its words.
    pub(super) fn refusal(&self) -> Option<String> {
        self.agent.borrow().links().find_map(|link| link.refusal)
    }

    /// Runs until it is dropped.
    pub(super) async fn run(self: Rc<Self>, call: Call) {
        let mut pauses = Pauses::default();
        loop {
            let opened = tokio::time::Instant::now();
            if let Ok(Ok(line)) = timeout(OPENS_WITHIN, Line::open(&call)).await {
                self.agent.borrow_mut().connected(clock::now(), 0);
                // Why it ends does not matter: it is opened again, and what lasts is measured.
                let _ = self.carry(line).await;
            }
            self.agent.borrow_mut().disconnected(0);
            self.acknowledged.borrow_mut().clear();
            self.settled_at.set(None);
            sleep(pauses.after(opened.elapsed(), &mut SystemRandom)).await;
        }
    }

    /// Carries messages until something ends that.
    async fn carry(&self, mut line: Line) -> Result<(), Failure> {
        let mut asked = BTreeMap::new();
        let mut heard_at = tokio::time::Instant::now();
        loop {
            let due = self.turn(&mut line, &mut asked)?;
            let wait = due.since(clock::instant());
            tokio::select! {
                heard = line.hear() => {
                    heard_at = tokio::time::Instant::now();
                    self.take(&heard?, &mut asked)?;
                }
                () = self.wake.notified() => {}
                () = sleep(wait) => {
                    if heard_at.elapsed() >= SILENCE {
                        return Err("the Nucleus has said nothing for 30 s".into());
                    }
                }
            }
        }
    }

    /// Does what is due, tells what happened, and queues what is to be said. When to come back.
    fn turn(
        &self,
        line: &mut Line,
        asked: &mut BTreeMap<u64, Binding>,
    ) -> Result<Instant, Failure> {
        let now = clock::now();
        let mut events = Vec::new();
        let due = {
            let agent = &mut *self.agent.borrow_mut();
            if agent.poll_timeout() <= now.instant {
                agent.handle_timeout(now);
            }
            while let Some(event) = agent.poll_event() {
                events.push(event);
            }
            // Where a node is seen is as good as known here. To be told so makes it register anew.
            if let Some(token) = agent.poll_reflection(now, 0) {
                agent.handle_reflection(now, &token, (self.member.source, 51_820).into());
            }
            while let Some(message) = agent.poll_send(now, 0) {
                note(&message, asked)?;
                line.queue(&message)?;
            }
            agent.poll_timeout()
        };
        for event in events {
            (self.listener)(self.number, Told::Event(event));
        }
        Ok(due)
    }

    /// Hands a message to the agent, and looks at answers on the way.
    fn take(&self, octets: &[u8], asked: &mut BTreeMap<u64, Binding>) -> Result<(), Failure> {
        let now = clock::now();
        let what = FromNucleus::read(octets)?;
        if let (false, Some(from_nucleus::What::Changes(changes))) = (self.is_aware, &what) {
            let empty = Changes {
                incarnation: changes.incarnation.clone(),
                revision: changes.revision,
                all: changes.all,
                ..Changes::default()
            };
            let empty = FromNucleus::from(from_nucleus::What::Changes(empty));
            let octets = empty.encode_to_vec();
            self.agent.borrow_mut().handle_message(now, 0, &octets);
            return Ok(());
        }
        self.agent.borrow_mut().handle_message(now, 0, octets);
        if let Some(from_nucleus::What::Result(result)) = what {
            let refused = result.refused();
            if let Some(binding) = asked.remove(&result.number) {
                self.answered(&binding, refused);
            }
            self.settle(now.instant);
        }
        Ok(())
    }

    fn answered(&self, binding: &Binding, refused: Refused) {
        let is_wanted = |ip: &IpAddr| self.wanted.borrow().contains(ip);
        if let (Refused::No, false, Some(ip)) = (refused, binding.withdrawn, binding.ip)
            && is_wanted(&ip)
        {
            self.acknowledged.borrow_mut().insert(ip);
        }
        (self.listener)(self.number, Told::Answered { binding, refused });
    }

    fn settle(&self, now: Instant) {
        let is_registered = self.agent.borrow().links().all(|link| link.registered);
        let is_all = *self.acknowledged.borrow() == *self.wanted.borrow();
        if self.settled_at.get().is_none() && is_registered && is_all {
            self.settled_at.set(Some(now));
        }
    }
}

/// Keeps what is asked about addresses, by the number of the request.
fn note(message: &[u8], asked: &mut BTreeMap<u64, Binding>) -> Result<(), Failure> {
    if let Some(from_node::What::Bind(bind)) = FromNode::read(message)? {
        asked.insert(bind.number, Binding::unverified(&bind.binding)?);
    }
    Ok(())
}

/// Nodes that run, and the Nucleus that they speak to.
pub(super) struct Swarm {
    pub(super) nodes: Vec<Rc<Node>>,
}

impl Swarm {
    /// Lets nodes begin, all at once.
    pub(super) fn start(nucleus: &Nucleus, nodes: Vec<Rc<Node>>) -> Self {
        for node in &nodes {
            let call = nucleus.call(&node.member);
            tokio::task::spawn_local(Rc::clone(node).run(call));
        }
        Self { nodes }
    }

    /// When each node that has everything acknowledged had it.
    pub(super) fn settled(&self) -> impl Iterator<Item = Option<Instant>> + '_ {
        self.nodes.iter().map(|node| node.settled_at())
    }

    /// Whether all have.
    pub(super) fn is_settled(&self) -> bool {
        self.settled().all(|at| at.is_some())
    }

    /// How the nodes stand that are not settled, in words.
    pub(super) fn complaint(&self) -> String {
        let open = self.nodes.iter().filter(|node| node.settled_at().is_none());
        let open: Vec<_> = open.collect();
        let why = open.iter().find_map(|node| node.refusal());
        let why = why.unwrap_or_else(|| "nothing was refused".to_owned());
        format!("{} nodes are not settled ({why})", open.len())
    }
}
