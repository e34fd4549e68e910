//! Whose memory limit was it. The kernel keeps the counts, in eventfds (cgroup v1) and files (v2),
//! until the monitor looks.
//!
//! They are read when somebody asks and when the container has ended, never waited for: nothing is
//! decided by them, and in v2 the file that tells of out-of-memory tells of every reclaim at the
//! limit too, up to a hundred times a second.

use super::handover::{MAX_WATCHES, OomKind, OomWatch};
use super::list::List;

/// How often each watched cgroup's own limit was the one that was hit, in the order of the watches.
///
/// In v1 the kernel notifies the cgroup whose limit it is *and everything below it*, so what an
/// ancestor counted is taken off what the watch before it counted. `seen` holds the count of each
/// watch, the container's cgroup first, then its ancestors going up.
pub fn own_events(watches: &[OomWatch<'_>], seen: &[u64]) -> List<u64, MAX_WATCHES> {
    let mut events = List::new();
    for (index, (watch, count)) in watches.iter().zip(seen).enumerate() {
        let above = watches.iter().zip(seen).skip(index + 1).find(|(watch, _)| watch.kind == OomKind::Eventfd);
        let inherited = match (watch.kind, above) {
            (OomKind::Eventfd, Some((_, count))) => *count,
            _ => 0,
        };
        let _ = events.push(count.saturating_sub(inherited)); // as many as there are watches
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_counts_for_the_one_cgroup_whose_limit_was_hit() {
        let v1 = OomWatch { fd: 0, kind: OomKind::Eventfd, baseline: 0, ancestor: None };
        let v2 = OomWatch { kind: OomKind::MemoryEvents, ..v1 };
        // three at the own limit, two at the parent's, one at the grandparent's
        assert_eq!(*own_events(&[v1, v1, v1], &[6, 3, 1]), [3, 2, 1]);
        assert_eq!(*own_events(&[v2, v2], &[3, 2]), [3, 2]);
        assert_eq!(*own_events(&[v1], &[4]), [4]);
        assert!(own_events(&[], &[]).is_empty());
    }
}
