//! What all tasks share: the core, and whom to wake after it was told something.
//!
//! Everything runs in one thread. Nobody keeps the core over an `await`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use omni_control::PrivateKey;
use omni_store::StoreError;
use omni_wire::Instant;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, info, warn};

use super::clock;
use super::store::{Command, FromStore, StoreThread};
use crate::server::core::{Closed, Conn, Core, OtherFabric, ToStore};
use crate::show::Status;

/// A connection, as the hub knows it.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// There may be something to be done.
    pub(super) wake: Notify,
    /// The core has closed it.
    pub(super) closed: Cell<Option<Closed>>,
}

/// What all tasks share.
pub(super) struct Hub {
    pub(super) fabric: String,
    pub(super) private: PrivateKey,
    pub(super) core: RefCell<Core>,
    links: RefCell<BTreeMap<Conn, Rc<Link>>>,
    store: RefCell<Option<StoreThread>>,
    /// Who asked for a revocation, by number.
    asking: RefCell<BTreeMap<u64, oneshot::Sender<Result<(), String>>>>,
    next_number: Cell<u64>,
    /// The list went on.
    pub(super) changed: Notify,
    /// The server is about to end.
    pub(super) stopping: Cell<bool>,
    started: Instant,
    /// Whether the last word on the store was that it fails.
    store_fails: Cell<bool>,
    /// What the server cannot go on with.
    pub(super) failed: RefCell<Option<OtherFabric>>,
    pub(super) reflected: Cell<u64>,
    pub(super) turned_away: Cell<u64>,
}

impl Hub {
    pub(super) fn new(
        fabric: String,
        private: PrivateKey,
        core: Core,
        store: StoreThread,
    ) -> Rc<Self> {
        Rc::new(Self {
            fabric,
            private,
            core: RefCell::new(core),
            links: RefCell::default(),
            store: RefCell::new(Some(store)),
            asking: RefCell::default(),
            next_number: Cell::new(1),
            changed: Notify::new(),
            stopping: Cell::new(false),
            started: clock::now().instant,
            store_fails: Cell::new(false),
            failed: RefCell::default(),
            reflected: Cell::new(0),
            turned_away: Cell::new(0),
        })
    }

    fn number(&self) -> u64 {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        number
    }

    /// A connection, and its number.
    pub(super) fn link(&self) -> (Conn, Rc<Link>) {
        let conn = Conn(self.number());
        let link = Rc::new(Link::default());
        self.links.borrow_mut().insert(conn, Rc::clone(&link));
        (conn, link)
    }

    /// A connection is over.
    pub(super) fn unlink(&self, conn: Conn) {
        self.links.borrow_mut().remove(&conn);
        self.core.borrow_mut().disconnect(clock::now(), conn);
        self.turn();
    }

    pub(super) fn has_links(&self) -> bool {
        !self.links.borrow().is_empty()
    }

    pub(super) fn wake_all(&self) {
        for link in self.links.borrow().values() {
            link.wake.notify_one();
        }
    }

    /// Does what the core wants done. To be called after everything that it was told.
    pub(super) fn turn(&self) {
        let core = &mut *self.core.borrow_mut();
        if let Some(asked) = core.poll_store(clock::now()) {
            let command = match asked {
                ToStore::Load => Command::Load,
                ToStore::Commit(transaction) => Command::Commit(transaction),
            };
            self.ask(core, command);
        }
        let links = self.links.borrow();
        while let Some((conn, why)) = core.poll_close() {
            if let Some(link) = links.get(&conn) {
                link.closed.set(Some(why));
                link.wake.notify_one();
            }
        }
        while let Some(conn) = core.poll_ready() {
            if let Some(link) = links.get(&conn) {
                link.wake.notify_one();
            }
        }
        while let Some(answered) = core.poll_answered() {
            if let Some(asking) = self.asking.borrow_mut().remove(&answered.number) {
                // Who asked may be gone.
                let _ = asking.send(answered.outcome);
            }
        }
    }

    fn ask(&self, core: &mut Core, command: Command) {
        let is_load = matches!(command, Command::Load);
        let store = self.store.borrow();
        if store.as_ref().is_some_and(|store| store.ask(command)) {
            return;
        }
        // The thread is gone or far behind. The core tries again.
        let error = StoreError::Unavailable("the store's thread does not listen".into());
        match is_load {
            true => core.handle_load_error(clock::now(), &error),
            false => core.handle_committed(clock::now(), Err(error)),
        }
    }

    /// The store says something.
    pub(super) fn heard(&self, what: FromStore) {
        let now = clock::now();
        match what {
            FromStore::Loaded(Ok(snapshot)) => {
                self.note(None);
                if let Err(error) = self.core.borrow_mut().load(now, snapshot) {
                    self.failed.replace(Some(error));
                }
            }
            FromStore::Loaded(Err(error)) => {
                self.note(Some(&error));
                self.core.borrow_mut().handle_load_error(now, &error);
            }
            FromStore::Events(number, events) => {
                let store = self.store.borrow();
                let wanted = store.as_ref().map(|it| it.watch.load(Ordering::Relaxed));
                if wanted == Some(number) {
                    let core = &mut *self.core.borrow_mut();
                    events
                        .into_iter()
                        .for_each(|event| core.handle_event(now, event));
                }
            }
            FromStore::Committed(outcome) => {
                self.note(outcome.as_ref().err());
                self.core.borrow_mut().handle_committed(now, outcome);
            }
        }
        self.changed.notify_waiters();
        self.turn();
    }

    /// Whether the last word on the store was that it fails.
    pub(super) fn store_fails(&self) -> bool {
        self.store_fails.get()
    }

    /// Says when the store begins and ceases to fail.
    fn note(&self, error: Option<&StoreError>) {
        match error {
            Some(error) if self.store_fails.replace(true) => debug!(%error, "the store fails"),
            Some(error) => warn!(%error, "the store fails"),
            None if self.store_fails.replace(false) => info!("the store works again"),
            None => {}
        }
    }

    /// Takes certificates back.
    pub(super) async fn revoke(&self, octets: &[u8]) -> Result<(), String> {
        let number = self.number();
        let (asking, answer) = oneshot::channel();
        self.core
            .borrow_mut()
            .revoke(clock::now(), number, octets)?;
        self.asking.borrow_mut().insert(number, asking);
        self.turn();
        let answered = answer.await;
        answered.unwrap_or_else(|_| Err("the server is about to end".to_owned()))
    }

    /// Copies the store.
    pub(super) async fn backup(&self, path: PathBuf) -> Result<(), String> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Backup(path, reply);
        let asked = self
            .store
            .borrow()
            .as_ref()
            .is_some_and(|store| store.ask(command));
        if !asked {
            return Err("the store has too much to do".to_owned());
        }
        let answered = answer
            .await
            .map_err(|_| "the server is about to end".to_owned())?;
        answered.map_err(|error| error.to_string())
    }

    pub(super) fn status(&self) -> Status {
        let mut status = self.core.borrow().status();
        let now = clock::now().instant;
        status.uptime_seconds = now.since(self.started).as_secs();
        for (name, value) in [
            ("reflected", &self.reflected),
            ("turned_away", &self.turned_away),
        ] {
            status.counters.insert(name.to_owned(), value.get());
        }
        status
    }

    /// Ends the store's thread, after what it does now.
    pub(super) fn end_store(&self) -> Option<StoreThread> {
        self.store.borrow_mut().take()
    }
}
