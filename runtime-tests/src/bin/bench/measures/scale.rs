//! A thousand containers of one image alive at a time, and what the second container of a large
//! image adds to the page cache.

use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::process::Command;
use std::time::{Duration, Instant};

use runtime_tests::host;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use squall::{Ended, Running, Stdio};

use super::{Bench, events, memory};
use crate::args::FEWEST as COMPARED;
use crate::command::timed;
use crate::ground::{Ground, remove_running};
use crate::report::{Section, Series, Unit};
use crate::{Outcome, container, images};

/// So many containers are stopped at a time.
const STOPPED_AT_A_TIME: usize = 16;

/// The grace of their stop.
const GRACE: Duration = Duration::from_secs(10);

/// The file that a worker reads.
const DATA_BYTES: usize = 64 << 20;

/// So many further containers read it after the first.
const FURTHER: usize = 4;

/// How long a worker may take to read it.
const PATIENCE: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// What a further container of an image may add to the page cache, in KiB: with more it does not
/// share the image, and the measurement ends with an error.
const MOST_FURTHER_KIB: f64 = 1024.0;

/// Lines of /proc/meminfo whose sum is the kernel's own memory.
const KERNELS: [&str; 4] = ["SUnreclaim", "Percpu", "KernelStack", "PageTables"];

/// Lines of /proc/meminfo whose sum is the page cache, that of block devices included.
const CACHE: [&str; 2] = ["Cached", "Buffers"];

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let mut sections = many(ground, bench.args.scale())?;
    sections.push(page_cache(ground)?);
    Ok(sections)
}

/// So many at a time.
fn many(ground: &Ground, count: usize) -> Outcome<Vec<Section>> {
    let before = [mounts()?, meminfo(&["MemAvailable"])?, meminfo(&KERNELS)?];
    let mut running = Vec::new();
    for index in 0..count {
        running.push(ground.launch(&format!("scale-{index}"), &ground.layers, container::STAY)?);
    }
    let private = private_memory(&running)?;
    let with_all = [mounts()?, meminfo(&["MemAvailable"])?, meminfo(&KERNELS)?];
    let per_container = |index: usize| (with_all[index] - before[index]) / count as f64;
    let mut memory = private;
    memory.add(MACHINE.to_owned(), -per_container(1));
    memory.add("kernel's share: slab that stays, per CPU, stacks, page tables".to_owned(), per_container(2));
    let events = events::sections(ground, count)?;
    let mut sections = vec![
        launch_section(&running),
        stages_section(&running),
        mounts_section(count, before[0], with_all[0]),
        Section::new("scale-memory", format!("Memory of a container, {count} alive"), Unit::KiB, memory, |_| None)
            .note("private: of each process, from smaps_rollup; the others: difference of /proc/meminfo by the number of containers,")
            .note("where whatever else happens on the machine shows as well"),
        end_section(ground, running)?,
    ];
    sections.extend(events);
    Ok(sections)
}

const MACHINE: &str = "the machine's MemAvailable";

/// The first launches and the last.
fn compared(running: &[Running]) -> [(String, &[Running]); 2] {
    let count = running.len();
    [
        (format!("containers 1 to {COMPARED}"), &running[..COMPARED]),
        (format!("containers {} to {count}", count - COMPARED + 1), &running[count - COMPARED..]),
    ]
}

fn launch_section(running: &[Running]) -> Section {
    let [first, last] = compared(running);
    let mut series = Series::default();
    for (name, launched) in [&first, &last] {
        launched.iter().for_each(|one| series.add(name.clone(), one.record().launch_microseconds as f64));
    }
    let title = "Library call to exec, by how many containers are alive, back to back";
    let section = Section::new("scale-launch", title, Unit::Microseconds, series, |_| Some(first.0.clone()));
    section.note("every ratio is to the first launches")
}

