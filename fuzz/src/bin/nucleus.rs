//! See [`omni_fuzz::nucleus`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::nucleus::run(octets));
