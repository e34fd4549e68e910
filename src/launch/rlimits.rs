//! The resource limits that a worker starts with: stated here, and not those of the host's first
//! process, which a service manager raises for itself (systemd's has RLIMIT_NOFILE 1073741816 and
//! RLIMIT_MEMLOCK of an eighth of the memory).
//!
//! | limit | soft, hard | source |
//! |---|---|---|
//! | CPU, FSIZE, DATA, RSS, AS, LOCKS, RTTIME | none | the kernel's for its first process (`INIT_RLIMITS`, include/asm-generic/resource.h) |
//! | STACK | 8 MiB, none | the same |
//! | CORE | 0, none | the same |
//! | NICE, RTPRIO | 0 | the same |
//! | NPROC | as the host's first process has it | the kernel's, by the machine's memory (`fork_init`); service managers leave it |
//! | NOFILE | 1024, 524288 | systemd's for services since 240 (`DefaultLimitNOFILE`) |
//! | MEMLOCK | 8 MiB | the kernel's since 5.16 (`MLOCK_LIMIT`); systemd's for services |
//! | SIGPENDING | 4096, or what NPROC's source has where that is less | a user's programs on the host have the kernel's, far more |
//! | MSGQUEUE | 409600 bytes | half of the kernel's (`MQ_BYTES_MAX`) |
//!
//! The kernel counts the last two for each user of the host: a worker of uid 0 takes of what root's
//! own programs have, and these have more.

use crate::sys::{self, Rlimit};

type Resource = libc::__rlimit_resource_t;

/// Open files of a worker that does not ask for more. Programs that need more raise it themselves,
/// and those that use select(2) fail above.
const SOFT_FILES: u64 = 1024;

/// Most open files.
const HARD_FILES: u64 = 524_288;

const MEMLOCK_BYTES: u64 = 8 << 20;
const STACK_BYTES: u64 = 8 << 20;
const MOST_SIGNALS: u64 = 4096;
const MSGQUEUE_BYTES: u64 = 409_600;
const NONE: u64 = libc::RLIM_INFINITY;

/// The limit of a launch, which its worker inherits. The soft one of open files comes last
/// ([`lower_files`]): a launch of 500 layers has more.
pub(super) fn wanted(resource: Resource) -> std::io::Result<Rlimit> {
    let both = |limit| Rlimit { soft: limit, hard: limit };
    Ok(match resource {
        libc::RLIMIT_STACK => Rlimit { soft: STACK_BYTES, hard: NONE },
        libc::RLIMIT_CORE => Rlimit { soft: 0, hard: NONE },
        libc::RLIMIT_NICE | libc::RLIMIT_RTPRIO => both(0),
        libc::RLIMIT_NPROC => sys::rlimit_of(1, resource)?,
        libc::RLIMIT_NOFILE => both(HARD_FILES),
        libc::RLIMIT_MEMLOCK => both(MEMLOCK_BYTES),
        libc::RLIMIT_SIGPENDING => both(sys::rlimit_of(1, resource)?.hard.min(MOST_SIGNALS)),
        libc::RLIMIT_MSGQUEUE => both(MSGQUEUE_BYTES),
        _ => both(NONE),
    })
}

/// What a process can have of it that may not raise its hard limit.
pub(super) fn possible(wanted: Rlimit, own: Rlimit) -> Rlimit {
    let hard = wanted.hard.min(own.hard);
    Rlimit { soft: wanted.soft.min(hard), hard }
}

/// Whether that is less than the worker would start with.
pub(super) fn is_short(resource: Resource, possible: Rlimit, wanted: Rlimit) -> bool {
    let needed = if resource == libc::RLIMIT_NOFILE { SOFT_FILES } else { wanted.soft };
    possible.soft < needed
}

/// Brings the soft limit of open files down to a worker's. By init, last before it executes the
/// workload.
pub(super) fn lower_files() {
    let Ok(own) = sys::rlimit_of(0, libc::RLIMIT_NOFILE) else { return };
    // A soft limit may always be lowered.
    let _ = sys::set_rlimit(libc::RLIMIT_NOFILE, Rlimit { soft: own.soft.min(SOFT_FILES), ..own });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::RLIMITS;

    #[test]
    fn no_limit_depends_on_what_the_first_process_has_for_itself() {
        for (resource, name) in RLIMITS {
            let wanted = wanted(resource).unwrap();
            assert!(wanted.soft <= wanted.hard, "{name}");
            let own = sys::rlimit_of(1, resource).unwrap();
            assert!(resource != libc::RLIMIT_SIGPENDING || wanted.hard <= own.hard, "{name}: {wanted:?}");
        }
        let bounded =
            [(libc::RLIMIT_NOFILE, 524_288), (libc::RLIMIT_MEMLOCK, 8 << 20), (libc::RLIMIT_MSGQUEUE, 409_600)];
        for (resource, hard) in bounded {
            assert_eq!(wanted(resource).unwrap().hard, hard);
        }
    }

    #[test]
    fn a_hard_limit_is_kept_where_it_is_lower_and_lowered_where_it_is_higher() {
        let limit = |soft, hard| Rlimit { soft, hard };
        for (wanted, own, expected) in [
            (limit(10, 20), limit(1, NONE), limit(10, 20)),
            (limit(10, 20), limit(1, 15), limit(10, 15)),
            (limit(10, 20), limit(1, 5), limit(5, 5)),
            (limit(0, NONE), limit(7, 7), limit(0, 7)),
        ] {
            assert_eq!(possible(wanted, own), expected, "{wanted:?} {own:?}");
        }
    }

    #[test]
    fn fewer_open_files_than_a_launch_would_have_are_no_loss_for_the_worker() {
        let (wanted, few) =
            (Rlimit { soft: HARD_FILES, hard: HARD_FILES }, |files| Rlimit { soft: files, hard: files });
        assert!(!is_short(libc::RLIMIT_NOFILE, few(1024), wanted));
        assert!(is_short(libc::RLIMIT_NOFILE, few(1023), wanted));
    }
}