fn stages_section(running: &[Running]) -> Section {
    const FIRST: &str = "first ";
    let [(_, first), (_, last)] = compared(running);
    let mut series = Series::default();
    let mut order = Vec::new();
    for stage in squall::Stage::ALL {
        let of = |one: &Running| {
            let time = one.record().stages.iter().find(|time| time.stage == stage)?;
            Some(time.microseconds as f64)
        };
        for (name, launched) in [(format!("{FIRST}{}", stage.name()), first), (stage.name().to_owned(), last)] {
            launched.iter().filter_map(of).for_each(|value| series.add(name.clone(), value));
            order.push(name);
        }
    }
    let first_of = |row: &str| Some(format!("{FIRST}{}", row.trim_start_matches(FIRST)));
    let title = "Where that time goes, by the record's stages";
    Section::new("scale-stages", title, Unit::Microseconds, series, first_of)
        .in_order_of(&order)
        .note("each stage of the last launches below that of the first")
}

fn mounts_section(count: usize, before: f64, with_all: f64) -> Section {
    let mut series = Series::default();
    series.add("before".to_owned(), before);
    series.add(format!("with {count} containers"), with_all);
    let section =
        Section::new("scale-mounts", "The host's mounts", Unit::Mounts, series, |_| Some("before".to_owned()));
    section.note("lines of /proc/self/mountinfo; every ratio is to the mounts before")
}

/// Private memory of every monitor and worker.
fn private_memory(running: &[Running]) -> Outcome<Series> {
    let mut series = Series::default();
    for container in running {
        let record = container.record();
        let (monitor, worker) = (u32::try_from(record.monitor.pid)?, u32::try_from(record.init.pid)?);
        memory::until_it_watches(monitor);
        let values = memory::of("monitor", monitor)?.into_iter().chain(memory::of("worker (the probe)", worker)?);
        values.filter(|value| value.of.ends_with("private")).for_each(|value| series.add(value.of, value.amount));
    }
    Ok(series)
}

/// Stops them all, several at a time, removes what is kept of them, and reaps.
fn end_section(ground: &Ground, running: Vec<Running>) -> Outcome<Section> {
    let count = running.len();
    let began = Instant::now();
    let ended = stop_all(running)?;
    let stopped = began.elapsed();
    let began = Instant::now();
    ended.into_iter().try_for_each(remove_ended)?;
    let removed = began.elapsed();
    let reaped = timed(reap(ground))?.microseconds;
    let mut series = Series::default();
    let microseconds = |span: Duration| span.as_secs_f64() * 1e6;
    let stop = format!("stop all {count}, {STOPPED_AT_A_TIME} at a time");
    for (name, span) in [(stop, stopped), (format!("remove all {count}, one after the other"), removed)] {
        series.add(format!("{name}: each"), microseconds(span) / count as f64);
        series.add(name, microseconds(span));
    }
    series.add("squall reap --keep 0".to_owned(), reaped);
    let section = Section::new("scale-end", "The end of all", Unit::Microseconds, series, |_| None);
    Ok(section.note("stop: until each is known to have ended; remove: the library's removal of record and directory"))
}

fn reap(ground: &Ground) -> Command {
    ground.squall(&ground.bed.run_root(), &["reap", "--keep", "0"])
}

fn stop_all(running: Vec<Running>) -> Outcome<Vec<Ended>> {
    let share = running.len().div_ceil(STOPPED_AT_A_TIME);
    let stop = |containers: &[Running]| -> Outcome<Vec<Ended>> {
        containers.iter().map(|running| Ok(running.stop(libc::SIGTERM, GRACE)?)).collect()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = running.chunks(share).map(|chunk| scope.spawn(move || stop(chunk))).collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))?);
        }
        Ok(all)
    })
}

fn remove_ended(ended: Ended) -> Outcome<()> {
    match ended {
        Ended::Exited(exited) => Ok(exited.remove()?),
        Ended::Lost(lost) => Err(format!("container '{}' was lost", lost.record().id).into()),
    }
}

