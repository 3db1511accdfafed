//! Interfaces that are deleted and made again, programs that are taken off, and queues that become
//! more.
//!
//! What somebody else made can be made again: it is waited for by its name. What the engine made is
//! gone for good when somebody deletes it: then the engine ends, and makes it at its next start.

use std::collections::btree_map::Entry;

use omni_control::netlink::{Link, Netlink};
use tracing::{info, warn};

use super::program::Attached;
use super::{AccessPort, EngineError, Ports, wanted_queues};
use crate::io::Port;
use crate::io::kernel::{BoundQueue, XskPort, receive_queues};
use crate::ways::Way;

impl Ports {
    /// Notes that an interface was deleted.
    ///
    /// # Errors
    /// When it is one that nobody else can make again.
    pub(in crate::runtime) fn note_gone(&mut self, ifindex: u32) -> Result<(), EngineError> {
        let waits = "an interface was deleted; it is waited for";
        if self.underlay.index == ifindex && !self.underlay_gone {
            warn!(interface = self.underlay.name, "{waits}");
            self.underlay_gone = true;
            self.underlay.carrier = false;
        }
        let of_port = |port: &&mut AccessPort| port.links().any(|link| link.index == ifindex);
        let Some(port) = self.access.iter_mut().find(of_port) else {
            return Ok(());
        };
        let name = port.link.name.clone();
        if !port.is_borrowed() {
            // Both sides of a made port go together: it is called what hosts call it.
            return Err(EngineError::InterfaceGone { name });
        }
        if !port.is_gone() {
            warn!(interface = name, "{waits}");
            port.lose();
        }
        Ok(())
    }

    /// Whether an interface of this name is waited for.
    pub(in crate::runtime) fn waits_for(&self, name: &str) -> bool {
        let access = self.access.iter().filter(|port| port.is_gone());
        let mut names = access.map(|port| &port.link.name);
        (self.underlay_gone && self.underlay.name == name) || names.any(|other| other == name)
    }

    /// Looks for the interfaces that are waited for. Says which ports are there again.
    pub(in crate::runtime) async fn find_again(&mut self, netlink: &Netlink) -> Vec<Port> {
        let mut found = Vec::new();
        if self.underlay_gone
            && let Ok(Some(link)) = netlink.link(&self.underlay.name).await
        {
            match wanted_queues(&self.wanted_queues, &link.name) {
                Ok(queues) if self.has_enough(&link, queues.len()) => {
                    info!(interface = link.name, "the underlay is there again");
                    self.underlay_gone = false;
                    self.underlay_queues = queues;
                    self.underlay = link;
                    found.push(Port::Underlay);
                }
                Ok(_) => {}
                Err(error) => self.say_once(&link.name, &error.to_string()),
            }
        }
        for (n, id) in self.access_ids().enumerate() {
            if !self.access[n].is_gone() {
                continue;
            }
            let Ok(Some(link)) = netlink.link(&self.access[n].link.name).await else {
                continue;
            };
            let (name, queues) = (link.name.clone(), receive_queues(&link.name));
            if !self.has_enough(&link, queues as usize) {
                continue;
            }
            match self.access[n].find(link, queues) {
                Ok(()) => {
                    info!(interface = name, "an access interface is there again");
                    found.push(Port::Access(id));
                }
                Err(error) => self.say_once(&name, &error.to_string()),
            }
        }
        found
    }

    /// Whether every worker gets a queue of an interface that is there again.
    fn has_enough(&mut self, link: &Link, queues: usize) -> bool {
        let (has, name) = (queues >= self.workers, &link.name);
        if !has {
            let why = format!("it needs {} receive queues, and has {queues}", self.workers);
            self.say_once(name, &why);
        }
        has
    }

    /// Follows interfaces that have more receive queues than are served. Says whether there are
    /// such. Fewer the kernel does not allow while sockets are bound to them.
    pub(in crate::runtime) fn follow_channels(&mut self) -> bool {
        let mut grown = false;
        let mut note = |interface: &str, from: usize, to: usize| {
            if to > from {
                info!(interface, from, to, "more receive queues");
                grown = true;
            }
            to > from
        };
        if self.ways.receive.way == Way::Afxdp
            && !self.underlay_gone
            && let Ok(queues) = wanted_queues(&self.wanted_queues, &self.underlay.name)
            && note(
                &self.underlay.name,
                self.underlay_queues.len(),
                queues.len(),
            )
        {
            self.underlay_queues = queues;
        }
        for port in &mut self.access {
            let Some(served) = port.queues_served() else {
                continue;
            };
            let queues = receive_queues(&port.link.name);
            if note(&port.link.name, served, queues as usize) {
                port.set_queues(queues);
            }
        }
        grown
    }

