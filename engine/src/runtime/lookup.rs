//! Whom the operator means.

use omni_control::PeerStatus;

use super::Node;

impl Node {
    /// The peer with this name, or the only one whose public key begins so.
    ///
    /// # Errors
    /// What is wrong with it, in words for the operator.
    pub(super) fn find_peer(&self, wanted: &str) -> Result<PeerStatus, String> {
        let peers: Vec<PeerStatus> = self.plane.ganglion.peers().collect();
        let known = peers
            .iter()
            .map(|peer| (self.peer_name(peer.id), peer.public_key.to_string()));
        let at = find(wanted, known)?;
        let mut peers = peers.into_iter();
        peers.nth(at).ok_or_else(|| no_peer(wanted))
    }
}

/// Whose name it is, or the only key that begins so, by its place in `known`.
fn find<'a>(
    wanted: &str,
    known: impl Iterator<Item = (&'a str, String)> + Clone,
) -> Result<usize, String> {
    if wanted.is_empty() {
        return Err("which peer?".to_owned());
    }
    let mut named = (0..).zip(known.clone());
    if let Some((at, _)) = named.find(|(_, (name, _))| *name == wanted) {
        return Ok(at);
    }
    let begins = (0..).zip(known);
    let begins = begins.filter(|(_, (_, key))| key.starts_with(wanted));
    let found: Vec<_> = begins.collect();
    match &found[..] {
        [(at, _)] => Ok(*at),
        [] => Err(no_peer(wanted)),
        [(_, (one, _)), (_, (other, _)), ..] => Err(format!(
            "several public keys begin with {wanted}, those of {one} and {other}: say more of it"
        )),
    }
}

fn no_peer(wanted: &str) -> String {
    format!("no peer is called {wanted}, and no peer's public key begins so (see: omni show peers)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(wanted: &str) -> Result<usize, String> {
        let known = [("beta", "Abcd="), ("Ab", "Xyz="), ("gamma", "Abce=")];
        find(
            wanted,
            known.iter().map(|(name, key)| (*name, (*key).to_owned())),
        )
    }

    #[test]
    fn a_name_goes_before_the_beginning_of_a_key() {
        assert_eq!(found("gamma"), Ok(2));
        assert_eq!(found("Ab"), Ok(1));
        assert_eq!(found("X"), Ok(1));
        assert_eq!(found("Abcd="), Ok(0));
    }

    #[test]
    fn what_fits_nobody_or_several_is_refused() {
        assert!(found("").is_err());
        assert!(found("bet").is_err_and(|why| why.contains("no peer is called bet")));
        assert!(found("Abc").is_err_and(|why| why.contains("beta and gamma")));
    }
}
