//! See [`omni_fuzz::fdb`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::fdb::run(octets));
