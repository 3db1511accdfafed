//! What a node remembers over a restart, so that no initiation is accepted twice and none of ours
//! is refused, whatever the clocks do meanwhile.
//!
//! ```text
//! omni-timestamps 1 <our public key>
//! clock <timestamp or ->
//! <a peer's public key> <its greatest timestamp or -> <the last of ours it may have accepted or ->
//! ...
//! ```
//!
//! A third timestamp follows where one of ours is greater than the last and may yet be accepted.
//! Keys are base64 (RFC 4648 s.4), timestamps are the 24 hex digits of a TAI64N label. Peers are
//! in the order of their keys' octets. Nothing in it is secret. Without the file a recorded
//! initiation may be answered once more, and with it lost on both sides nothing worse happens.

use core::fmt;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_wire::WallTime;
use omni_wire::handshake::Tai64n;

use omni_membership::PublicKey;

/// What the first line begins with: what the file is, and the version of its format.
const HEADER: &str = "omni-timestamps 1";

/// What the second line begins with.
const CLOCK: &str = "clock";

/// Stands for a timestamp that there is none of.
const NONE: &str = "-";

/// The most peers that are remembered though they are not configured.
const MAX_STRANGERS: usize = 4096;

/// The most peers in all: as many as can be configured, and those that are not.
const MAX_ENTRIES: usize = (1 << 16) + MAX_STRANGERS;

/// Length of a public key in base64.
const KEY_TEXT: usize = 44;

/// The most timestamps of a peer.
const MAX_STAMPS: usize = 3;

/// Length of a timestamp in hex.
const STAMP_TEXT: usize = 24;

/// The timestamps that went to and fro between us and one peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stamps {
    /// The greatest of its initiations that we accepted: nothing as old is accepted again.
    pub theirs: Option<Tai64n>,
    /// The last of ours that it accepted, or may have: what we send next has to be newer.
    pub ours: Option<Tai64n>,
    /// The greatest of ours, where that is greater. It was lost or is held back on its way: once
    /// it is accepted, what we send has to be newer than that.
    pub beyond: Option<Tai64n>,
}

impl Stamps {
    fn newest(&self) -> Option<Tai64n> {
        self.theirs.max(self.ours)
    }
}

/// What is written to disk when it changed, and read at the next start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    /// Whose memory it is. What peers accepted from one key says nothing about another.
    pub owner: PublicKey,
    /// A time that has passed: our own clock and a peer agreed on it.
    pub clock: Option<Tai64n>,
    /// By peer, configured or not.
    pub peers: BTreeMap<PublicKey, Stamps>,
}

/// Why a text is not a memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct RememberedError {
    /// Where, from 1 on.
    pub line: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl Remembered {
    /// The most octets that [`Remembered::parse`] takes: no more need be read of a file.
    pub const MAX_LEN: usize = (MAX_ENTRIES + 2) * (KEY_TEXT + MAX_STAMPS * (STAMP_TEXT + 1) + 1);

    /// A memory of nothing.
    #[must_use]
    pub const fn new(owner: PublicKey) -> Self {
        Self {
            owner,
            clock: None,
            peers: BTreeMap::new(),
        }
    }

    /// Reads what [`fmt::Display`] wrote. Anything else is refused as a whole.
    ///
    /// # Errors
    /// The first line that is not as it must be.
    pub fn parse(octets: &[u8]) -> Result<Self, RememberedError> {
        let wrong = |line, what| RememberedError { line, what };
        if octets.len() > Self::MAX_LEN {
            return Err(wrong(1, "the file is too long"));
        }
        let text = core::str::from_utf8(octets).map_err(|error| {
            let before = octets.iter().take(error.valid_up_to());
            wrong(
                1 + before.filter(|&&octet| octet == b'\n').count(),
                "not text",
            )
        })?;
        let mut lines = text.split_inclusive('\n').zip(1..).map(|(text, line)| {
            let whole = text.strip_suffix('\n').ok_or("the line has no end");
            (whole, line)
        });
        let mut next = |missing| lines.next().unwrap_or((Err(missing), 1));

        let (header, line) = next("the file is empty");
        let owner = header.and_then(parse_header);
        let mut memory = Self::new(owner.map_err(|what| wrong(line, what))?);
        let (clock, line) = match next("no clock follows") {
            (Err(what), 1) => (Err(what), 2),
            found => found,
        };
        memory.clock = clock
            .and_then(parse_clock)
            .map_err(|what| wrong(line, what))?;
        for (entry, line) in lines {
            let (key, stamps) = entry
                .and_then(parse_entry)
                .map_err(|what| wrong(line, what))?;
            memory
                .append(key, stamps)
                .map_err(|what| wrong(line, what))?;
        }
        Ok(memory)
    }

    fn append(&mut self, key: PublicKey, stamps: Stamps) -> Result<(), &'static str> {
        if self.peers.len() >= MAX_ENTRIES {
            return Err("too many peers");
        }
        let last = self.peers.last_key_value();
        if last.is_some_and(|(&last, _)| last >= key) {
            return Err("peers are not in order");
        }
        self.peers.insert(key, stamps);
        Ok(())
    }
}

