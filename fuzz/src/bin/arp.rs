//! See [`omni_fuzz::arp`].
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| omni_fuzz::arp::run(octets));
