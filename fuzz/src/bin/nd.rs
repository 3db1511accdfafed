//! See [`omni_fuzz::nd`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::nd::run(octets));
