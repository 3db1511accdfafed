//! See [`omni_fuzz::chunks`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::chunks::run(octets));