/// What a container adds by reading a large file, the first of its image and further ones.
fn page_cache(ground: &Ground) -> Outcome<Section> {
    let data = incompressible(DATA_BYTES);
    let squashfs = images::write_with_data(&ground.bed, "data", &data);
    let mut series = Series::default();
    read_by_several(ground, "squashfs", &squashfs, &mut series)?;
    match images::write_erofs_with_data(&ground.bed, "data", &data) {
        Ok(image) => read_by_several(ground, "EROFS", &image, &mut series)?,
        Err(error) => series.failures.push(format!("EROFS: {error}")),
    }
    timed(reap(ground))?;
    let first_of = |row: &str| {
        let (kind, _) = row.split_once(", ")?;
        let (_, of) = row.split_once(": ")?;
        Some(format!("{kind}, first: {of}"))
    };
    let title = format!("Page cache by reading {} MiB of the image", DATA_BYTES >> 20);
    let section = Section::new("scale-cache", title, Unit::KiB, series, first_of);
    Ok(section
        .note("charged: page cache that the kernel charges to the container's cgroup; whoever reads first is charged")
        .note("machine: difference of Cached and Buffers of /proc/meminfo, where whatever else happens on the machine shows as well")
        .note("every ratio is to the first container of the image"))
}

/// Containers that live at the same time.
fn read_by_several(ground: &Ground, kind: &str, image: &str, series: &mut Series) -> Outcome<()> {
    let mut alive = Vec::new();
    for index in 0..=FURTHER {
        let which = if index == 0 { "first" } else { "further" };
        let before = meminfo(&CACHE)?;
        let reader = reads(ground, &format!("scale-{}-{index}", kind.to_lowercase()), image)?;
        series.add(format!("{kind}, {which}: machine"), meminfo(&CACHE)? - before);
        let charged = charged(&reader)?;
        series.add(format!("{kind}, {which}: charged"), charged);
        if index > 0 && charged >= MOST_FURTHER_KIB {
            return Err(format!(
                "{kind}: container {} of the image has {charged} KiB of page cache of its own",
                index + 1
            )
            .into());
        }
        alive.push(reader);
    }
    alive.into_iter().try_for_each(remove_running)
}

/// A container that has read the file and lives.
fn reads(ground: &Ground, id: &str, image: &str) -> Outcome<Running> {
    let (answer, answering) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut stdio = Stdio::null()?;
    stdio.streams[1] = answering;
    let running = ground.launch_with(id, &[image.to_owned()], &["/bin/probe", "read", "/data", "600000"], stdio)?;
    let mut text = [0; 64];
    let length = match poll(&mut [PollFd::new(&answer, PollFlags::IN)], Some(&PATIENCE))? {
        0 => 0,
        _ => rustix::io::read(answer.as_fd(), &mut text)?,
    };
    let told = String::from_utf8_lossy(&text[..length]).trim_end().to_owned();
    if told == DATA_BYTES.to_string() {
        return Ok(running);
    }
    remove_running(running)?;
    Err(format!("the worker was to read {DATA_BYTES} bytes, and says '{told}'").into())
}

/// KiB of page cache in a container's cgroup.
fn charged(running: &Running) -> Outcome<f64> {
    let directories = host::cgroup_directories(&running.record().cgroup);
    let text = directories.iter().find_map(|directory| fs::read_to_string(directory.join("memory.stat")).ok());
    let text = text.ok_or("no hierarchy has memory.stat")?;
    let bytes = text.lines().find_map(|line| {
        // v1 calls it cache, v2 file.
        let (key, number) = line.split_once(' ')?;
        matches!(key, "cache" | "file").then(|| number.parse::<f64>().ok())?
    });
    Ok(bytes.ok_or("memory.stat without page cache")? / 1024.0)
}

/// The sum of these lines, in KiB.
fn meminfo(keys: &[&str]) -> Outcome<f64> {
    let mut text = String::new();
    fs::File::open("/proc/meminfo")?.read_to_string(&mut text)?;
    let amount = |key: &&str| {
        let line = text.lines().find_map(|line| line.strip_prefix(*key)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default()
    };
    Ok(keys.iter().map(amount).sum())
}

fn mounts() -> Outcome<f64> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().count() as f64)
}

/// Bytes that no compressor makes smaller: Marsaglia's xorshift.
fn incompressible(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    });
    words.flat_map(u64::to_le_bytes).take(count).collect()
}
