//! See [`omni_fuzz::switch`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::switch::run(octets));
