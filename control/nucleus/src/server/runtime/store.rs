//! The store's thread: its calls block, and nothing else may wait for them.
//!
//! ```text
//!   hub --ToStore, one at a time--> store thread --Loaded, Committed--> hub
//!                                   watch (thread, for etcd) --Events-->
//! ```
//!
//! A file tells what a commit changed before the commit returns, so its events are taken in the
//! same thread: what follows a commit is all of it. A cluster has a thread for its watch.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use omni_store::{
    EtcdConfig, EtcdStore, Event, Outcome, RedbStore, Revision, Snapshot, Store, StoreError,
    Transaction, Watch,
};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// Events that are handed over at once.
const EVENTS: usize = 1024;

/// Batches of events and answers that wait for the hub. Then the store waits.
const WAITING: usize = 64;

/// How often a watch's thread looks whether it is still wanted.
const LOOK: Duration = Duration::from_secs(1);

/// Which store.
#[derive(Clone, Debug)]
pub enum StoreConfig {
    /// A file of the server's own.
    Redb(PathBuf),
    /// A cluster that servers share.
    Etcd(Box<EtcdConfig>),
}

/// What the thread does.
#[derive(Debug)]
pub(super) enum Command {
    Load,
    Commit(Transaction),
    Backup(PathBuf, oneshot::Sender<Result<(), StoreError>>),
}

/// What it says.
#[derive(Debug)]
pub(super) enum FromStore {
    Loaded(Result<Snapshot, StoreError>),
    /// Of the watch that this was the number of. Those of an earlier watch are void.
    Events(u64, Vec<Event>),
    Committed(Result<Outcome, StoreError>),
}

/// The thread, as others see it. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct StoreThread {
    /// `None` only while it is dropped.
    commands: Option<SyncSender<Command>>,
    thread: Option<JoinHandle<()>>,
    /// The number of the watch that counts.
    pub(super) watch: Arc<AtomicU64>,
}

impl StoreThread {
    /// Opens the store and starts the thread.
    ///
    /// # Errors
    /// What an operator has to mend. A store that is out of reach is tried again.
    pub(super) fn start(
        config: StoreConfig,
    ) -> Result<(Self, mpsc::Receiver<FromStore>), StoreError> {
        let opened = match open(&config) {
            Ok(opened) => Some(opened),
            Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_))) => {
                warn!(%error, "the store is opened later");
                None
            }
            Err(error) => return Err(error),
        };
        // One thing is asked at a time, and a few backups.
        let (commands, received) = sync_channel(WAITING);
        let (says, heard) = mpsc::channel(WAITING);
        let watch = Arc::new(AtomicU64::new(0));
        let mut keeper = Keeper {
            config,
            store: opened,
            watch: None,
            number: Arc::clone(&watch),
            says,
        };
        let thread = thread::Builder::new().name("store".into());
        let thread = thread
            .spawn(move || keeper.run(&received))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let started = Self {
            commands: Some(commands),
            thread: Some(thread),
            watch,
        };
        Ok((started, heard))
    }

    /// Asks for something. `false`: too much is asked already.
    pub(super) fn ask(&self, command: Command) -> bool {
        let commands = self.commands.as_ref();
        commands.is_some_and(|commands| commands.try_send(command).is_ok())
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.commands = None;
        self.watch.fetch_add(1, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the store's thread panicked");
        }
    }
}

/// An open store.
enum Opened {
    Redb(Box<RedbStore>),
    Etcd(Box<EtcdStore>),
}

fn open(config: &StoreConfig) -> Result<Opened, StoreError> {
    Ok(match config {
        StoreConfig::Redb(path) => Opened::Redb(Box::new(RedbStore::open(path)?)),
        StoreConfig::Etcd(config) => {
            Opened::Etcd(Box::new(EtcdStore::open(config.as_ref().clone())?))
        }
    })
}

impl Opened {
    fn store(&mut self) -> &mut dyn Store {
        match self {
            Self::Redb(store) => store.as_mut(),
            Self::Etcd(store) => store.as_mut(),
        }
    }
}

/// What the thread has.
struct Keeper {
    config: StoreConfig,
    store: Option<Opened>,
    /// The watch of a file. A cluster's is in its own thread.
    watch: Option<Watch>,
    number: Arc<AtomicU64>,
    says: mpsc::Sender<FromStore>,
}

