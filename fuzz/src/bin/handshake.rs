//! See [`omni_fuzz::handshake`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::handshake::run(octets));
