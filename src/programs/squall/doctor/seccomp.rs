//! Seccomp: whether filters can be installed, and whether one lies over us already.

use super::finding::Finding;
use super::machine::Machine;
use squall::child_task;
use squall::request::Seccomp;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![actions(machine), install(), over_us(machine)]
}

fn actions(machine: &Machine) -> Finding {
    const NEEDED: [&str; 4] = ["allow", "errno", "kill_process", "log"];
    let Ok(listed) = machine.text("/proc/sys/kernel/seccomp/actions_avail") else {
        return Finding::unknown("actions", "/proc/sys/kernel/seccomp/actions_avail cannot be read");
    };
    let lacking: Vec<&str> =
        NEEDED.into_iter().filter(|action| !listed.split_whitespace().any(|word| word == *action)).collect();
    match lacking.is_empty() {
        true => Finding::ok("actions", listed),
        false => Finding::limited(
            "actions",
            format!("{listed}; not {}", lacking.join(" ")),
            "boot a newer kernel; profiles that use them cannot be kept",
        ),
    }
}

/// The default filter, upon a process that ends at once.
fn install() -> Finding {
    let tried = child_task::apart(super::PATIENCE, || {
        rustix::thread::set_no_new_privs(true).map_err(|errno| format!("no_new_privs: {errno}"))?;
        let filter = Seccomp::Default.filter().map_err(|error| error.to_string())?;
        filter.map_or(Ok(()), |filter| filter.install()).map_err(|error| error.to_string())
    });
    match tried {
        Ok(Ok(())) => Finding::ok("filters", "tried: one can be installed"),
        Ok(Err(why)) => Finding::limited(
            "filters",
            format!(
                "tried: {why}; workers are refused, unless they are to run without a filter (--security-opt seccomp=unconfined)"
            ),
            "boot a kernel with CONFIG_SECCOMP_FILTER; in a container: allow seccomp(2)",
        ),
        Err(failure) => Finding::unknown("filters", failure.to_string()),
    }
}

fn over_us(machine: &Machine) -> Finding {
    const NAME: &str = "over this process";
    match machine.field("/proc/self/status", "Seccomp").as_deref() {
        Some("0") => Finding::ok(NAME, "none"),
        Some(_) => {
            let count = machine.field("/proc/self/status", "Seccomp_filters");
            let count = count.map_or(String::new(), |count| format!(" ({count})"));
            Finding::ok(
                NAME,
                format!("filters{count}: what the kernel has may be hidden from us; workers inherit them"),
            )
            .advise("in docker: --security-opt seccomp=unconfined, if calls turn out to be missing")
        }
        None => Finding::unknown(NAME, "/proc/self/status does not say"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fixture::machine;
    use super::*;

    #[test]
    fn what_profiles_need_is_named_when_it_is_not_there() {
        for (listed, expected) in
            [("kill_process kill_thread trap errno trace log allow", State::Ok), ("trap errno allow", State::Limited)]
        {
            let (_top, made) = machine(&[("/proc/sys/kernel/seccomp/actions_avail", listed)]);
            assert_eq!(actions(&made).state, expected);
        }
    }

    #[test]
    fn filters_over_us_are_told_and_are_no_fault() {
        let (_top, made) = machine(&[("/proc/self/status", "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t3\n")]);
        let found = over_us(&made);
        assert!(found.state == State::Ok && found.seen.starts_with("filters (3)"), "{found:?}");
    }
}
