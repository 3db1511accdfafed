//! See [`omni_fuzz::nucleus_config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::nucleus_config::run(octets));
