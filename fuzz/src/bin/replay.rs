//! See [`omni_fuzz::replay`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::replay::run(octets));