impl fmt::Display for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER} {}", self.owner)?;
        writeln!(f, "{CLOCK} {}", Stamp(self.clock))?;
        self.peers.iter().try_for_each(|(key, stamps)| {
            write!(f, "{key} {} {}", Stamp(stamps.theirs), Stamp(stamps.ours))?;
            match stamps.beyond {
                Some(_) => writeln!(f, " {}", Stamp(stamps.beyond)),
                None => writeln!(f),
            }
        })
    }
}

/// A timestamp as it is written.
struct Stamp(Option<Tai64n>);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str(NONE),
            Some(stamp) => stamp
                .0
                .iter()
                .try_for_each(|octet| write!(f, "{octet:02x}")),
        }
    }
}

fn parse_header(line: &str) -> Result<PublicKey, &'static str> {
    let rest = line
        .strip_prefix(HEADER)
        .and_then(|rest| rest.strip_prefix(' '));
    parse_key(rest.ok_or("not a file of timestamps, or of another version")?)
}

fn parse_clock(line: &str) -> Result<Option<Tai64n>, &'static str> {
    let rest = line
        .strip_prefix(CLOCK)
        .and_then(|rest| rest.strip_prefix(' '));
    parse_stamp(rest.ok_or("the clock is missing")?)
}

fn parse_entry(line: &str) -> Result<(PublicKey, Stamps), &'static str> {
    let mut fields = line.split(' ');
    let mut field = || fields.next().ok_or("a field is missing");
    let key = parse_key(field()?)?;
    let mut stamps = Stamps {
        theirs: parse_stamp(field()?)?,
        ours: parse_stamp(field()?)?,
        beyond: None,
    };
    if stamps.newest().is_none() {
        return Err("the entry says nothing");
    }
    if let Some(beyond) = fields.next() {
        stamps.beyond = parse_stamp(beyond)?;
        if stamps.beyond <= stamps.ours {
            return Err("the third timestamp is not greater than the second");
        }
    }
    if fields.next().is_some() {
        return Err("there is more than a key and three timestamps");
    }
    Ok((key, stamps))
}

fn parse_key(text: &str) -> Result<PublicKey, &'static str> {
    let mut key = [0; 32];
    match STANDARD.decode_slice(text, &mut key) {
        Ok(32) => Ok(PublicKey(key)),
        _ => Err("not a public key in base64"),
    }
}

fn parse_stamp(text: &str) -> Result<Option<Tai64n>, &'static str> {
    const WRONG: &str = "not a timestamp of 24 hex digits";
    if text == NONE {
        return Ok(None);
    }
    let digits: &[u8; STAMP_TEXT] = text.as_bytes().try_into().map_err(|_| WRONG)?;
    let mut octets = [0; STAMP_TEXT / 2];
    let (pairs, _) = digits.as_chunks::<2>();
    for (octet, &[high, low]) in octets.iter_mut().zip(pairs) {
        *octet = hex_digit(high).ok_or(WRONG)? << 4 | hex_digit(low).ok_or(WRONG)?;
    }
    Ok(Some(Tai64n(octets)))
}

