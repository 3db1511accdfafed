//! See [`omni_fuzz::agent`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::agent::run(octets));
