//! `omni`: the operator's tool.
fn main() {}
