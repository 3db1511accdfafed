use proptest::prelude::*;

use super::*;

const OWNER: PublicKey = PublicKey([7; 32]);

fn key(n: u32) -> PublicKey {
    let mut key = [9; 32];
    key[..4].copy_from_slice(&n.to_be_bytes());
    PublicKey(key)
}

const fn stamp(n: u8) -> Tai64n {
    Tai64n([0x40, 0, 0, 0, 0x68, n, 0, 0, 0, 0, 0, 0])
}

fn example() -> Remembered {
    let both = Stamps {
        theirs: Some(stamp(1)),
        ours: Some(stamp(2)),
        beyond: None,
    };
    let one = Stamps { ours: None, ..both };
    let all = Stamps {
        beyond: Some(stamp(4)),
        ..both
    };
    Remembered {
        owner: OWNER,
        clock: Some(stamp(3)),
        peers: [(key(1), both), (key(2), one), (key(3), all)].into(),
    }
}

const TEXT: &str = "\
omni-timestamps 1 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=
clock 400000006803000000000000
AAAAAQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk= 400000006801000000000000 400000006802000000000000
AAAAAgkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk= 400000006801000000000000 -
AAAAAwkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk= 400000006801000000000000 400000006802000000000000 \
400000006804000000000000
";

#[test]
fn the_format_is_this() {
    assert_eq!(example().to_string(), TEXT);
    assert_eq!(Remembered::parse(TEXT.as_bytes()), Ok(example()));
    let nothing = Remembered::new(OWNER);
    assert_eq!(
        Remembered::parse(nothing.to_string().as_bytes()),
        Ok(nothing)
    );
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let lines: Vec<&str> = TEXT.split_inclusive('\n').collect();
    let [header, clock, first, second, third] = lines[..] else {
        panic!("five lines")
    };
    let assert_wrong = |text: &str, line, what: &str| {
        let error = Remembered::parse(text.as_bytes()).expect_err(what);
        assert_eq!(error.to_string(), format!("line {line}: {what}"));
    };
    assert_wrong("", 1, "the file is empty");
    assert_wrong("omni-timestamps 1", 1, "the line has no end");
    let version = header.replace(" 1 ", " 2 ");
    let what = "not a file of timestamps, or of another version";
    assert_wrong(&version, 1, what);
    assert_wrong("omni-timestamps 1 BwcH\n", 1, "not a public key in base64");
    assert_wrong(header, 2, "no clock follows");
    assert_wrong(&format!("{header}{first}"), 2, "the clock is missing");
    let what = "not a timestamp of 24 hex digits";
    assert_wrong(&format!("{header}clock 40\n"), 2, what);
    let upper = TEXT.replace("400000006803", "40000000680A");
    assert_wrong(&upper, 2, what);
    assert_wrong(&TEXT.replace(" -\n", "\n"), 4, "a field is missing");
    let what = "the third timestamp is not greater than the second";
    assert_wrong(&TEXT.replace(" -\n", " - -\n"), 4, what);
    let equal = third.replace("400000006804", "400000006802");
    assert_wrong(&format!("{header}{clock}{equal}"), 3, what);
    let what = "there is more than a key and three timestamps";
    let more = third.replace('\n', " -\n");
    assert_wrong(&format!("{header}{clock}{more}"), 3, what);
    let what = "not a timestamp of 24 hex digits";
    let spaces = TEXT.replace("01000000000000 -", "01000000000000 - ");
    assert_wrong(&spaces, 4, what);
    let silent = second.replace("400000006801000000000000", "-");
    assert_wrong(
        &format!("{header}{clock}{silent}"),
        3,
        "the entry says nothing",
    );
    let what = "peers are not in order";
    assert_wrong(&format!("{header}{clock}{second}{first}"), 4, what);
    assert_wrong(&format!("{header}{clock}{first}{first}"), 4, what);
    assert_wrong(TEXT.trim_end(), 5, "the line has no end");
    assert_wrong(&TEXT.replace("\n", "\r\n"), 1, "not a public key in base64");
    let mut octets = TEXT.as_bytes().to_vec();
    octets.push(0xff);
    let error = Remembered::parse(&octets).expect_err("not UTF-8");
    assert_eq!(error.to_string(), "line 6: not text");
}

