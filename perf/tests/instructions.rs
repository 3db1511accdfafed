//! A frame takes no more instructions than recorded.

use std::process::Command;

#[test]
fn a_frame_keeps_to_its_budget_of_instructions() {
    // What it prints, also that it was skipped, is seen although the test passes.
    let status = Command::new(env!("CARGO_BIN_EXE_omni-perf"))
        .arg("instructions")
        .status()
        .expect("the program starts");
    assert!(
        status.success(),
        "see above; where more is right, record it:\n  \
         cargo run -p omni-perf -- instructions --record perf/budgets.json\n  \
         cargo run --release -p omni-perf -- instructions --record perf/budgets.json"
    );
}
