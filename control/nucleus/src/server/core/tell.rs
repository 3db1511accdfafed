//! What nodes are told.

use omni_store::Revision;

use super::list::{List, Place, Record};
use super::types::Conn;
use super::{Core, node};
use crate::protocol::{Changes, FromNucleus, RECORDS_MAX, from_nucleus};

impl Core {
    /// A connection that may have something to be told: to be asked by [`Core::poll_message`]
    /// until there is nothing, as soon as it can be written to.
    pub fn poll_ready(&mut self) -> Option<Conn> {
        if core::mem::take(&mut self.list_moved) {
            let behind = self.nodes.iter().filter(|(_, node)| self.is_behind(node));
            let behind: Vec<_> = behind.map(|(conn, _)| *conn).collect();
            self.ready.extend(behind);
        }
        self.ready.pop_first()
    }

    /// Whether a node is to be told of the list at all, and is not at its end.
    fn is_behind(&self, node: &node::Node) -> bool {
        let Some((incarnation, place)) = node.told else {
            return false;
        };
        let is_at_end = node.told_all
            && incarnation == self.list.incarnation()
            && self.list.after(place).next().is_none();
        self.store.is_loaded() && node.standing.is_member() && !is_at_end
    }

    /// The next message to a node. To be asked when it can be sent.
    pub fn poll_message(&mut self, conn: Conn) -> Option<FromNucleus> {
        let node = self.nodes.get_mut(&conn)?;
        if let Some(what) = node.next_said() {
            return Some(what.into());
        }
        if !self.is_behind(self.nodes.get(&conn)?) {
            return None;
        }
        let node = self.nodes.get_mut(&conn)?;
        let (incarnation, mut place) = node.told?;
        if incarnation != self.list.incarnation() {
            place = Place::after(Revision(0));
        }
        let (changes, place) = changes_after(&self.list, place);
        node.told = Some((self.list.incarnation(), place));
        node.told_all = changes.all;
        Some(from_nucleus::What::Changes(changes).into())
    }
}

/// As many changes as a message holds, and the place behind them.
fn changes_after(list: &List, mut place: Place) -> (Changes, Place) {
    let mut changes = Changes {
        incarnation: list.incarnation().to_vec(),
        all: true,
        ..Changes::default()
    };
    let (mut used, mut count) = (0, 0);
    for (behind, _, entry) in list.after(place) {
        let octets = &entry.octets;
        if count == RECORDS_MAX || !Changes::fits(used, octets.len()) {
            changes.all = false;
            break;
        }
        // As `Changes::fits` counts.
        used += octets.len() + 8;
        count += 1;
        place = behind;
        match entry.record {
            Record::Member(_) => changes.registrations.push(octets.clone()),
            Record::Binding(_) => changes.bindings.push(octets.clone()),
            Record::Revocation(_) => changes.revocations.push(octets.clone()),
            Record::Live => {}
        }
    }
    if changes.all {
        place = place.at_least(list.revision());
    }
    changes.revision = List::told_at(place).0;
    (changes, place)
}
