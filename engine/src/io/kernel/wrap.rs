//! Rings whose indices pass 2^32, which takes a real one an hour at a million frames a second.
//!
//! The kernel begins every ring at 0. So the memory is the test's own here, the kernel's side is
//! played, and what is under test is what all rings of the engine are worked with: libxdp's
//! functions, as xsk-rs calls them.

use std::collections::VecDeque;

use libxdp_sys as xdp;

/// Entries of the rings: small, so that they are full and empty often.
const SIZE: u32 = 64;
/// How much before 2^32 they begin.
const BEFORE: u32 = 5_000;
/// How many entries go through.
const ENTRIES: u64 = 20_000;

/// A ring's memory, as the kernel maps it: indices and addresses.
struct Shared {
    producer: Box<u32>,
    consumer: Box<u32>,
    flags: Box<u32>,
    entries: Box<[u64; SIZE as usize]>,
}

impl Shared {
    fn new() -> Self {
        let start = 0u32.wrapping_sub(BEFORE);
        Self {
            producer: Box::new(start),
            consumer: Box::new(start),
            flags: Box::new(0),
            entries: Box::new([0; SIZE as usize]),
        }
    }
}

/// Where a side of a ring is.
fn index(at: *const u32) -> u32 {
    // SAFETY: tests call this with pointers into a `Shared` that is live.
    unsafe { at.read() }
}

/// A number in `1..=most`, another one each time.
fn some(seed: &mut u64, most: u32) -> u32 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*seed >> 33) as u32 % most + 1
}

/// What is put into a fill ring comes out of it in order, and it never takes more than it holds.
#[test]
fn a_producers_ring_goes_on_beyond_the_last_index() {
    let mut shared = Shared::new();
    let (producer, consumer) = (&raw mut *shared.producer, &raw mut *shared.consumer);
    let entries = shared.entries.as_mut_ptr();
    let mut ring = xdp::xsk_ring_prod {
        cached_prod: *shared.producer,
        // As libxdp sets it up: where the consumer is, and a whole ring beyond.
        cached_cons: shared.consumer.wrapping_add(SIZE),
        mask: SIZE - 1,
        size: SIZE,
        producer,
        consumer,
        ring: entries.cast(),
        flags: &raw mut *shared.flags,
    };
    let (mut under_way, mut next, mut seed, mut refused) = (VecDeque::new(), 0u64, 7, 0);
    while next < ENTRIES {
        let wanted = some(&mut seed, SIZE);
        let mut at = 0;
        // SAFETY: the ring's pointers are to live memory of its size, which nobody else touches.
        let got = unsafe { xdp::xsk_ring_prod__reserve(&raw mut ring, wanted, &raw mut at) };
        let room = SIZE - under_way.len() as u32;
        assert_eq!(got, if wanted <= room { wanted } else { 0 }, "all or none");
        refused += u32::from(got == 0);
        for n in 0..got {
            // SAFETY: as above; the entry was reserved.
            let entry = unsafe { xdp::xsk_ring_prod__fill_addr(&raw mut ring, at.wrapping_add(n)) };
            // SAFETY: as above.
            unsafe { entry.write(next) };
            under_way.push_back(next);
            next += 1;
        }
        // SAFETY: as above.
        unsafe { xdp::xsk_ring_prod__submit(&raw mut ring, got) };
        // The kernel's side takes a part of what is there.
        for _ in 0..some(&mut seed, SIZE) {
            let (first, end) = (index(consumer), index(producer));
            if first == end {
                break;
            }
            let place = entries.wrapping_add((first & (SIZE - 1)) as usize);
            // SAFETY: the place is within the entries.
            let address = unsafe { place.read() };
            assert_eq!(Some(address), under_way.pop_front());
            // SAFETY: as above.
            unsafe { consumer.write(first.wrapping_add(1)) };
        }
        // SAFETY: the ring is as above.
        let free = unsafe { xdp::xsk_prod_nb_free(&raw mut ring, SIZE) };
        assert_eq!(free, SIZE - under_way.len() as u32);
    }
    assert!(refused > 100, "it was full {refused} times");
    assert!(*shared.producer < BEFORE * 4, "the index did not wrap");
}

/// What the kernel puts into a completion ring is taken once and in order, however much is asked
/// for at a time.
#[test]
fn a_consumers_ring_goes_on_beyond_the_last_index() {
    let mut shared = Shared::new();
    let (producer, consumer) = (&raw mut *shared.producer, &raw mut *shared.consumer);
    let entries = shared.entries.as_mut_ptr();
    let mut ring = xdp::xsk_ring_cons {
        cached_prod: *shared.producer,
        cached_cons: *shared.consumer,
        mask: SIZE - 1,
        size: SIZE,
        producer,
        consumer,
        ring: entries.cast(),
        flags: &raw mut *shared.flags,
    };
    let (mut under_way, mut next, mut seed, mut partial) = (VecDeque::new(), 0u64, 3, 0);
    while next < ENTRIES {
        for _ in 0..some(&mut seed, SIZE) {
            let (first, end) = (index(consumer), index(producer));
            if end.wrapping_sub(first) == SIZE {
                break;
            }
            let place = entries.wrapping_add((end & (SIZE - 1)) as usize);
            // SAFETY: the place is within the entries, and free.
            unsafe { place.write(next) };
            under_way.push_back(next);
            next += 1;
            // SAFETY: as above.
            unsafe { producer.write(end.wrapping_add(1)) };
        }
        let (wanted, mut at) = (some(&mut seed, SIZE), 0);
        // SAFETY: the ring's pointers are to live memory of its size, which nobody else touches.
        let got = unsafe { xdp::xsk_ring_cons__peek(&raw mut ring, wanted, &raw mut at) };
        assert!(got <= wanted && got as usize <= under_way.len());
        partial += u32::from(got < wanted);
        for n in 0..got {
            // SAFETY: as above; the entry was handed out.
            let entry =
                unsafe { xdp::xsk_ring_cons__comp_addr(&raw const ring, at.wrapping_add(n)) };
            // SAFETY: as above.
            assert_eq!(Some(unsafe { entry.read() }), under_way.pop_front());
        }
        // SAFETY: as above.
        unsafe { xdp::xsk_ring_cons__release(&raw mut ring, got) };
    }
    assert!(partial > 100, "{partial} batches were partial");
    assert!(*shared.consumer < BEFORE * 4, "the index did not wrap");
}
