//! See [`omni_fuzz::offload`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::offload::run(octets));
