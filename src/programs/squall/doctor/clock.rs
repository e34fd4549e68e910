//! Clocks: what spans, deadlines and records are measured by.

use rustix::time::{ClockId, clock_getres, clock_gettime};

use super::finding::Finding;
use super::machine::Machine;

/// 1 January 2024: no machine that runs this lives before it.
const EARLIEST: i64 = 1_704_067_200;

/// 1 January 2100.
const LATEST: i64 = 4_102_444_800;

/// How far the machine's clock and its battery's may be apart.
const DRIFT_SECONDS: u64 = 60;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    vec![
        resolution(),
        boot_time(),
        realtime(clock_gettime(ClockId::Realtime).tv_sec),
        battery(machine),
        source(machine),
    ]
}

fn resolution() -> Finding {
    let resolution = clock_getres(ClockId::Monotonic);
    let nanoseconds = resolution.tv_sec * 1_000_000_000 + resolution.tv_nsec;
    match nanoseconds {
        0..=1_000_000 => Finding::ok("monotonic", format!("resolution {nanoseconds} ns")),
        _ => Finding::limited(
            "monotonic",
            format!("resolution {nanoseconds} ns: stages of a launch cannot be told apart"),
            "boot a kernel with CONFIG_HIGH_RES_TIMERS",
        ),
    }
}

/// Runs on while the machine sleeps; a process's start is told by it.
fn boot_time() -> Finding {
    let (boot, monotonic) = (clock_gettime(ClockId::Boottime).tv_sec, clock_gettime(ClockId::Monotonic).tv_sec);
    match boot >= monotonic {
        true => Finding::ok("boottime", format!("up for {boot} s, asleep for {} s of them", boot - monotonic)),
        false => Finding::limited(
            "boottime",
            format!("{boot} s, behind the monotonic clock ({monotonic} s): a time namespace shifts it"),
            "run it outside of the time namespace: pids are told apart by their start",
        ),
    }
}

fn realtime(now: i64) -> Finding {
    match now {
        EARLIEST..LATEST => Finding::ok("realtime", format!("{now} s since 1970")),
        _ => Finding::limited(
            "realtime",
            format!("{now} s since 1970, which cannot be: ages and file times in records are wrong"),
            "set the clock (NTP, or date -s)",
        ),
    }
}

fn battery(machine: &Machine) -> Finding {
    const NAME: &str = "RTC";
    let Some(battery) = machine.number("/sys/class/rtc/rtc0/since_epoch") else {
        return Finding::ok(NAME, "none: the host or the network has to set the clock");
    };
    let now = clock_gettime(ClockId::Realtime).tv_sec as u64;
    match now.abs_diff(battery) {
        apart @ 0..=DRIFT_SECONDS => Finding::ok(NAME, format!("{apart} s from the clock")),
        apart => Finding::limited(
            NAME,
            format!("{apart} s from the clock: one of both is wrong, or it keeps local time"),
            "set the clock (NTP), then hwclock --systohc --utc",
        ),
    }
}

fn source(machine: &Machine) -> Finding {
    const NAME: &str = "source";
    match machine.text("/sys/devices/system/clocksource/clocksource0/current_clocksource").as_deref() {
        Ok("jiffies") => Finding::limited(NAME, "jiffies: coarse, and drifts", "boot without clocksource=jiffies"),
        Ok(source) => Finding::ok(NAME, source.to_owned()),
        Err(error) => Finding::unknown(NAME, format!("the clock source cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fixture::machine;
    use super::*;

    #[test]
    fn times_that_cannot_be_are_told() {
        for (now, expected) in [(0, State::Limited), (1_790_000_000, State::Ok), (i64::MAX, State::Limited)] {
            assert_eq!(realtime(now).state, expected);
        }
        let (_top, old) = machine(&[("/sys/class/rtc/rtc0/since_epoch", "5\n")]);
        assert_eq!(battery(&old).state, State::Limited);
        let (_top, coarse) =
            machine(&[("/sys/devices/system/clocksource/clocksource0/current_clocksource", "jiffies\n")]);
        assert_eq!(source(&coarse).state, State::Limited);
    }
}