impl Keeper {
    fn run(&mut self, commands: &Receiver<Command>) {
        while let Ok(command) = commands.recv() {
            let heard = match command {
                Command::Load => self.load(),
                Command::Commit(transaction) => self.commit(&transaction),
                Command::Backup(path, reply) => {
                    // Who asked may be gone.
                    let _ = reply.send(self.backup(&path));
                    true
                }
            };
            if !heard {
                return;
            }
        }
    }

    fn say(&self, what: FromStore) -> bool {
        self.says.blocking_send(what).is_ok()
    }

    /// Reads the store, and begins to watch it.
    fn load(&mut self) -> bool {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        self.watch = None;
        let loaded = self.read();
        let Ok((snapshot, watch)) = loaded else {
            return self.say(FromStore::Loaded(loaded.map(|(snapshot, _)| snapshot)));
        };
        let items = snapshot.items.len();
        info!(items, revision = snapshot.revision.0, "the store was read");
        if !self.say(FromStore::Loaded(Ok(snapshot))) {
            return false;
        }
        if matches!(self.store, Some(Opened::Redb(_))) {
            self.watch = Some(watch);
            return true;
        }
        let (says, wanted) = (self.says.clone(), Arc::clone(&self.number));
        let pump = move || pump(watch, number, &wanted, &says);
        let pumping = thread::Builder::new()
            .name("store-events".into())
            .spawn(pump);
        pumping.is_ok() || self.say(FromStore::Events(number, vec![lost()]))
    }

    fn read(&mut self) -> Result<(Snapshot, Watch), StoreError> {
        let store = match &mut self.store {
            Some(opened) => opened,
            closed => closed.insert(open(&self.config)?),
        };
        let snapshot = store.store().snapshot()?;
        let watch = store.store().watch(snapshot.revision)?;
        Ok((snapshot, watch))
    }

    fn commit(&mut self, transaction: &Transaction) -> bool {
        let outcome = match &mut self.store {
            Some(opened) => opened.store().commit(transaction),
            None => Err(StoreError::Unavailable("it is not open".into())),
        };
        // What changed is told before the success: decisions then are made on it.
        self.tell() && self.say(FromStore::Committed(outcome))
    }

    /// Hands over what a file's watch holds, which is whole commits.
    fn tell(&mut self) -> bool {
        let Some(watch) = &mut self.watch else {
            return true;
        };
        let mut events: Vec<Event> = Vec::new();
        while let Some(event) = watch.next(Duration::ZERO) {
            let is_end = matches!(event, Event::Lost(_));
            events.push(event);
            if is_end {
                self.watch = None;
                break;
            }
        }
        if let Some(revision) = events.iter().rev().find_map(revision_of) {
            events.push(Event::Progress(revision));
        }
        let number = self.number.load(Ordering::Relaxed);
        events.is_empty() || self.say(FromStore::Events(number, events))
    }

    fn backup(&mut self, path: &std::path::Path) -> Result<(), StoreError> {
        match &mut self.store {
            Some(Opened::Redb(store)) => store.backup(path),
            Some(Opened::Etcd(_)) => Err(StoreError::Invalid(
                "etcd is backed up by its own tool: etcdctl snapshot save FILE",
            )),
            None => Err(StoreError::Unavailable("it is not open".into())),
        }
    }
}

/// Hands over what a watch tells, until it ends or another one takes its place.
fn pump(mut watch: Watch, number: u64, wanted: &AtomicU64, says: &mpsc::Sender<FromStore>) {
    while wanted.load(Ordering::Relaxed) == number {
        let mut events: Vec<Event> = watch.next(LOOK).into_iter().collect();
        while !events.is_empty()
            && events.len() < EVENTS
            && let Some(event) = watch.next(Duration::ZERO)
        {
            events.push(event);
        }
        let is_end = matches!(events.last(), Some(Event::Lost(_)));
        let is_heard = events.is_empty()
            || says
                .blocking_send(FromStore::Events(number, events))
                .is_ok();
        if is_end || !is_heard {
            return;
        }
    }
}

fn revision_of(event: &Event) -> Option<Revision> {
    match event {
        Event::Put(item) => Some(item.modified),
        Event::Deleted { revision, .. } => Some(*revision),
        Event::Progress(_) | Event::Lost(_) | Event::LeaseLost => None,
    }
}

/// What is told when a watch cannot be had.
fn lost() -> Event {
    Event::Lost(omni_store::LostReason::Closed)
}
