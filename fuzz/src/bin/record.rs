//! See [`omni_fuzz::record`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::record::run(octets));
