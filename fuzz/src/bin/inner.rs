//! See [`omni_fuzz::inner`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::inner::run(octets));
