//! One stream of events over all containers that are alive: what it costs to begin, and while
//! nothing happens.

use std::time::{Duration, Instant};

use runtime_tests::host;
use rustix::time::{ClockId, clock_gettime};
use squall::Change;

use crate::Outcome;
use crate::ground::Ground;
use crate::report::{Section, Series, Unit};

/// So long nothing is to happen.
const IDLE: Duration = Duration::from_secs(10);

/// With `count` containers alive, and nobody else at work in the run root.
pub fn sections(ground: &Ground, count: usize) -> Outcome<Vec<Section>> {
    let (mut times, mut counts) = (Series::default(), Series::default());
    let descriptors = host::open_fds("self").len();
    let (began, cpu) = (Instant::now(), cpu_time());
    let mut events = ground.embedded.events()?;
    let mut told = 0;
    while let Some(event) = events.next_timeout(Duration::ZERO)? {
        told += usize::from(event.snapshot && matches!(event.change, Change::Started(_)));
    }
    times.add("begin, and read the snapshot".to_owned(), microseconds(began.elapsed()));
    times.add("of that, processor time".to_owned(), cpu_time() - cpu);
    if told != count {
        return Err(format!("the stream told of {told} containers that run, and there are {count}").into());
    }
    counts.add(
        "descriptors for each container".to_owned(),
        (host::open_fds("self").len() - descriptors) as f64 / count as f64,
    );
    let (cpu, wakeups) = (cpu_time(), wakeups()?);
    if let Some(event) = events.next_timeout(IDLE)? {
        return Err(format!("something happened: {event:?}").into());
    }
    times.add(format!("processor time of this program in {} s without an event", IDLE.as_secs()), cpu_time() - cpu);
    // The deadline of the wait itself is one.
    counts.add(format!("wake-ups in these {} s, the deadline's included", IDLE.as_secs()), self::wakeups()? - wakeups);
    let title = format!("A stream of events over {count} containers");
    Ok(vec![
        Section::new("events", &title, Unit::Microseconds, times, |_| None),
        Section::new("events-counts", title, Unit::Calls, counts, |_| None),
    ])
}

fn microseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// Of this process, in microseconds.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn wakeups() -> Outcome<f64> {
    Ok(host::status(std::process::id(), "voluntary_ctxt_switches").parse()?)
}
