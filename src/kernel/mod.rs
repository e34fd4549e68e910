//! What the kernel has to offer: one table of what Squall uses, since when it is there, and what
//! happens without it.
//!
//! Presence is found out by trying, not by the version: distributions carry features back, and
//! sandboxes take system calls away. Where trying needs a privilege that is not there, the version
//! is the second best answer, and said to be that. Used by `plan` and `doctor`; a launch does not
//! ask, it tries.

mod probes;
mod release;

pub use release::Release;

/// Whether something is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// It was tried, and works.
    Present,
    /// It was tried, and does not; the kernel's answer.
    Absent(String),
    /// It could not be tried; why.
    Untried(String),
}

/// What becomes of a launch without a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Without {
    /// There is none.
    NoLaunch,
    /// Something else is done, or known less.
    Instead(&'static str),
}

/// What trying a feature does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A call that changes nothing.
    Look,
    /// A process, a namespace or an open device of our own, gone afterwards.
    Act,
}

/// Something of the kernel that Squall uses.
#[derive(Debug)]
#[non_exhaustive]
pub struct Feature {
    /// Its name, or that of the call.
    pub name: &'static str,
    /// The first release of the kernel that has it.
    pub since: Release,
    /// What Squall uses it for.
    pub used_for: &'static str,
    /// What happens where it is missing.
    pub without: Without,
    /// What [`Feature::probe`] does.
    pub effort: Effort,
    /// Tries it. One of [`Effort::Act`] belongs into a child ([`child_task`](crate::child_task)).
    pub probe: fn() -> Presence,
}

const fn feature(
    name: &'static str,
    since: Release,
    used_for: &'static str,
    without: Without,
    effort: Effort,
    probe: fn() -> Presence,
) -> Feature {
    Feature { name, since, used_for, without, effort, probe }
}

/// Everything that differs between kernels and that Squall uses, oldest first.
pub const FEATURES: [Feature; 12] = {
    use Effort::{Act, Look};
    use Without::{Instead, NoLaunch};
    [
        feature("open_tree, fsmount", Release(5, 2), "detached mounts", NoLaunch, Look, probes::open_tree),
        feature("clone3", Release(5, 3), "init, with a pidfd from its birth", NoLaunch, Act, probes::clone3),
        feature("openat2", Release(5, 6), "mount points inside the root", NoLaunch, Look, probes::openat2),
        feature(
            "LOOP_CONFIGURE",
            Release(5, 8),
            "binding layers to loop devices",
            NoLaunch,
            Act,
            probes::loop_configure,
        ),
        feature("close_range", Release(5, 11), "nothing crosses an exec", NoLaunch, Look, probes::close_range),
        feature("mount_setattr", Release(5, 12), "binds; libcontainer needs it", NoLaunch, Look, probes::mount_setattr),
        feature("overlay-500", Release(5, 12), "500 layers by mount(2)", NoLaunch, Act, probes::overlay_of_many),
        feature(
            "cgroup.kill",
            Release(5, 14),
            "ending a whole tree at once",
            Instead("the end of init's pid namespace; signals while frozen"),
            Look,
            probes::cgroup_kill,
        ),
        feature(
            "memory.peak",
            Release(5, 19),
            "a figure of the exit record (cgroup v2)",
            Instead("v1 has a peak of its own; elsewhere the figure is absent"),
            Look,
            probes::memory_peak,
        ),
        feature(
            "pids.peak",
            Release(6, 1),
            "a figure of the exit record (cgroup v2)",
            Instead("the figure is absent"),
            Look,
            probes::pids_peak,
        ),
        feature(
            "MFD_EXEC",
            Release(6, 3),
            "our programs in memory where vm.memfd_noexec is 1",
            Instead("every memfd can be executed"),
            Look,
            probes::memfd_exec,
        ),
        feature(
            "PIDFD_INFO_EXIT",
            Release(6, 15),
            "the exit of a container whose monitor was killed",
            Instead("'lost' alone"),
            Act,
            probes::pidfd_exit,
        ),
    ]
};

impl Feature {
    /// Whether it is there as far as looking can tell, and how that is known.
    #[must_use]
    pub fn look(&self, release: Option<Release>) -> (Presence, String) {
        let presence = match self.effort {
            Effort::Look => (self.probe)(),
            Effort::Act => Presence::Untried("trying it would do more than look".to_owned()),
        };
        self.judge(presence, release)
    }

    /// What follows from a try: where there was none, the version is asked.
    #[must_use]
    pub fn judge(&self, presence: Presence, release: Option<Release>) -> (Presence, String) {
        let since = self.since;
        match (presence, release) {
            (Presence::Present, _) => (Presence::Present, format!("tried: it is there (since {since})")),
            (Presence::Absent(answer), _) => {
                let text = format!("tried: {answer} (in kernels since {since})");
                (Presence::Absent(answer), text)
            }
            (Presence::Untried(why), None) => (Presence::Untried(why.clone()), format!("not tried: {why}")),
            (Presence::Untried(why), Some(release)) if release >= since => {
                (Presence::Present, format!("by version: {release} has it (since {since}); {why}"))
            }
            (Presence::Untried(why), Some(release)) => {
                let text = format!("by version: {release} is older than {since}; {why}");
                (Presence::Absent(text.clone()), text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never() -> Presence {
        Presence::Untried("no privilege".to_owned())
    }

    #[test]
    fn what_cannot_be_tried_is_judged_by_the_version_and_said_to_be() {
        let one = feature("x", Release(5, 12), "y", Without::NoLaunch, Effort::Look, never);
        let (presence, text) = one.look(Some(Release(5, 12)));
        assert_eq!(presence, Presence::Present);
        assert!(text.starts_with("by version: 5.12 has it"), "{text}");
        assert!(matches!(one.look(Some(Release(5, 11))).0, Presence::Absent(_)));
        assert!(matches!(one.look(None).0, Presence::Untried(_)));
    }

    /// The table as the crate's front page has it, and README.
    #[test]
    fn the_written_table_is_this_one() {
        let mut table = String::from("| feature | since | used for | without |\n|---|---|---|---|\n");
        for Feature { name, since, used_for, without, .. } in FEATURES {
            let without = match without {
                Without::NoLaunch => "not supported",
                Without::Instead(words) => words,
            };
            table.push_str(&format!("| {name} | {since} | {used_for} | {without} |\n"));
        }
        assert_eq!(include_str!("features.md"), table);
        assert!(include_str!("../../README.md").contains(&table), "README's table is another one");
    }

    #[test]
    fn the_table_is_in_the_order_of_the_versions_and_looking_tries_nothing_that_acts() {
        assert!(FEATURES.windows(2).all(|pair| pair[0].since <= pair[1].since));
        for one in FEATURES.iter().filter(|one| one.effort == Effort::Act) {
            assert!(matches!(one.look(None).0, Presence::Untried(_)), "{}", one.name);
        }
    }
}
