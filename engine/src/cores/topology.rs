//! What the system says of its cores, and the order in which workers are best put on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel describes cores and nodes.
const SYSTEM: &str = "/sys/devices/system";
/// Where it describes network interfaces.
const NETWORK: &str = "/sys/class/net";
/// How many interfaces may be stacked on a network card: VLANs, bonds, bridges.
const STACK_MAX: usize = 8;
/// With no more cores than these there is no choice, and core 0 is as good as any.
const CHOICE_MIN: usize = 3;

/// The cores that may be used, and what they share. "Core" is what the kernel schedules on: with
/// SMT, one of the threads of a physical core.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Topology {
    cores: BTreeMap<usize, Core>,
}

/// One core.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Core {
    /// The threads of its physical core, itself included.
    siblings: BTreeSet<usize>,
    /// Its NUMA node, where the system tells.
    node: Option<usize>,
}

impl Topology {
    /// Reads what the kernel says of these cores. Where it says nothing, as in some virtual
    /// machines, each is a physical core of no node.
    pub(super) fn read(available: &[usize]) -> Self {
        let siblings = |core: &usize| {
            let path = format!("{SYSTEM}/cpu/cpu{core}/topology/thread_siblings_list");
            (*core, fs::read_to_string(path).unwrap_or_default())
        };
        let nodes = fs::read_dir(format!("{SYSTEM}/node")).into_iter().flatten();
        let nodes = nodes.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let node = name.strip_prefix("node")?.parse().ok()?;
            Some((node, fs::read_to_string(entry.path().join("cpulist")).ok()?))
        });
        Self::parse(available.iter().map(siblings), nodes)
    }

    /// The same from the kernel's words: for each core its list of siblings, for each node its
    /// list of cores.
    pub(super) fn parse(
        siblings: impl IntoIterator<Item = (usize, String)>,
        nodes: impl IntoIterator<Item = (usize, String)>,
    ) -> Self {
        let core = |(core, list): (usize, String)| {
            let mut siblings = parse_list(&list);
            siblings.insert(core);
            let node = None;
            (core, Core { siblings, node })
        };
        let mut cores: BTreeMap<usize, Core> = siblings.into_iter().map(core).collect();
        for (node, list) in nodes {
            for core in parse_list(&list) {
                if let Some(core) = cores.get_mut(&core) {
                    core.node = Some(node);
                }
            }
        }
        Self { cores }
    }

    /// All cores, the best for a worker first, with `pinned` workers of other engines on them and
    /// the underlay on the node `near`.
    ///
    /// In this order of weight: fewest other workers; no worker on the same physical core, of
    /// this engine or another, as two of them have little more than one; the node of the underlay,
    /// where its frames come to be; not core 0, which most interrupts go to; the lowest number.
    pub(super) fn order(&self, pinned: &BTreeMap<usize, usize>, near: Option<usize>) -> Vec<usize> {
        let workers = |core: &usize| pinned.get(core).copied().unwrap_or(0);
        let has_choice = self.cores.len() >= CHOICE_MIN;
        let mut left: BTreeSet<usize> = self.cores.keys().copied().collect();
        let mut order = Vec::new();
        while let Some(best) = left.iter().copied().min_by_key(|core| {
            let is_shared = self.siblings(*core).any(|sibling| {
                workers(&sibling) > 0 || (!left.contains(&sibling) && self.has(sibling))
            });
            let is_far = near.is_some() && self.node(*core) != near;
            let is_first = has_choice && *core == 0;
            (workers(core), is_shared, is_far, is_first, *core)
        }) {
            left.remove(&best);
            order.push(best);
        }
        order
    }

    /// The node of a core.
    pub(super) fn node(&self, core: usize) -> Option<usize> {
        self.cores.get(&core)?.node
    }

    fn has(&self, core: usize) -> bool {
        self.cores.contains_key(&core)
    }

    /// The other threads of a core's physical core.
    fn siblings(&self, core: usize) -> impl Iterator<Item = usize> {
        let siblings = self.cores.get(&core).map(|found| found.siblings.iter());
        siblings
            .into_iter()
            .flatten()
            .copied()
            .filter(move |sibling| *sibling != core)
    }

    /// Why these cores, for the log: what speaks for them and what against.
    pub(super) fn explain(
        &self,
        chosen: &[usize],
        pinned: &BTreeMap<usize, usize>,
        near: Option<usize>,
    ) -> String {
        let count = |holds: &dyn Fn(&usize) -> bool| chosen.iter().filter(|c| holds(c)).count();
        let shared = count(&|core| {
            let mut siblings = self.siblings(*core);
            siblings.any(|other| chosen.contains(&other) || pinned.contains_key(&other))
        });
        let far = count(&|core| self.node(*core) != near);
        let busy = count(&|core| pinned.contains_key(core));
        let mut why = vec![match (near, far) {
            (None, _) => "the underlay is on no node".to_owned(),
            (Some(node), 0) => format!("on the underlay's node {node}"),
            (Some(node), far) => format!("{far} off the underlay's node {node}"),
        }];
        why.push(match shared {
            0 => "each a physical core".to_owned(),
            shared => format!("{shared} share physical cores"),
        });
        why.push(match busy {
            0 => "no other engine's worker there".to_owned(),
            busy => format!("other engines' workers on {busy}"),
        });
        if self.has(0) && !chosen.contains(&0) {
            why.push("core 0 left to interrupts".to_owned());
        }
        why.join(", ")
    }
}

