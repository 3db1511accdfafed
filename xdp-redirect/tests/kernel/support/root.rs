//! What every test here needs.

/// Ends the test with the reason when it lacks the privileges; it must not pass unseen.
pub(crate) fn require_root() {
    // SAFETY: geteuid reads a number and cannot fail.
    let user = unsafe { libc::geteuid() };
    assert_eq!(
        user, 0,
        "this test loads XDP programs into the kernel: run it as root"
    );
}
