use proptest::prelude::*;

use super::*;

fn prefix(text: &str) -> IpPrefix {
    let (address, len) = text.split_once('/').unwrap();
    IpPrefix::new(address.parse().unwrap(), len.parse().unwrap()).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn nothing_said_allows_all_and_an_empty_list_nothing() {
    let all = Grants::default();
    assert!(all.allows_vlan(0) && all.allows_vlan(4094) && !all.allows_vlan(4095));
    assert!(all.allows_mac(7, MacAddr([2; 6])) && !all.allows_mac(4095, MacAddr([2; 6])));
    assert!(all.allows_address(7, ip("10.0.0.1")) && all.allows_address(7, ip("fe80::1")));
    let none = Grants {
        vlans: Some(VlanRanges::default()),
        macs: Some(BTreeSet::new()),
        addresses: Some(BTreeSet::new()),
    };
    assert!(!none.allows_vlan(0));
    let no_hosts = Grants {
        vlans: None,
        ..none
    };
    assert!(no_hosts.allows_vlan(0) && !no_hosts.allows_mac(0, MacAddr([2; 6])));
    assert!(!no_hosts.allows_address(0, ip("10.0.0.1")));
}

#[test]
fn an_address_is_allowed_in_granted_vlans_only() {
    let grants = Grants {
        vlans: VlanRanges::new([10..=10, 20..=30]),
        macs: Some([MacAddr([2, 0, 0, 0, 0, 1])].into()),
        addresses: Some([prefix("10.7.0.1/32"), prefix("2001:db8::/32")].into()),
    };
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    assert!(grants.allows_mac(10, mac) && grants.allows_mac(30, mac));
    assert!(!grants.allows_mac(11, mac) && !grants.allows_mac(10, MacAddr([2; 6])));
    assert!(grants.allows_address(25, ip("10.7.0.1")));
    assert!(grants.allows_address(25, ip("::ffff:10.7.0.1")));
    assert!(grants.allows_address(25, ip("2001:db8:1::7")));
    assert!(!grants.allows_address(25, ip("10.7.0.2")));
    assert!(!grants.allows_address(25, ip("fe80::1")));
    assert!(!grants.allows_address(31, ip("10.7.0.1")));
}

#[test]
fn a_network_holds_its_addresses_and_no_others() {
    assert_eq!(prefix("10.7.1.2/16").to_string(), "10.7.0.0/16");
    assert_eq!(prefix("::ffff:10.7.1.2/16").to_string(), "10.7.0.0/16");
    assert_eq!(prefix("2001:db8::1/127").to_string(), "2001:db8::/127");
    assert!(prefix("0.0.0.0/0").contains(ip("255.1.2.3")));
    assert!(!prefix("0.0.0.0/0").contains(ip("::1")) && !prefix("::/0").contains(ip("1.2.3.4")));
    assert!(prefix("::/0").contains(ip("ff00::")));
    assert!(prefix("10.0.0.0/31").contains(ip("10.0.0.1")));
    assert!(!prefix("10.0.0.0/31").contains(ip("10.0.0.2")));
    assert_eq!(IpPrefix::new(ip("10.0.0.0"), 33), None);
    assert_eq!(IpPrefix::new(ip("::1"), 129), None);
}

#[test]
fn ranges_of_vlans_are_in_order_and_bounded() {
    let texts = [
        (VlanRanges::new([]), Some("none")),
        (
            VlanRanges::new([0..=0, 10..=10, 100..=200]),
            Some("0, 10, 100-200"),
        ),
        (VlanRanges::new([1..=2, 3..=4]), Some("1-4")),
        (VlanRanges::new([0..=4094]), Some("0-4094")),
        (VlanRanges::new([0..=4095]), None),
        (VlanRanges::new([10..=10, 10..=10]), None),
        (VlanRanges::new([20..=20, 10..=10]), None),
        (VlanRanges::new([RangeInclusive::new(2, 1)]), None),
    ];
    for (vlans, text) in texts {
        assert_eq!(vlans.map(|vlans| vlans.to_string()).as_deref(), text);
    }
    let every_second = |count: u16| VlanRanges::new((0..count).map(|n| 2 * n..=2 * n));
    assert!(every_second(1024).is_some() && every_second(1025).is_none());
}

proptest! {
    #[test]
    fn a_set_of_ranges_is_a_set(bits in proptest::collection::btree_set(0..4095_u16, 0..900)) {
        let vlans = VlanRanges::new(bits.iter().map(|&vlan| vlan..=vlan)).unwrap();
        let found: BTreeSet<u16> = (0..=u16::MAX).filter(|&vlan| vlans.contains(vlan)).collect();
        prop_assert_eq!(&found, &bits);
        prop_assert_eq!(check_vlans(&vlan_list(&vlans)), Ok(vlans));
    }

    #[test]
    fn a_network_is_decided_by_its_first_bits(
        a in any::<u128>(),
        b in any::<u128>(),
        len in 0..=128_u8,
    ) {
        let network = IpPrefix::new(IpAddr::V6(a.into()), len);
        let is_v6 = |bits: u128| IpAddr::V6(bits.into()).to_canonical().is_ipv6();
        prop_assume!(is_v6(a) && is_v6(b));
        let is_same = len == 0 || (a ^ b) >> (128 - u32::from(len)) == 0;
        let network = network.unwrap();
        prop_assert_eq!(network.contains(IpAddr::V6(b.into())), is_same);
        prop_assert!(network.contains(IpAddr::V6(a.into())));
    }
}