#[test]
fn the_length_is_bounded() {
    let error = Remembered::parse(&vec![b'x'; Remembered::MAX_LEN + 1]).expect_err("too long");
    assert_eq!(error.what, "the file is too long");
    let full = Stamps {
        theirs: Some(stamp(1)),
        ours: Some(stamp(1)),
        beyond: Some(stamp(2)),
    };
    let peers = (0..).map(|n| (key(n), full));
    let mut most = Remembered {
        peers: peers.take(MAX_ENTRIES).collect(),
        ..example()
    };
    let text = most.to_string();
    assert!(text.len() <= Remembered::MAX_LEN);
    assert_eq!(Remembered::parse(text.as_bytes()), Ok(most.clone()));
    most.peers.insert(PublicKey([0xff; 32]), full);
    assert!(Remembered::parse(most.to_string().as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_octets_give_a_memory_or_an_error(octets: Vec<u8>) {
        let _ = Remembered::parse(&octets);
    }

    #[test]
    fn any_change_of_a_text_gives_a_memory_or_an_error(
        at in 0..TEXT.len(), octet: u8, cut in 0..TEXT.len(),
    ) {
        let mut octets = TEXT.as_bytes().to_vec();
        octets[at] = octet;
        if let Ok(memory) = Remembered::parse(&octets) {
            prop_assert_eq!(memory.to_string().into_bytes(), octets.clone(), "one text each");
        }
        prop_assert!(Remembered::parse(&octets[..cut]).is_ok_and(|m| m.peers.len() < 3)
            || Remembered::parse(&octets[..cut]).is_err());
    }
}

#[test]
fn only_changes_are_to_be_written() {
    let mut memory = Memory::new(OWNER, Some(example()));
    assert_eq!(memory.take(|_| true), None);
    memory.accepted_theirs(key(5), stamp(9), WallTime(u64::MAX));
    let taken = memory.take(|_| true).expect("a change");
    assert_eq!(taken.peers[&key(5)].theirs, Some(stamp(9)));
    assert_eq!(taken.peers.len(), 4);
    assert_eq!(memory.take(|_| true), None);
}

#[test]
fn what_may_yet_be_accepted_is_kept_while_it_is_greater_than_the_last() {
    let mut memory = Memory::new(OWNER, None);
    let known = |memory: &mut Memory| {
        let taken = memory.take(|_| true)?;
        let stamps = taken.peers[&key(1)];
        Some((stamps.ours, stamps.beyond))
    };
    memory.gave(key(1), stamp(2), Some(stamp(9)));
    assert_eq!(known(&mut memory), Some((Some(stamp(2)), Some(stamp(9)))));
    memory.gave(key(1), stamp(2), Some(stamp(9)));
    assert_eq!(known(&mut memory), None, "nothing changed");
    memory.accepted_ours(key(1), stamp(3), Some(stamp(9)), WallTime(0));
    assert_eq!(known(&mut memory), Some((Some(stamp(3)), Some(stamp(9)))));
    memory.accepted_ours(key(1), stamp(10), Some(stamp(9)), WallTime(0));
    assert_eq!(known(&mut memory), Some((Some(stamp(10)), None)));
}

#[test]
fn another_identity_takes_over_nothing_but_the_time() {
    let mut memory = Memory::new(PublicKey([8; 32]), Some(example()));
    assert_eq!(memory.clock(), Some(stamp(3)));
    assert_eq!(memory.stamps(&key(1)), Stamps::default());
    let taken = memory.take(|_| true).expect("a change");
    assert_eq!((taken.owner, taken.peers.len()), (PublicKey([8; 32]), 0));
}

#[test]
fn peers_that_are_not_configured_are_kept_up_to_4096_newest_first() {
    let mut memory = Memory::new(OWNER, None);
    let far = WallTime(u64::MAX);
    for n in 0..5000_u32 {
        let mut stamp = stamp(1);
        stamp.0[8..].copy_from_slice(&n.to_be_bytes());
        memory.accepted_theirs(key(n), stamp, far);
    }
    let is_configured = |known: &PublicKey| (0..500).any(|n| *known == key(n));
    let taken = memory.take(is_configured).expect("a change");
    assert_eq!(taken.peers.len(), 500 + MAX_STRANGERS);
    assert!(
        (0..500).all(|n| taken.peers.contains_key(&key(n))),
        "configured"
    );
    assert!(
        (500..904).all(|n| !taken.peers.contains_key(&key(n))),
        "the oldest"
    );
    assert!((904..5000).all(|n| taken.peers.contains_key(&key(n))));
}

#[test]
fn no_clock_makes_us_believe_in_a_time_by_itself() {
    let mut memory = Memory::new(OWNER, None);
    let clock = |n| stamp(n).to_wall();
    memory.accepted_theirs(key(1), stamp(50), clock(10));
    assert_eq!(memory.clock(), Some(stamp(10)), "the peer is far ahead");
    memory.accepted_ours(key(1), stamp(12), None, clock(60));
    assert_eq!(memory.clock(), Some(stamp(12)), "we are far ahead");
    memory.accepted_theirs(key(2), stamp(3), clock(60));
    assert_eq!(memory.clock(), Some(stamp(12)), "it does not go back");
}
