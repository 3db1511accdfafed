//! See [`omni_fuzz::sessions`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::sessions::run(octets));
