//! Which free processors a container gets.
//!
//! Pure: memory nodes and free processors in, a list out.

use std::collections::BTreeSet;

use crate::cgroup::CpuList;
use crate::request::Placement;

/// A memory node and its processors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) number: u16,
    pub(super) cpus: BTreeSet<u16>,
}

/// Processors, and the node that all of them are of where that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) cpus: CpuList,
    pub(super) node: Option<u16>,
}

/// The processors of `free` for a container. Of the node in which least remains, so that whole
/// nodes stay free; of several nodes, the emptiest last, only where no node has enough and that
/// will do. `None`: there are not enough.
pub(super) fn choose(free: &BTreeSet<u16>, nodes: &[Node], count: u16, placement: Placement) -> Option<Chosen> {
    let count = usize::from(count);
    let mut by_room: Vec<(Vec<u16>, u16)> =
        nodes.iter().map(|node| (node.cpus.intersection(free).copied().collect(), node.number)).collect();
    by_room.sort_by_key(|(cpus, number)| (cpus.len(), *number));
    if let Some((cpus, node)) = by_room.iter().find(|(cpus, _)| cpus.len() >= count) {
        let node = Some(*node).filter(|_| placement == Placement::OneNode);
        return Some(Chosen { cpus: CpuList::of(cpus.iter().copied().take(count))?, node });
    }
    if placement == Placement::OneNode || free.len() < count {
        return None;
    }
    // A processor of no node that is known comes last.
    let known: Vec<u16> = by_room.into_iter().flat_map(|(cpus, _)| cpus).collect();
    let others = free.iter().copied().filter(|cpu| !known.contains(cpu)).collect::<Vec<_>>();
    let cpus = CpuList::of(known.iter().copied().chain(others).take(count))?;
    Some(Chosen { cpus, node: None })
}

/// How many one container could have at most.
pub(super) fn most(free: &BTreeSet<u16>, nodes: &[Node], placement: Placement) -> usize {
    match placement {
        Placement::OneNode => nodes.iter().map(|node| node.cpus.intersection(free).count()).max().unwrap_or(0),
        Placement::Anywhere => free.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Vec<Node> {
        [(0, 0..4), (1, 4..8)].map(|(number, cpus)| Node { number, cpus: cpus.collect() }).to_vec()
    }

    fn chosen(free: &[u16], count: u16, placement: Placement) -> Option<(String, Option<u16>)> {
        let free = free.iter().copied().collect();
        choose(&free, &nodes(), count, placement).map(|chosen| (chosen.cpus.to_string(), chosen.node))
    }

    #[test]
    fn the_node_with_the_least_room_that_is_enough_gives_them() {
        let all: Vec<u16> = (0..8).collect();
        for (free, count, anywhere, one_node) in [
            (&all[..], 2, Some(("0-1", None)), Some(("0-1", Some(0)))),
            (&all[2..], 2, Some(("2-3", None)), Some(("2-3", Some(0)))),
            (&all[3..], 2, Some(("4-5", None)), Some(("4-5", Some(1)))),
            (&[1, 3, 4, 6, 7], 3, Some(("4,6-7", None)), Some(("4,6-7", Some(1)))),
            (&all[3..], 5, Some(("3-7", None)), None),
            (&all, 8, Some(("0-7", None)), None),
            (&[2, 5], 2, Some(("2,5", None)), None),
            (&[2, 5], 3, None, None),
            (&[], 1, None, None),
        ] {
            let text = |expected: Option<(&str, Option<u16>)>| expected.map(|(cpus, node)| (cpus.to_owned(), node));
            assert_eq!(chosen(free, count, Placement::Anywhere), text(anywhere), "{count} of {free:?}");
            assert_eq!(chosen(free, count, Placement::OneNode), text(one_node), "{count} of {free:?}");
        }
    }

    #[test]
    fn a_processor_of_no_node_is_given_last_and_never_where_one_node_is_asked_for() {
        assert_eq!(chosen(&[3, 9], 2, Placement::Anywhere), Some(("3,9".into(), None)));
        assert_eq!(chosen(&[9], 1, Placement::Anywhere), Some(("9".into(), None)));
        assert_eq!(chosen(&[9], 1, Placement::OneNode), None);
    }

    #[test]
    fn what_could_be_had_at_most_is_told() {
        let free = [1, 2, 3, 7].into_iter().collect();
        assert_eq!((most(&free, &nodes(), Placement::Anywhere), most(&free, &nodes(), Placement::OneNode)), (4, 3));
    }
}
