//! The records as protobuf has them: every field optional, nothing checked.
//!
//! A test holds this file and `docs/nucleus-records.proto` together.

/// What every record travels as.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Signed {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) body: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) signature: Vec<u8>,
}

/// The body of a certificate.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Certificate {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) public_key: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(uint64, tag = "3")]
    pub(super) serial: u64,
    #[prost(uint64, tag = "4")]
    pub(super) not_before: u64,
    #[prost(uint64, tag = "5")]
    pub(super) not_after: u64,
    #[prost(message, optional, tag = "6")]
    pub(super) vlans: Option<VlanList>,
    #[prost(message, optional, tag = "7")]
    pub(super) macs: Option<MacList>,
    #[prost(message, optional, tag = "8")]
    pub(super) addresses: Option<PrefixList>,
}

/// VLANs; a message of its own, so that none at all and nothing said differ.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct VlanList {
    #[prost(message, repeated, tag = "1")]
    pub(super) ranges: Vec<VlanRange>,
}

/// All VLANs from the first to the last, both included.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct VlanRange {
    #[prost(uint32, tag = "1")]
    pub(super) first: u32,
    #[prost(uint32, tag = "2")]
    pub(super) last: u32,
}

/// MAC addresses of 6 octets.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MacList {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) macs: Vec<Vec<u8>>,
}

/// Networks of IP addresses.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PrefixList {
    #[prost(message, repeated, tag = "1")]
    pub(super) prefixes: Vec<Prefix>,
}

/// One network of IP addresses.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Prefix {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) address: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) length: u32,
}

/// The body of a revocation.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Revocation {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) public_key: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(super) serial: u64,
    #[prost(uint64, tag = "3")]
    pub(super) issued_at: u64,
    #[prost(string, tag = "4")]
    pub(super) reason: String,
}

/// The body of a registration.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Registration {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) public_key: Vec<u8>,
    #[prost(uint64, tag = "2")]
    pub(super) sequence: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) endpoints: Vec<Endpoint>,
    #[prost(uint32, tag = "4")]
    pub(super) lanes: u32,
    #[prost(uint32, tag = "5")]
    pub(super) max_frame: u32,
    #[prost(message, optional, tag = "6")]
    pub(super) vlans: Option<VlanList>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub(super) certificate: Option<Vec<u8>>,
    #[prost(uint64, tag = "8")]
    pub(super) expires: u64,
    #[prost(string, tag = "9")]
    pub(super) name: String,
}

/// Where a node may be reached.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Endpoint {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) ip: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) port: u32,
    #[prost(enumeration = "EndpointKind", tag = "3")]
    pub(super) kind: i32,
}

/// How an endpoint became known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, prost::Enumeration)]
#[repr(i32)]
pub(super) enum EndpointKind {
    Unspecified = 0,
    Configured = 1,
    Local = 2,
    Reflexive = 3,
}

/// The body of a binding.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Binding {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) public_key: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) vlan: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) mac: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub(super) ip: Option<Vec<u8>>,
    #[prost(uint64, tag = "5")]
    pub(super) sequence: u64,
    #[prost(uint64, tag = "6")]
    pub(super) expires: u64,
    #[prost(bool, tag = "7")]
    pub(super) withdrawn: bool,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub(super) release_to: Option<Vec<u8>>,
}
