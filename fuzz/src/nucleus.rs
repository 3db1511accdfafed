//! Any octets as what a node and a Nucleus say, and as reflection.

use omni_nucleus::protocol::{FromNode, FromNucleus, RECORDS_MAX, from_nucleus};
use omni_wire::reflection::{Answer, Probe};
use prost::Message;

/// Runs the target.
pub fn run(octets: &[u8]) {
    if let Ok(Some(what)) = FromNode::read(octets) {
        let again = FromNode::from(what.clone()).encode_to_vec();
        assert_eq!(FromNode::read(&again), Ok(Some(what)));
    }
    if let Ok(Some(what)) = FromNucleus::read(octets) {
        if let from_nucleus::What::Changes(changes) = &what {
            assert!(changes.bindings.len() <= RECORDS_MAX);
        }
        let again = FromNucleus::from(what.clone()).encode_to_vec();
        assert_eq!(FromNucleus::read(&again), Ok(Some(what)));
    }
    if let Some(probe) = Probe::parse(octets) {
        assert_eq!(probe.emit(), octets);
    }
    if let Some(answer) = Answer::parse(octets) {
        assert_eq!(answer.emit(), octets);
    }
}
