//! Any octets as a control record.

use omni_wire::record::Record;

/// Runs the target.
pub fn run(octets: &[u8]) {
    let entries = match Record::parse(octets) {
        Some(Record::Announce(entries)) => entries.count(),
        Some(Record::Withdraw(entries)) => entries.count(),
        Some(Record::Claim(entries)) => entries.count(),
        Some(Record::Release(entries)) => entries.count(),
        Some(Record::Groups { changes, .. }) => changes.count(),
        _ => 0,
    };
    assert!(entries <= octets.len());
}