/// Lower case alone, so that a value has one text.
const fn hex_digit(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// The memory of a running node, and whether it changed since it was last taken.
pub(crate) struct Memory {
    now: Remembered,
    changed: bool,
}

impl Memory {
    /// Goes on with what was remembered. Another identity's memory is good for the time alone.
    pub(crate) fn new(owner: PublicKey, remembered: Option<Remembered>) -> Self {
        let mut now = remembered.unwrap_or_else(|| Remembered::new(owner));
        let changed = now.owner != owner;
        if changed {
            now.owner = owner;
            now.peers.clear();
        }
        Self { now, changed }
    }

    /// A time that has passed.
    pub(crate) const fn clock(&self) -> Option<Tai64n> {
        self.now.clock
    }

    /// What went to and fro between us and the peer with this key.
    pub(crate) fn stamps(&self, key: &PublicKey) -> Stamps {
        self.now.peers.get(key).copied().unwrap_or_default()
    }

    /// We accepted the peer's `stamp` when our own clock showed `clock`.
    pub(crate) fn accepted_theirs(&mut self, key: PublicKey, stamp: Tai64n, clock: WallTime) {
        self.now.peers.entry(key).or_default().theirs = Some(stamp);
        self.bear_out(stamp, clock);
    }

    /// What we gave the peer by now is up to `ours` and `beyond`, and we may never hear whether it
    /// accepted it.
    pub(crate) fn gave(&mut self, key: PublicKey, ours: Tai64n, beyond: Option<Tai64n>) {
        let known = self.now.peers.entry(key).or_default();
        let before = *known;
        known.ours = known.ours.max(Some(ours));
        known.beyond = beyond.filter(|_| beyond > known.ours);
        self.changed |= *known != before;
    }

    /// The peer accepted our `stamp`, and not `beyond` as far as is known, when our own clock
    /// showed `clock`.
    pub(crate) fn accepted_ours(
        &mut self,
        key: PublicKey,
        stamp: Tai64n,
        beyond: Option<Tai64n>,
        clock: WallTime,
    ) {
        let known = self.now.peers.entry(key).or_default();
        known.ours = Some(stamp);
        known.beyond = beyond.filter(|&beyond| beyond > stamp);
        self.bear_out(stamp, clock);
    }

    /// Two clocks agreed that the earlier one of both times has passed. So neither a peer with a
    /// clock far ahead nor our own while it is far ahead makes us believe in that time for ever.
    fn bear_out(&mut self, stamp: Tai64n, clock: WallTime) {
        let both = stamp.min(Tai64n::from_wall(clock));
        self.now.clock = self.now.clock.max(Some(both));
        self.changed = true;
    }

    /// We are someone else from now on: no message to or from who we were counts any more.
    pub(crate) fn change_owner(&mut self, owner: PublicKey) {
        self.now.owner = owner;
        self.now.peers.clear();
        self.changed = true;
    }

    /// A copy, when anything changed since the last call. Of the peers that are not configured,
    /// the ones with the newest timestamps are kept.
    pub(crate) fn take(
        &mut self,
        is_configured: impl Fn(&PublicKey) -> bool,
    ) -> Option<Remembered> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let peers = &mut self.now.peers;
        let strangers = peers.iter().filter(|(key, _)| !is_configured(key));
        let mut by_age: Vec<_> = strangers
            .map(|(&key, stamps)| (stamps.newest(), key))
            .collect();
        let surplus = by_age.len().saturating_sub(MAX_STRANGERS);
        by_age.sort_unstable();
        for (_, key) in &by_age[..surplus] {
            peers.remove(key);
        }
        Some(self.now.clone())
    }
}

#[cfg(test)]
mod tests;
