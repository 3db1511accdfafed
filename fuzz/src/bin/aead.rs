//! See [`omni_fuzz::aead`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::aead::run(octets));
