//! See [`omni_fuzz::memory`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::memory::run(octets));
