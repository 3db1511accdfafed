//! What `omni authority` is told on the command line.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(crate) const EXAMPLES: &str = "\
The authority is a key that stays offline. A node with a certificate of it belongs to the fabric.
docs/membership.md has the whole way.

Examples:
  omni authority init --key home.key
  omni authority enroll --authority-key home.key --fabric home --name alpha \\
      --key \"$(omni pubkey < alpha.key)\" --expires 365d -o alpha.cert
  omni authority show alpha.cert";

const INIT_EXAMPLES: &str = "\
The file holds 32 random octets in base64 and is the user's own (mode 0600). An existing one is not
written over. Keep it and a copy where no node is: whoever has it makes members.

Example:
  omni authority init --key home.key > home.pub";

const PUBKEY_EXAMPLES: &str = "\
Example:
  omni authority pubkey --authority-key home.key";

const ENROLL_USAGE: &str = "\
omni authority enroll [OPTIONS] --authority-key FILE --fabric NAME --key PUBLIC --name NAME";

const ENROLL_EXAMPLES: &str = "\
Without --vlans, --macs or --addresses all of them are allowed. With --addresses, IPv6 hosts need
their link-local addresses listed as well (fe80::/10). A certificate begins an hour before now.

Examples:
  omni authority enroll --authority-key home.key --fabric home --name alpha \\
      --key \"$(cat alpha.pub)\" -o alpha.cert
  omni authority enroll --authority-key home.key --fabric home --name beta \\
      --key \"$(cat beta.pub)\" --vlans 10,20-30 --macs 02:00:5e:10:00:01 \\
      --addresses 10.7.0.1,10.8.0.0/16,fe80::/10 --expires 2030-01-01 > beta.cert";

const REVOKE_EXAMPLES: &str = "\
All certificates of the key up to the serial are void for ever; by default all that were made until
now. Enroll the node again, and it is a member again.

Examples:
  omni authority revoke --authority-key home.key --fabric home \\
      --key \"$(cat alpha.pub)\" --reason 'disk lost' -o alpha.revoked
  omni authority revoke --authority-key home.key --fabric home \\
      --key \"$(cat alpha.pub)\" --serial 1795768602000";

const SHOW_EXAMPLES: &str = "\
With --fabric and --authority the signature is verified: exit status 1 when it is not good. Without
them the file may say anything.

Examples:
  omni authority show alpha.cert
  omni authority show alpha.cert --fabric home --authority \"$(cat home.pub)\"
  omni authority show --json alpha.revoked | jq .serial";

/// Certify who belongs to a fabric.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the authority's key file, print its public key
    #[command(after_help = INIT_EXAMPLES)]
    Init(Init),
    /// Print the public key of the authority's key file
    #[command(after_help = PUBKEY_EXAMPLES)]
    Pubkey(Pubkey),
    /// Make a node's certificate
    #[command(after_help = ENROLL_EXAMPLES, override_usage = ENROLL_USAGE)]
    Enroll(Enroll),
    /// Take a node's certificates back
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke(Revoke),
    /// Print what a certificate or revocation says, and whether it verifies
    #[command(after_help = SHOW_EXAMPLES)]
    Show(Show),
}

/// What `omni authority init` is told.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The file to make
    #[arg(long, value_name = "FILE", default_value = "authority.key")]
    pub(super) key: PathBuf,
}

/// What `omni authority pubkey` is told.
#[derive(Debug, Args)]
pub(crate) struct Pubkey {
    /// The authority's key file
    #[arg(long, value_name = "FILE")]
    pub(super) authority_key: PathBuf,
}

/// What `omni authority enroll` is told.
#[derive(Debug, Args)]
pub(crate) struct Enroll {
    /// The authority's key file
    #[arg(long, value_name = "FILE")]
    pub(super) authority_key: PathBuf,

    /// The fabric's name, as in fabric.yaml
    #[arg(long, value_name = "NAME")]
    pub(super) fabric: String,

    /// The node's public key, as `omni pubkey` prints it
    #[arg(long, value_name = "PUBLIC")]
    pub(super) key: String,

    /// The node's name
    #[arg(long, value_name = "NAME")]
    pub(super) name: String,

    /// VLANs that it may use, such as 0,10,20-30; 0: untagged [default: all]
    #[arg(long, value_name = "LIST")]
    pub(super) vlans: Option<String>,

    /// MAC addresses that may be behind it, as a,b [default: any]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(super) macs: Option<Vec<String>>,

    /// IP addresses or networks that may be behind it, as a,b [default: any]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(super) addresses: Option<Vec<String>>,

    /// When it ends: such as 365d, or 2030-01-01 (UTC) [default: never]
    #[arg(long, value_name = "WHEN")]
    pub(super) expires: Option<String>,

    /// A number, higher each time [default: milliseconds since 1970]
    #[arg(long, value_name = "N")]
    pub(super) serial: Option<u64>,

    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// What `omni authority revoke` is told.
#[derive(Debug, Args)]
pub(crate) struct Revoke {
    /// The authority's key file
    #[arg(long, value_name = "FILE")]
    pub(super) authority_key: PathBuf,

    /// The fabric's name, as in fabric.yaml
    #[arg(long, value_name = "NAME")]
    pub(super) fabric: String,

    /// The node's public key
    #[arg(long, value_name = "PUBLIC")]
    pub(super) key: String,

    /// The highest serial that is void [default: milliseconds since 1970]
    #[arg(long, value_name = "N")]
    pub(super) serial: Option<u64>,

    /// Why, at most 200 characters
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) reason: String,

    /// Write to this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}

/// What `omni authority show` is told.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A certificate or revocation
    pub(super) file: PathBuf,

    /// The fabric that it must be for
    #[arg(long, value_name = "NAME", requires = "authority")]
    pub(super) fabric: Option<String>,

    /// The public key of the authority that must have signed it
    #[arg(long, value_name = "PUBLIC", requires = "fabric")]
    pub(super) authority: Option<String>,

    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}
