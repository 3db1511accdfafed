//! One measurement: a process that does one thing, and says what that took.
//!
//! ```text
//!   fill      members, addresses --Core--> store.redb
//!   nucleus   store.redb --Core--> memory, and all messages to one node --> list
//!   agent     list --Agent--> memory, cache
//! ```

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use omni_engine::clock;
use omni_nucleus::agent::Agent;
use omni_nucleus::protocol::{Bind, FromNucleus, Register, from_node, from_nucleus};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::super::fabric::{Fabric, ip, milliseconds};
use super::memory;
use super::stand::Stand;
use crate::Failure;

/// Registrations that are timed. Less than the burst that a node may have.
const TIMED: u32 = 9;
/// Members whose requests are put before the store together.
const TOGETHER: u32 = 16;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum What {
    /// Members register, and bind addresses.
    Fill,
    /// A Nucleus that starts with them.
    Nucleus,
    /// A node that learns of them.
    Agent,
}

impl What {
    /// Its name on the command line.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Nucleus => "nucleus",
            Self::Agent => "agent",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[arg(value_enum)]
    what: What,
    #[arg(long)]
    members: u32,
    #[arg(long)]
    bindings: u32,
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
}

/// What a fill took.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Fill {
    /// Octets of the store's file.
    pub(super) file: u64,
    /// One more registration, from the message to the answer, in milliseconds: the median.
    pub(super) registration_ms: f64,
    /// Of that, in the store.
    pub(super) stored_ms: f64,
}

/// What a Nucleus took.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Nucleus {
    /// To open the store and read it, in milliseconds.
    pub(super) load_ms: f64,
    /// Resident memory for it, in octets.
    pub(super) resident: u64,
    /// The most on the way there.
    pub(super) peak: u64,
    /// Resident memory beyond that with all members connected, without their sockets.
    pub(super) connected: u64,
    /// Octets of all messages to a node that knows nothing.
    pub(super) list: u64,
}

/// What a node took.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Node {
    /// To take all in, verified, in milliseconds.
    pub(super) taken_ms: f64,
    /// Resident memory for it, in octets.
    pub(super) resident: u64,
    /// Octets of the cache.
    pub(super) cache: u64,
}

/// Measures, and prints JSON for the process that asked.
///
/// # Errors
/// When nothing can be measured.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let fabric = Fabric::fixed()?;
    let json = match arguments.what {
        What::Fill => serde_json::to_string(&fill(&fabric, arguments)?)?,
        What::Nucleus => serde_json::to_string(&nucleus(&fabric, arguments)?)?,
        What::Agent => serde_json::to_string(&agent(&fabric, arguments)?)?,
    };
    println!("{json}");
    Ok(())
}

fn fill(fabric: &Fabric, arguments: &Arguments) -> Result<Fill, Failure> {
    let file = store(&arguments.folder);
    let mut stand = Stand::open(fabric, &file)?;
    let &Arguments {
        members, bindings, ..
    } = arguments;
    for first in (0..members).step_by(TOGETHER as usize) {
        let some = first..members.min(first + TOGETHER);
        let some: Result<Vec<_>, _> = some.map(|number| fabric.member(number)).collect();
        let some = some?;
        let conns: Vec<_> = some.iter().map(|member| stand.connect(member)).collect();
        for (member, &conn) in some.iter().zip(&conns) {
            let registration = member.registration(milliseconds())?;
            let number = 0;
            stand.say(
                conn,
                from_node::What::Register(Register {
                    number,
                    registration,
                }),
            );
        }
        stand.turn()?;
        for ((number, member), &conn) in (first..).zip(&some).zip(&conns) {
            for address in 0..bindings {
                let ip = ip(number * bindings + address);
                let binding = member.binding(ip, milliseconds(), false)?;
                stand.say(conn, from_node::What::Bind(Bind { number: 0, binding }));
            }
        }
        stand.turn()?;
        for &conn in &conns {
            stand.answers(conn, 1 + bindings as usize)?;
            stand.disconnect(conn);
        }
        stand.turn()?;
    }
    let (registration_ms, stored_ms) = one_registration(fabric, &mut stand, members)?;
    drop(stand);
    Ok(Fill {
        file: fs::metadata(&file)?.len(),
        registration_ms,
        stored_ms,
    })
}

