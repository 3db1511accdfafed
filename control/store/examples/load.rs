//! What a store costs that holds a large fabric: 10,000 members and 40,000 bindings.
//!
//! ```text
//! cargo run --release -p omni-store --example load -- redb /var/tmp/store
//! cargo run --release -p omni-store --example load -- etcd http://127.0.0.1:2379
//! ```
//!
//! The file must not exist, and the fabric `load` in etcd has to be empty. `members 100` behind
//! the place makes it a smaller one.

use std::error::Error;
use std::fs;
use std::time::{Duration, Instant};

use omni_store::{Change, Event, MAX_CHANGES, RedbStore, Store, Transaction};

/// Octets of a member's record: a signed registration and a certificate.
const MEMBER: usize = 600;

/// Octets of a binding's record: its fields and a signature.
const BINDING: usize = 160;

/// Commits of one item that are timed.
const SINGLE: usize = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kind, place, members) = match *arguments {
        [kind, place] => (kind, place, 10_000),
        [kind, place, "members", count] => (kind, place, count.parse()?),
        _ => return Err("usage: load (redb FILE | etcd URL[,URL]) [members COUNT]".into()),
    };
    match kind {
        "redb" => {
            measure(&mut RedbStore::open(place)?, members)?;
            let size = fs::metadata(place)?.len() / 1024;
            println!("file                {size} KiB");
            let start = Instant::now();
            let mut store = RedbStore::open(place)?;
            println!("opened, verified    {:?}", start.elapsed());
            let start = Instant::now();
            let copy = format!("{place}.backup");
            store.backup(copy.as_ref())?;
            println!("backup              {:?}", start.elapsed());
        }
        #[cfg(feature = "etcd")]
        "etcd" => {
            let urls = place.split(',').map(str::to_owned).collect();
            let config = omni_store::EtcdConfig::new(urls, "load");
            measure(&mut omni_store::EtcdStore::open(config)?, members)?;
        }
        _ => return Err("no such store".into()),
    }
    Ok(())
}

/// Every item, as they come when a fabric begins.
fn items(members: usize) -> impl Iterator<Item = Change> {
    let put = |key: String, len: usize, number: usize| Change::Put {
        key: key.into_bytes(),
        value: vec![number as u8; len],
        ephemeral: false,
    };
    let member = move |number| put(format!("member/{number:064x}"), MEMBER, number);
    let binding = move |number: usize| {
        let [a, b] = (number as u16).to_be_bytes();
        let key = format!("bind/{}/10.{}.{a}.{b}", number % 4000, number >> 16);
        put(key, BINDING, number)
    };
    (0..members)
        .map(member)
        .chain((0..4 * members).map(binding))
}

fn measure(store: &mut impl Store, members: usize) -> Result<(), Box<dyn Error>> {
    let empty = store.snapshot()?;
    if !empty.items.is_empty() {
        return Err("there is something in it already".into());
    }
    let mut watch = store.watch(empty.revision)?;
    println!("memory before       {} KiB", resident()?);
    let start = Instant::now();
    let mut all = items(members).peekable();
    let mut commits = 0;
    while all.peek().is_some() {
        let changes = all.by_ref().take(MAX_CHANGES).collect();
        store.commit(&Transaction {
            compares: Vec::new(),
            changes,
        })?;
        commits += 1;
    }
    let took = start.elapsed();
    println!("filled              {took:?}, {commits} commits of {MAX_CHANGES}");

    let start = Instant::now();
    for change in items(members.max(SINGLE)).take(SINGLE) {
        store.commit(&Transaction {
            compares: Vec::new(),
            changes: vec![change],
        })?;
    }
    let rate = SINGLE as f64 / start.elapsed().as_secs_f64();
    println!("commits of one      {rate:.0}/s");
    let count = commits_told(&mut watch, 5 * members + SINGLE);
    println!("watched             {count} events");

    let before = resident()?;
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let snapshot = store.snapshot()?;
        took.push(start.elapsed());
        if snapshot.items.len() != 5 * members {
            return Err(format!("{} items", snapshot.items.len()).into());
        }
        if took.len() == 1 {
            let more = resident()?.saturating_sub(before);
            println!("snapshot, memory    {more} KiB more while it is held");
        }
    }
    took.sort_unstable();
    println!("snapshot            {:?} (median of 5)", took[2]);
    println!("memory, peak        {} KiB", status("VmHWM:")?);
    Ok(())
}

/// Takes events until there were so many, or none for a while.
fn commits_told(watch: &mut omni_store::Watch, expected: usize) -> usize {
    let mut count = 0;
    while count < expected {
        match watch.next(Duration::from_secs(5)) {
            Some(Event::Put(_)) => count += 1,
            Some(Event::Progress(_)) => {}
            Some(event) => {
                println!("{event:?}");
                break;
            }
            None => break,
        }
    }
    count
}

/// Memory of this process, in KiB.
fn resident() -> Result<usize, Box<dyn Error>> {
    status("VmRSS:")
}

fn status(field: &str) -> Result<usize, Box<dyn Error>> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    Ok(kib.ok_or("the kernel does not say")?.parse()?)
}