    /// Every port that has AF_XDP sockets, of those that are there.
    pub(in crate::runtime) fn xsk_ports(&self) -> Vec<(Port, XskPort)> {
        let has_sockets = self.ways.receive.way == Way::Afxdp && !self.underlay_gone;
        let underlay = has_sockets.then(|| (Port::Underlay, self.underlay_queues()));
        let access = self.access_ids().zip(&self.access);
        let access = access.filter_map(|(id, port)| {
            let queues = port.xsk_port(self.zero_copy)?;
            Some((Port::Access(id), queues))
        });
        underlay.into_iter().chain(access).collect()
    }

    /// Gives the programs the sockets that took the place of those before.
    pub(in crate::runtime) fn give_sockets(&mut self, bound: &[BoundQueue]) {
        let failures: Vec<String> = bound
            .iter()
            .filter_map(|queue| {
                let program = self.attached_mut(queue.port)?;
                let given = program.program.set_socket(queue.queue, queue);
                given.err().map(|error| error.to_string())
            })
            .collect();
        for error in failures {
            warn!(error, "a program does not take a socket");
        }
    }

    fn attached_mut(&mut self, port: Port) -> Option<&mut Attached> {
        match port {
            Port::Underlay => self.underlay_xdp.as_mut(),
            Port::Access(id) => self.access.get_mut(usize::from(id.0))?.attached_mut(),
        }
    }

    /// The interface that a port's program belongs on, while it is there.
    fn steered_link(&self, port: Port) -> Option<&Link> {
        match port {
            Port::Underlay => (!self.underlay_gone).then_some(&self.underlay),
            Port::Access(id) => {
                let port = self.access_port(id).filter(|port| !port.is_gone());
                port.map(AccessPort::engine_side)
            }
        }
    }

    fn all_ports(&self) -> impl Iterator<Item = Port> + use<> {
        let access = self.access_ids().map(Port::Access);
        [Port::Underlay].into_iter().chain(access)
    }

    /// Attaches the programs that are not where they belong: taken off by somebody, or the
    /// interface is a new one. Says how many were attached.
    pub(in crate::runtime) async fn look_after_programs(&mut self, netlink: &Netlink) -> u64 {
        let (wanted, mut attached) = (self.xdp, 0);
        for port in self.all_ports() {
            let Some(interface) = self.steered_link(port).map(|link| link.name.clone()) else {
                continue;
            };
            let own = self.attached_mut(port);
            let Some(own) = own.and_then(|own| own.program.program_id()) else {
                continue;
            };
            let Ok(Some(link)) = netlink.link(&interface).await else {
                continue;
            };
            if link.xdp_programs.contains(&own) {
                self.troubles.remove(&interface);
                continue;
            }
            if let Some(other) = link.xdp_programs.first() {
                // To take it off would break whatever it is for.
                let why = format!(
                    "another XDP program, number {other}, is on it, so nothing arrives here: stop \
                     what attached it"
                );
                self.say_once(&interface, &why);
                continue;
            }
            let again = self
                .attached_mut(port)
                .map(|own| own.again(&interface, wanted));
            match again {
                Some(Ok(())) => {
                    warn!(interface, "the XDP program was not on it; attached again");
                    attached += 1;
                }
                Some(Err(error)) => self.say_once(&interface, &error.to_string()),
                None => {}
            }
        }
        attached
    }

    /// How many frames each port's program handed to sockets.
    pub(in crate::runtime) fn steered(&self) -> Vec<(Port, u64)> {
        let access = self.access_ids().zip(&self.access);
        let access = access.map(|(id, port)| (Port::Access(id), port.attached()));
        let all = [(Port::Underlay, self.underlay_xdp.as_ref())];
        let all = all.into_iter().chain(access);
        all.filter_map(|(port, attached)| Some((port, attached?.program.steered().ok()?)))
            .collect()
    }

    /// Whether frames can pass by a port's interface.
    pub(in crate::runtime) fn is_up(&self, port: Port) -> bool {
        self.steered_link(port).is_some_and(|link| link.carrier)
    }

    /// Logs what keeps an interface from being served, once.
    fn say_once(&mut self, interface: &str, why: &str) {
        match self.troubles.entry(interface.to_owned()) {
            Entry::Occupied(known) if known.get() == why => {}
            Entry::Occupied(mut known) => {
                warn!(interface, why, "an interface cannot be served");
                why.clone_into(known.get_mut());
            }
            Entry::Vacant(first) => {
                warn!(interface, why, "an interface cannot be served");
                first.insert(why.to_owned());
            }
        }
    }
}
