//! All programs in the running kernel. Needs root, and says so without; what is made on the way
//! (network namespaces and all in them) goes with the thread that made it.

mod access;
mod attach;
mod handover;
mod handshakes;
mod prog_run;
mod sessions;
mod settings;
mod traffic;

/// What the tests share.
mod support {
    pub(crate) mod bench;
    pub(crate) mod frame;
    pub(crate) mod netns;
    pub(crate) mod ring;
    pub(crate) mod root;
    pub(crate) mod xsk;
}
