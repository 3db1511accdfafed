//! Any octets as a signed record of each kind, as its body, and as a text file.

use omni_membership::{
    AuthorityKey, Binding, Certificate, FabricName, PrivateKey, PublicKey, Registration,
    Revocation, armour,
};

/// Runs the target.
pub fn run(octets: &[u8]) {
    let fabric = FabricName::new("home").expect("a name");
    let authority = AuthorityKey::from_seed(&[1; 32]);
    let private = PrivateKey([2; 32]);
    // The octets as they are, and as a body with a signature of zeros.
    for record in [octets.to_vec(), signed(octets)] {
        if let Ok(value) = Certificate::unverified(&record) {
            let again = value
                .sign(&fabric, &authority)
                .expect("what reads can be signed");
            assert_eq!(again.into_value(), value);
        }
        if let Ok(value) = Revocation::unverified(&record) {
            let again = value
                .sign(&fabric, &authority)
                .expect("what reads can be signed");
            assert_eq!(again.into_value(), value);
        }
        if let Ok(mut value) = Registration::unverified(&record) {
            value.public_key = PublicKey::from_private(&private);
            let again = value
                .sign(&fabric, &private)
                .expect("what reads can be signed");
            assert_eq!(again.into_value(), value);
        }
        if let Ok(mut value) = Binding::unverified(&record) {
            value.public_key = PublicKey::from_private(&private);
            let again = value
                .sign(&fabric, &private)
                .expect("what reads can be signed");
            assert_eq!(again.into_value(), value);
        }
    }
    if let Ok((kind, record)) = armour::decode(octets) {
        let text = armour::encode(kind, &record);
        assert_eq!(armour::decode(text.as_bytes()), Ok((kind, record)));
    }
}

/// The octets as the body of a record: field 1, then a signature of zeros in field 2.
pub(crate) fn signed(body: &[u8]) -> Vec<u8> {
    let mut record = vec![0x0a];
    let mut len = body.len();
    while len > 0x7f {
        record.push(len as u8 | 0x80);
        len >>= 7;
    }
    record.push(len as u8);
    record.extend_from_slice(body);
    record.extend_from_slice(&[0x12, 64]);
    record.extend_from_slice(&[0; 64]);
    record
}
