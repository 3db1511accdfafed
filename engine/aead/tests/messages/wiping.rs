//! A key leaves nothing of itself where it was.
#![allow(unsafe_code)]

use omni_aead::Key;

/// The octets of a key that was dropped, in memory that is still there.
fn octets_after_drop(key: Key) -> Vec<u8> {
    let place = Box::into_raw(Box::new(key));
    // SAFETY: the key is alive, and nobody uses it afterwards.
    unsafe { place.drop_in_place() };
    let first = place.cast::<u8>();
    let mut octets = Vec::new();
    for at in 0..size_of::<Key>() {
        // SAFETY: the place is within the allocation, which is freed below.
        let octet = unsafe { first.add(at) };
        // SAFETY: as above. Octets that the key does not use may have any value.
        octets.push(unsafe { octet.read_volatile() });
    }
    // SAFETY: the allocation is the box's, and `ManuallyDrop` does not drop the key again.
    drop(unsafe { Box::from_raw(place.cast::<std::mem::ManuallyDrop<Key>>()) });
    octets
}

#[test]
fn a_dropped_key_is_overwritten() {
    let secret: [u8; 32] = std::array::from_fn(|i| 0xa5 ^ (i as u8 * 7));
    let octets = octets_after_drop(Key::new(&secret));
    let left = secret
        .windows(4)
        .find(|part| octets.windows(4).any(|window| window == *part));
    assert_eq!(left, None, "of {octets:02x?}");
}