/// The NUMA node of a network interface, or of what it is stacked on; `None` when it is on none,
/// as a virtual one.
pub(super) fn node_of_interface(name: &str) -> Option<usize> {
    node_below(&Path::new(NETWORK).join(name), STACK_MAX)
}

fn node_below(interface: &Path, deepest: usize) -> Option<usize> {
    let told = fs::read_to_string(interface.join("device/numa_node"));
    if let Ok(told) = told {
        // -1 where there is but one node, or the firmware does not tell.
        return told.trim().parse().ok();
    }
    let deeper = deepest.checked_sub(1)?;
    let mut below: Vec<PathBuf> = fs::read_dir(interface)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("lower_"))
        .map(|entry| entry.path())
        .collect();
    below.sort();
    below.iter().find_map(|lower| node_below(lower, deeper))
}

/// A list as the kernel writes them, "0-3,8": numbers and ranges. What is none is left out.
fn parse_list(list: &str) -> BTreeSet<usize> {
    /// The kernel's own limit of cores; a longer range is nonsense.
    const CORES_MAX: usize = 8192;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        (last < CORES_MAX).then_some(first..=last)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of one socket: 4 physical cores of 2 threads, the second ones numbered after all
    /// first ones.
    fn one_socket() -> Topology {
        let siblings = (0..8).map(|core| (core, format!("{},{}\n", core % 4, core % 4 + 4)));
        Topology::parse(siblings, [(0, "0-7\n".to_owned())])
    }

    /// A server of two sockets, 4 physical cores of 2 threads each.
    fn two_sockets() -> Topology {
        let siblings = (0..16).map(|core| (core, format!("{},{}\n", core % 8, core % 8 + 8)));
        let nodes = [(0, "0-3,8-11\n"), (1, "4-7,12-15\n")];
        Topology::parse(siblings, nodes.map(|(node, list)| (node, list.to_owned())))
    }

    /// A virtual machine that is told nothing.
    fn untold(cores: usize) -> Topology {
        Topology::parse((0..cores).map(|core| (core, String::new())), [])
    }

    fn free() -> BTreeMap<usize, usize> {
        BTreeMap::new()
    }

    #[test]
    fn with_smt_each_physical_core_comes_once_and_core_0_last() {
        let order = one_socket().order(&free(), Some(0));
        assert_eq!(order, [1, 2, 3, 4, 5, 6, 7, 0]);
    }

    #[test]
    fn with_two_nodes_the_underlays_comes_first_of_what_is_otherwise_alike() {
        let topology = two_sockets();
        let far_socket = topology.order(&free(), Some(1));
        assert_eq!(far_socket[..4], [4, 5, 6, 7], "the node");
        assert_eq!(far_socket[4..8], [1, 2, 3, 8], "physical cores elsewhere");
        assert_eq!(
            far_socket[8..12],
            [12, 13, 14, 15],
            "the node's other threads"
        );
        let near_socket = topology.order(&free(), Some(0));
        assert_eq!(near_socket[..8], [1, 2, 3, 8, 4, 5, 6, 7]);
        let anywhere = topology.order(&free(), None);
        assert_eq!(anywhere[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
        for mut order in [far_socket, near_socket, anywhere] {
            order.sort_unstable();
            assert_eq!(order, (0..16).collect::<Vec<_>>(), "each once");
        }
    }

    #[test]
    fn a_virtual_machine_without_topology_has_its_cores_in_order() {
        assert_eq!(untold(4).order(&free(), None), [1, 2, 3, 0]);
        assert_eq!(untold(4).order(&free(), Some(0)), [1, 2, 3, 0]);
        assert_eq!(untold(2).order(&free(), None), [0, 1], "no choice");
        assert_eq!(untold(1).order(&free(), None), [0]);
        assert_eq!(untold(0).order(&free(), None), [0; 0]);
    }

    #[test]
    fn cores_and_physical_cores_with_other_engines_workers_come_later() {
        assert_eq!(
            untold(4).order(&BTreeMap::from([(0, 2), (2, 1)]), None),
            [1, 3, 2, 0]
        );
        // One on the other thread of core 1, two on core 2.
        let pinned = BTreeMap::from([(5, 1), (2, 2)]);
        let order = one_socket().order(&pinned, Some(0));
        assert_eq!(order, [3, 4, 1, 6, 7, 0, 5, 2]);
    }

    /// A process may be confined to some cores: others' siblings do not count.
    #[test]
    fn siblings_that_may_not_be_used_take_nothing() {
        let siblings = [4, 5, 6, 7].map(|core| (core, format!("{}-{}", core & !1, core | 1)));
        let confined = Topology::parse(siblings[..3].to_vec(), []);
        assert_eq!(confined.order(&free(), None), [4, 6, 5]);
    }

    #[test]
    fn the_reasons_are_those_of_the_order() {
        let topology = two_sockets();
        assert_eq!(
            topology.explain(&[4, 5], &free(), Some(1)),
            "on the underlay's node 1, each a physical core, no other engine's worker there, \
             core 0 left to interrupts"
        );
        let pinned = BTreeMap::from([(0, 1)]);
        assert_eq!(
            topology.explain(&[0, 1, 9], &pinned, Some(1)),
            "3 off the underlay's node 1, 2 share physical cores, other engines' workers on 1"
        );
        let why = untold(1).explain(&[0], &free(), None);
        assert!(why.starts_with("the underlay is on no node, "), "{why}");
    }

    #[test]
    fn lists_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_list("0-2,8,10-11\n"), [0, 1, 2, 8, 10, 11].into());
        for nothing in ["", "\n", "x", "3-", "0-99999999999", "5-4"] {
            assert_eq!(parse_list(nothing), BTreeSet::new(), "{nothing:?}");
        }
    }

    #[test]
    fn a_nodes_number_is_found_below_what_is_stacked() {
        let folder = tempfile::tempdir().expect("a folder");
        let card = folder.path().join("eth0");
        let vlan = folder.path().join("eth0.5");
        fs::create_dir_all(card.join("device")).expect("made");
        fs::create_dir_all(&vlan).expect("made");
        std::os::unix::fs::symlink(&card, vlan.join("lower_eth0")).expect("made");
        assert_eq!(node_below(&vlan, STACK_MAX), None, "not told");
        for (told, node) in [("1\n", Some(1)), ("-1\n", None)] {
            fs::write(card.join("device/numa_node"), told).expect("written");
            assert_eq!(node_below(&card, 0), node);
            assert_eq!(node_below(&vlan, STACK_MAX), node);
        }
        // A loop, which the kernel does not make.
        std::os::unix::fs::symlink(&vlan, vlan.join("lower_a")).expect("made");
        assert_eq!(node_below(&vlan, STACK_MAX), None);
    }

    #[test]
    fn this_system_has_a_topology_with_all_its_cores() {
        let topology = Topology::read(&[0]);
        assert_eq!(topology.order(&free(), None), [0]);
        assert!(topology.cores[&0].siblings.contains(&0));
    }
}
