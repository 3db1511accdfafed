//! See [`omni_fuzz::membership`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::membership::run(octets));
