//! See [`omni_fuzz::outer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::outer::run(octets));
