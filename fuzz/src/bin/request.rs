//! See [`omni_fuzz::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::request::run(octets));
