//! A window that is made when it is needed.

use core::sync::atomic::AtomicU64;
use std::sync::OnceLock;

use omni_wire::DropReason;

use crate::window::Window;
use crate::word::Word;

/// A window that takes no memory before its first commit: of the 256 lanes that a peer may
/// announce, most carry nothing.
///
/// Two workers may make the first commit at once. `OnceLock` makes one window and lets whoever
/// comes second wait for it, so both decide on the same words, and whoever gets it sees it whole.
/// A check that does not see the window yet lets the message through to the commit, as a check
/// that is behind may always do.
#[derive(Debug)]
pub struct LazyWindow<const SLOTS: usize, const BLOCK: u32, const SPAN: u64, W = AtomicU64> {
    window: OnceLock<Box<Window<SLOTS, BLOCK, SPAN, W>>>,
}

impl<const SLOTS: usize, const BLOCK: u32, const SPAN: u64, W> Default
    for LazyWindow<SLOTS, BLOCK, SPAN, W>
{
    /// No nonce was accepted yet.
    fn default() -> Self {
        Self {
            window: OnceLock::new(),
        }
    }
}

impl<const SLOTS: usize, const BLOCK: u32, const SPAN: u64, W: Word>
    LazyWindow<SLOTS, BLOCK, SPAN, W>
{
    /// As [`Window::check`].
    ///
    /// # Errors
    /// `NonceTooOld` or `NonceReplayed`.
    #[inline]
    pub fn check(&self, nonce: u64) -> Result<(), DropReason> {
        self.window
            .get()
            .map_or(Ok(()), |window| window.check(nonce))
    }

    /// As [`Window::commit`].
    ///
    /// # Errors
    /// `NonceTooOld` or `NonceReplayed`.
    #[inline]
    pub fn commit(&self, nonce: u64) -> Result<bool, DropReason> {
        self.window.get_or_init(Box::default).commit(nonce)
    }
}