/// The median of a few registrations of one more member, and of the store's part in them.
fn one_registration(
    fabric: &Fabric,
    stand: &mut Stand,
    number: u32,
) -> Result<(f64, f64), Failure> {
    let member = fabric.member(number)?;
    let conn = stand.connect(&member);
    stand.turn()?;
    let (mut times, mut stored) = (Vec::new(), Vec::new());
    for again in 0..u64::from(TIMED) {
        let registration = member.registration(milliseconds() + again)?;
        stand.stored_for = Duration::ZERO;
        let begun = Instant::now();
        stand.say(
            conn,
            from_node::What::Register(Register {
                number: 0,
                registration,
            }),
        );
        stand.turn()?;
        stand.answers(conn, 1)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        stored.push(stand.stored_for.as_secs_f64() * 1e3);
    }
    stand.disconnect(conn);
    stand.turn()?;
    let median = |times| crate::rounds::summary(times).median;
    Ok((median(times), median(stored)))
}

fn nucleus(fabric: &Fabric, arguments: &Arguments) -> Result<Nucleus, Failure> {
    let before = memory::resident()?;
    let begun = Instant::now();
    let mut stand = Stand::open(fabric, &store(&arguments.folder))?;
    let load_ms = begun.elapsed().as_secs_f64() * 1e3;
    let (loaded, peak) = (memory::resident()?, memory::peak()?);
    for number in 0..arguments.members {
        stand.connect(&fabric.member(number)?);
    }
    let connected = memory::resident()?;
    // One more, who is told everything.
    let listener = stand.connect(&fabric.member(0)?);
    let mut list = BufWriter::new(File::create(list(&arguments.folder))?);
    let mut octets = 0;
    while let Some(message) = stand.hear(listener) {
        let encoded = message.encode_to_vec();
        list.write_all(&u32::try_from(encoded.len())?.to_be_bytes())?;
        list.write_all(&encoded)?;
        octets += encoded.len() as u64;
        if matches!(message.what, Some(from_nucleus::What::Changes(changes)) if changes.all) {
            break;
        }
    }
    list.flush()?;
    Ok(Nucleus {
        load_ms,
        resident: loaded.saturating_sub(before),
        peak: peak.saturating_sub(before),
        connected: connected.saturating_sub(loaded),
        list: octets,
    })
}

fn agent(fabric: &Fabric, arguments: &Arguments) -> Result<Node, Failure> {
    let mut list = BufReader::new(File::open(list(&arguments.folder))?);
    // One that is not on the list.
    let mut agent = Agent::new(fabric.member(arguments.members + 1)?.agent())?;
    agent.connected(clock::now(), 0);
    let before = memory::resident()?;
    let mut taken = Duration::ZERO;
    let mut len = [0; 4];
    while list.read_exact(&mut len).is_ok() {
        let mut message = vec![0; u32::from_be_bytes(len) as usize];
        list.read_exact(&mut message)?;
        FromNucleus::read(&message)?.ok_or("a message of no known kind")?;
        let begun = Instant::now();
        agent.handle_message(clock::now(), 0, &message);
        while agent.poll_event().is_some() {}
        taken += begun.elapsed();
    }
    let resident = memory::resident()?.saturating_sub(before);
    let (members, bindings) = (
        agent.members().count(),
        agent.bindings(clock::now()).count(),
    );
    // The one whose registrations were timed is among them.
    let expected = arguments.members as usize + 1;
    if (members, bindings) != (expected, (arguments.members * arguments.bindings) as usize) {
        let refused = agent.counters();
        return Err(format!("{members} members, {bindings} addresses taken: {refused:?}").into());
    }
    let cache = agent.take_cache(clock::now()).ok_or("no cache")?.len();
    Ok(Node {
        taken_ms: taken.as_secs_f64() * 1e3,
        resident,
        cache: cache as u64,
    })
}

fn store(folder: &Path) -> PathBuf {
    folder.join("store.redb")
}

fn list(folder: &Path) -> PathBuf {
    folder.join("list")
}
