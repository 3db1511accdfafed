//! A member that speaks the protocol itself, and says what a scenario wants.

use std::net::IpAddr;
use std::time::Duration;

use omni_nucleus::protocol::{
    Bind, FromNode, FromNucleus, Hello, Register, VERSION, from_node, from_nucleus,
};
use prost::Message as _;
use tokio::time::timeout;

use super::acknowledged::{Known, of_binding, of_registration};
use super::fabric::Member;
use super::line::{Call, Line};
use crate::Failure;

/// For a whole list to be read.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// A member that is connected.
pub(super) struct Speaker {
    pub(super) line: Line,
    number: u64,
}

impl Speaker {
    /// Connects, and has a hello to be sent: it knows nothing.
    ///
    /// # Errors
    /// As [`Line::open`].
    pub(super) async fn connect(call: &Call) -> Result<Self, Failure> {
        let mut speaker = Self {
            line: Line::open(call).await?,
            number: 0,
        };
        speaker.say(from_node::What::Hello(Hello {
            version: VERSION,
            incarnation: Vec::new(),
            revision: 0,
        }))?;
        Ok(speaker)
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When it is too long.
    pub(super) fn say(&mut self, what: from_node::What) -> Result<(), Failure> {
        self.line.queue(&FromNode::from(what).encode_to_vec())
    }

    /// Queues a signed registration. The number that its answer has.
    ///
    /// # Errors
    /// When it is too long.
    pub(super) fn register(&mut self, registration: Vec<u8>) -> Result<u64, Failure> {
        self.number += 1;
        let number = self.number;
        self.say(from_node::What::Register(Register {
            number,
            registration,
        }))?;
        Ok(number)
    }

    /// Queues a signed binding. The number that its answer has.
    ///
    /// # Errors
    /// When it is too long.
    pub(super) fn bind(&mut self, binding: Vec<u8>) -> Result<u64, Failure> {
        self.number += 1;
        let number = self.number;
        self.say(from_node::What::Bind(Bind { number, binding }))?;
        Ok(number)
    }

    /// The next message that is known here.
    ///
    /// # Errors
    /// When the connection ends.
    pub(super) async fn hear(&mut self) -> Result<from_nucleus::What, Failure> {
        loop {
            let octets = self.line.hear().await?;
            if let Some(what) = FromNucleus::read(&octets)? {
                return Ok(what);
            }
        }
    }

    /// A message that came already.
    ///
    /// # Errors
    /// When it does not verify or decode.
    pub(super) fn heard(&mut self) -> Result<Option<from_nucleus::What>, Failure> {
        while let Some(octets) = self.line.next()? {
            if let Some(what) = FromNucleus::read(&octets)? {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    /// Registers, and waits for the answer.
    ///
    /// # Errors
    /// When the connection ends, or it is refused.
    pub(super) async fn join(&mut self, member: &Member, sequence: u64) -> Result<(), Failure> {
        let number = self.register(member.registration(sequence)?)?;
        loop {
            match self.hear().await? {
                from_nucleus::What::Result(result) if result.number == number => {
                    return match result.why.as_str() {
                        "" => Ok(()),
                        why => Err(format!("{} cannot register: {why}", member.name).into()),
                    };
                }
                _ => {}
            }
        }
    }
}

/// Everything that a member is told who knows nothing, once its registration of this sequence is
/// in it.
///
/// # Errors
/// When it is not told within 30 s, or is told what does not decode.
pub(super) async fn read_all(
    call: &Call,
    member: &Member,
    sequence: u64,
) -> Result<Known, Failure> {
    let reading = async {
        let mut speaker = Speaker::connect(call).await?;
        // A member of before is told at once, and not only after it is registered again.
        speaker.register(member.registration(sequence)?)?;
        let mut found = Known::new();
        loop {
            let changes = match speaker.hear().await? {
                from_nucleus::What::Changes(changes) => changes,
                from_nucleus::What::Result(result) if !result.why.is_empty() => {
                    return Err(format!("{} cannot register: {}", member.name, result.why).into());
                }
                _ => continue,
            };
            let registrations = changes.registrations.iter();
            let bindings = changes.bindings.iter();
            let told = registrations
                .map(|octets| of_registration(octets))
                .chain(bindings.map(|octets| of_binding(octets)));
            for told in told {
                let (about, said) = told.ok_or("the Nucleus tells what does not decode")?;
                found.insert(about, said);
            }
            let own = found.values().find(|said| said.owner == member.public);
            if changes.all && own.is_some_and(|said| said.sequence >= sequence) {
                return Ok(found);
            }
        }
    };
    let read = timeout(READ_WITHIN, reading).await;
    read.map_err(|_| "the whole list was not told within 30 s")?
}

/// One of the ways to be sure that an address is nobody else's: each member has 256 of its own.
pub(super) fn own_address(member: u32, number: u32) -> IpAddr {
    super::fabric::ip(0x0010_0000 + member * 256 + number % 256)
}
