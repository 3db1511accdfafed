//! See [`omni_fuzz::certificate`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::certificate::run(octets));
