//! A Nucleus without sockets: its core, and its store in a file.

use std::path::Path;
use std::time::{Duration, Instant};

use omni_control::PublicKey;
use omni_engine::clock;
use omni_engine::random::SystemRandom;
use omni_membership::Trust;
use omni_nucleus::protocol::{FromNucleus, Hello, VERSION, from_node, from_nucleus};
use omni_nucleus::server::core::{Conn, Core, CoreConfig, Limits, ToStore};
use omni_store::{Event, RedbStore, Store as _, Watch};

use super::super::fabric::{Fabric, Member};
use crate::Failure;

/// The server.
pub(super) struct Stand {
    core: Core,
    store: RedbStore,
    watch: Option<Watch>,
    next: u64,
    /// In the store's commits.
    pub(super) stored_for: Duration,
}

impl Stand {
    /// Opens the store, and reads it.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub(super) fn open(fabric: &Fabric, file: &Path) -> Result<Self, Failure> {
        let config = CoreConfig {
            trust: Trust {
                fabric: fabric.name.clone(),
                authority: Some(fabric.authority()),
                members: Default::default(),
            },
            server: PublicKey([1; 32]),
            limits: Limits {
                connections: usize::MAX,
                ..Limits::default()
            },
            shares_store: false,
        };
        let mut stand = Self {
            core: Core::new(config, Box::new(SystemRandom)),
            store: RedbStore::open(file)?,
            watch: None,
            next: 0,
            stored_for: Duration::ZERO,
        };
        stand.turn()?;
        Ok(stand)
    }

    /// A member connects, and says that it knows nothing.
    pub(super) fn connect(&mut self, member: &Member) -> Conn {
        self.next += 1;
        let conn = Conn(self.next);
        let source = (member.source, 1024).into();
        self.core.connect(clock::now(), conn, member.public, source);
        self.say(
            conn,
            from_node::What::Hello(Hello {
                version: VERSION,
                incarnation: Vec::new(),
                revision: 0,
            }),
        );
        conn
    }

    /// A member leaves.
    pub(super) fn disconnect(&mut self, conn: Conn) {
        self.core.disconnect(clock::now(), conn);
    }

    /// A member says something.
    pub(super) fn say(&mut self, conn: Conn, what: from_node::What) {
        // Within all limits.
        self.core.handle_message(clock::now(), conn, what, 0);
    }

    /// The next message to a member.
    pub(super) fn hear(&mut self, conn: Conn) -> Option<FromNucleus> {
        self.core.poll_message(conn)
    }

    /// Takes so many answers.
    ///
    /// # Errors
    /// When something was refused, or there are less.
    pub(super) fn answers(&mut self, conn: Conn, count: usize) -> Result<(), Failure> {
        let mut answers = 0;
        while answers < count {
            let message = self.hear(conn).ok_or("a request was not answered")?;
            match message.what {
                Some(from_nucleus::What::Result(result)) if result.why.is_empty() => answers += 1,
                Some(from_nucleus::What::Result(result)) => return Err(result.why.into()),
                Some(from_nucleus::What::Changes(_)) => {
                    return Err("a request was not answered".into());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Does all that the core wants of the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn turn(&mut self) -> Result<(), Failure> {
        while let Some(asked) = self.core.poll_store(clock::now()) {
            match asked {
                ToStore::Load => {
                    let snapshot = self.store.snapshot()?;
                    self.watch = Some(self.store.watch(snapshot.revision)?);
                    self.core.load(clock::now(), snapshot)?;
                }
                ToStore::Commit(transaction) => {
                    let begun = Instant::now();
                    let outcome = self.store.commit(&transaction);
                    self.stored_for += begun.elapsed();
                    self.follow();
                    self.core.handle_committed(clock::now(), outcome);
                }
            }
        }
        Ok(())
    }

    /// Tells the core what a commit changed, as a whole.
    fn follow(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        let mut last = None;
        while let Some(event) = watch.next(Duration::ZERO) {
            last = match &event {
                Event::Put(item) => Some(item.modified),
                Event::Deleted { revision, .. } => Some(*revision),
                _ => last,
            };
            self.core.handle_event(clock::now(), event);
        }
        if let Some(revision) = last {
            self.core
                .handle_event(clock::now(), Event::Progress(revision));
        }
    }
}
