//! Bytes on their way from a worker's pipe into the log: each in one place, whenever the copier is
//! killed (see the [module](super)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, ioctl_fionread, read, retry_on_intr};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice, tee};

use super::file::{Extent, LogFile};
use super::format::{Format, Source, Stamp};
use super::state::{Pending, State, StateFile};
use crate::host::{ClockId, nanoseconds};

/// Most bytes at a time: what a pipe holds.
const CHUNK: usize = 64 << 10;

/// Most bytes that are written at a time: empty lines with timestamps are many times what the
/// worker wrote.
const MOST_WRITTEN: u64 = 256 << 10;

/// One stream of the worker's.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) source: Source,
    /// The worker's pipe, to be read.
    pub(super) from: OwnedFd,
    /// The holding pipe, to be written and to be read.
    pub(super) hold: OwnedFd,
    pub(super) held: OwnedFd,
    /// Whether nobody can write any more.
    pub(super) ended: bool,
}

impl Channel {
    /// How many bytes are in the holding pipe.
    fn count(&self) -> u64 {
        ioctl_fionread(&self.held).unwrap_or(0)
    }

    /// Fills the holding pipe if it is empty; whether something is in it.
    fn fill(&mut self) -> bool {
        if self.count() > 0 {
            return true;
        }
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match retry_on_intr(|| splice(&self.from, None, &self.hold, None, CHUNK, flags)) {
            Ok(0) => self.ended = true,
            Ok(_) => return true,
            Err(Errno::AGAIN) => {}
            Err(_) => self.ended = true,
        }
        false
    }

    /// Takes the first bytes out of the holding pipe, into `/dev/null`. A kill may come before all
    /// are taken.
    fn take(&self, count: u64, sink: &OwnedFd) {
        let mut rest = usize::try_from(count).unwrap_or(usize::MAX);
        while rest > 0 {
            // Not by read(2): of a packet (a pipe with O_DIRECT, which the worker may set) that
            // would take the whole, and give a part.
            match retry_on_intr(|| splice(&self.held, None, sink, None, rest, SpliceFlags::NONBLOCK)) {
                Ok(0) | Err(_) => return,
                Ok(length) => rest -= length,
            }
        }
    }
}

/// What writes the log and keeps account of it.
#[derive(Debug)]
pub(super) struct Writer {
    state: State,
    file: StateFile,
    log: LogFile,
    format: Format,
    /// `/dev/null`.
    sink: OwnedFd,
    /// A pipe to look at the holding pipe through, once it was needed.
    scratch: Option<(OwnedFd, OwnedFd)>,
    /// What is looked at: a copy of the holding pipe's bytes.
    output: Vec<u8>,
    /// What is written for it.
    out: Vec<u8>,
    /// Why the last bytes were dropped.
    why: Option<String>,
}

impl Writer {
    pub(super) fn new(file: StateFile, log: LogFile, format: Format) -> io::Result<Writer> {
        let sink = open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        let (state, output, out) = (State::default(), Vec::new(), Vec::new());
        Ok(Writer { state, file, log, format, sink, scratch: None, output, out, why: None })
    }

    /// Every descriptor that is needed.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.file.as_fd(), self.log.directory().as_fd(), self.sink.as_fd()]
    }

    /// Goes on where the last copier was, with what changes told to the state.
    pub(super) fn begin(&mut self, channels: &[Channel; 2], change: impl FnOnce(&mut State)) {
        self.state = self.file.read().unwrap_or_default();
        change(&mut self.state);
        self.save();
        if let Some(pending) = self.state.pending {
            let of = |channel: &&Channel| channel.source == pending.stamp.source;
            channels.iter().filter(of).for_each(|channel| self.resume(channel, pending));
        }
    }

    /// Lets nothing be open that keeps a file of the log from being gone.
    pub(super) fn rest(&mut self) {
        self.log.close();
        (self.scratch, self.output, self.out) = (None, Vec::new(), Vec::new());
    }

    /// Says what is still to be said, and that everything is there.
    pub(super) fn finish(&mut self) {
        if self.state.unsaid_bytes > 0
            && let Ok(extent) = self.log.extent()
        {
            let stamp = Stamp { source: Source::Stderr, unix_ns: nanoseconds(ClockId::Realtime) };
            let note = self.note(stamp, extent.bytes);
            match self.log.append(&note) {
                (_, None) => self.state.unsaid_bytes = 0,
                (_, Some(_)) => self.log.cut(extent.bytes),
            }
        }
        self.state.status.complete = true;
        self.save();
    }

    /// Moves what a stream has at hand; whether there was anything.
    pub(super) fn move_from(&mut self, channel: &mut Channel) -> bool {
        if !channel.fill() {
            return false;
        }
        let stamp = Stamp { source: channel.source, unix_ns: nanoseconds(ClockId::Realtime) };
        loop {
            let held = channel.count();
            if held == 0 {
                return true;
            }
            if let Err(error) = self.look(channel, held) {
                // No descriptor, or no memory, to look through.
                self.drop_output(channel, stamp, held, held, error.to_string());
                continue;
            }
            self.write_some(channel, stamp, held);
        }
    }

    /// Copies what is in the holding pipe without taking it.
    fn look(&mut self, channel: &Channel, held: u64) -> io::Result<()> {
        // Put back when it is empty again: after a failure it is not.
        let scratch = self.scratch.take();
        let (reading, writing) = scratch.map_or_else(|| pipe_with(PipeFlags::CLOEXEC), Ok)?;
        let most = usize::try_from(held).unwrap_or(CHUNK).min(CHUNK);
        let length = retry_on_intr(|| tee(&channel.held, &writing, most, SpliceFlags::NONBLOCK))?;
        self.output.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            match retry_on_intr(|| read(&reading, &mut self.output[filled..]))? {
                0 => return Err(Errno::IO.into()),
                count => filled += count,
            }
        }
        self.scratch = Some((reading, writing));
        Ok(())
    }

    /// Writes as much of the output as the file has room for, and takes it from the holding pipe.
    fn write_some(&mut self, channel: &Channel, stamp: Stamp, held: u64) {
        let extent = match self.log.extent() {
            Ok(extent) => extent,
            Err(error) => return self.drop_output(channel, stamp, held, self.output.len() as u64, error.to_string()),
        };
        let room = self.log.room(extent.bytes).min(MOST_WRITTEN);
        let mut taken = self.compose(self.output.len(), stamp, extent.bytes, room);
        if taken == 0 {
            if self.log.rotate().is_ok() {
                return;
            }
            // Better a file that is too large than output that is lost.
            taken = self.compose(self.output.len(), stamp, extent.bytes, MOST_WRITTEN);
        }
        let Extent { inode, bytes: base } = extent;
        let (taken, added, said) = (taken as u64, self.out.len() as u64, self.state.unsaid_bytes);
        let pending = Pending { stamp, held, taken, dropped: 0, said, inode, base, added };
        self.announce(pending);
        let (written, error) = self.log.append(&self.out);
        let pending = error.map_or(pending, |error| self.shorten(pending, written as u64, error));
        self.settle(channel, pending, pending.taken);
    }

    /// What is written for the first `length` bytes of the output, and before it how much was lost;
    /// how many bytes of the output that is. Nothing is told without output behind it, or a disk
    /// that stays full would come to hold nothing else.
    fn compose(&mut self, length: usize, stamp: Stamp, base: u64, room: u64) -> usize {
        self.out.clear();
        if self.state.unsaid_bytes > 0 {
            self.out = self.note(stamp, base);
        }
        let room = room.saturating_sub(self.out.len() as u64);
        let taken = self.format.write(&self.output[..length], stamp, room, &mut self.out);
        if taken == 0 {
            self.out.clear();
        }
        taken
    }

    fn note(&self, stamp: Stamp, base: u64) -> Vec<u8> {
        let stamp = Stamp { source: Source::Stderr, ..stamp };
        let why = self.state.status.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
        let text = format!("{} bytes of output lost{why}", self.state.unsaid_bytes);
        self.format.note(&text, stamp, self.log.is_midline(base))
    }

    /// After a write that failed: what is whole of it stays, the rest is taken back and dropped.
    fn shorten(&mut self, pending: Pending, written: u64, error: Errno) -> Pending {
        self.why = Some(error.to_string());
        let length = (pending.taken - pending.dropped) as usize;
        let kept = self.compose(length, pending.stamp, pending.base, written) as u64;
        let (added, said) = (self.out.len() as u64, if kept > 0 { pending.said } else { 0 });
        self.log.cut(pending.base + added);
        let pending = Pending { dropped: pending.taken - kept, said, added, ..pending };
        self.announce(pending);
        pending
    }

    /// Drops output that there is no file for.
    fn drop_output(&mut self, channel: &Channel, stamp: Stamp, held: u64, count: u64, why: String) {
        self.why = Some(why);
        let pending = Pending { stamp, held, taken: count, dropped: count, said: 0, inode: 0, base: 0, added: 0 };
        self.announce(pending);
        self.settle(channel, pending, pending.taken);
    }

    /// Ends what another copier began.
    fn resume(&mut self, channel: &Channel, pending: Pending) {
        // The first byte was taken when the last one was written.
        let already = pending.held.saturating_sub(channel.count());
        let mut pending = pending;
        if already == 0 && pending.added > 0 && self.look(channel, pending.taken).is_ok() {
            let length = (pending.taken - pending.dropped) as usize;
            self.compose(length.min(self.output.len()), pending.stamp, pending.base, u64::MAX);
            match self.log.extent() {
                Ok(extent) => {
                    let same = extent.inode == pending.inode;
                    let there = if same { extent.bytes.saturating_sub(pending.base) } else { 0 };
                    let there = there.min(self.out.len() as u64);
                    if !same {
                        // It was renamed or deleted meanwhile; the new one has it from here on.
                        pending.base = extent.bytes;
                    }
                    let (written, error) = self.log.append(&self.out[there as usize..]);
                    if let Some(error) = error {
                        pending = self.shorten(pending, there + written as u64, error);
                    }
                }
                Err(error) => {
                    self.why = Some(error.to_string());
                    pending = Pending { dropped: pending.taken, said: 0, ..pending };
                }
            }
        }
        self.settle(channel, pending, pending.taken.saturating_sub(already));
    }

    fn announce(&mut self, pending: Pending) {
        self.state.pending = Some(pending);
        self.save();
    }

    /// Takes what was written or dropped, or what is left of it, out of the holding pipe, and keeps
    /// account of it.
    fn settle(&mut self, channel: &Channel, pending: Pending, left: u64) {
        channel.take(left, &self.sink);
        let state = &mut self.state;
        state.status.lost_bytes = state.status.lost_bytes.saturating_add(pending.dropped);
        state.unsaid_bytes = state.unsaid_bytes.saturating_sub(pending.said).saturating_add(pending.dropped);
        if pending.dropped > 0 {
            state.status.why = self.why.take().or(state.status.why.take());
        }
        state.pending = None;
        self.save();
    }

    /// Its room is there since the launch, so it does not fail for want of it.
    fn save(&self) {
        let _ = self.file.write(&self.state);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use rustix::io::write;

    use super::*;
    use crate::request::{AbsolutePath, Log};

    const OUTPUT: &[u8] = b"one\ntwo\nthr";

    struct Scene {
        directory: tempfile::TempDir,
        channels: [Channel; 2],
        worker: OwnedFd,
    }

    impl Scene {
        fn new(flags: PipeFlags) -> Scene {
            let directory = tempfile::tempdir().unwrap();
            StateFile::create(&directory.path().join("state")).unwrap();
            let mut workers = Vec::new();
            let channels = Source::ALL.map(|source| {
                let ((from, worker), (held, hold)) =
                    (pipe_with(flags).unwrap(), pipe_with(PipeFlags::CLOEXEC).unwrap());
                workers.push(worker);
                Channel { source, from, hold, held, ended: false }
            });
            Scene { directory, channels, worker: workers.remove(0) }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("a.log")
        }

        /// A copier that begins now.
        fn writer(&self, max_bytes: u64) -> Writer {
            let log = Log::in_file(AbsolutePath::new(self.path()).unwrap()).rotated(max_bytes, 3);
            let file = StateFile::open(&self.directory.path().join("state")).unwrap();
            let files = LogFile::at(&self.path(), &log).unwrap();
            let mut writer = Writer::new(file, files, Format::Timestamps).unwrap();
            writer.begin(&self.channels, |_| ());
            writer
        }

        fn write(&self, bytes: &[u8]) {
            assert_eq!(write(&self.worker, bytes), Ok(bytes.len()));
        }
    }

    /// The texts of a log with timestamps, `…` behind those that go on.
    fn texts(path: &Path) -> Vec<String> {
        let content = fs::read(path).unwrap_or_default();
        let lines = content.strip_suffix(b"\n").unwrap_or(&content).split(|byte| *byte == b'\n');
        let text = |line: &[u8]| {
            let parsed = crate::log::format::parse(line).unwrap();
            format!("{}{}", String::from_utf8_lossy(parsed.text), if parsed.ended { "" } else { "…" })
        };
        lines.map(text).collect()
    }

    /// A copier that ends after `written` bytes of the file were written, and `taken` bytes taken.
    fn killed_copier(scene: &mut Scene, written: usize, taken: u64) {
        let mut writer = scene.writer(1 << 20);
        let channel = &mut scene.channels[0];
        assert!(channel.fill());
        let held = channel.count();
        writer.look(channel, held).unwrap();
        let Extent { inode, bytes: base } = writer.log.extent().unwrap();
        let stamp = Stamp { source: Source::Stdout, unix_ns: 7 };
        let count = writer.compose(writer.output.len(), stamp, base, 1 << 20) as u64;
        let added = writer.out.len() as u64;
        writer.announce(Pending { stamp, held, taken: count, dropped: 0, said: 0, inode, base, added });
        let written = written.min(writer.out.len());
        assert_eq!(writer.log.append(&writer.out[..written]), (written, None));
        channel.take(taken, &writer.sink);
    }

    #[test]
    fn wherever_a_copier_is_killed_the_next_one_goes_on_there() {
        let whole = usize::MAX;
        for (written, taken) in [(0, 0), (1, 0), (50, 0), (100, 0), (whole, 0), (whole, 1), (whole, 10), (whole, 11)] {
            let mut scene = Scene::new(PipeFlags::CLOEXEC);
            scene.write(OUTPUT);
            killed_copier(&mut scene, written, taken);
            scene.write(b"ee\n");
            let mut writer = scene.writer(1 << 20);
            assert!(writer.move_from(&mut scene.channels[0]));
            assert_eq!(texts(&scene.path()), ["one", "two", "thr…", "ee"], "{written} {taken}");
            assert_eq!((writer.state.status.lost_bytes, writer.state.pending), (0, None));
        }
    }

    #[test]
    fn killed_before_it_said_what_it_will_do_it_has_done_nothing() {
        let mut scene = Scene::new(PipeFlags::CLOEXEC);
        scene.write(OUTPUT);
        assert!(scene.channels[0].fill());
        let mut writer = scene.writer(1 << 20);
        assert!(writer.move_from(&mut scene.channels[0]) && !writer.move_from(&mut scene.channels[0]));
        assert_eq!(texts(&scene.path()), ["one", "two", "thr…"]);
    }

    #[test]
    fn a_file_that_is_renamed_while_no_copier_is_there_is_written_anew() {
        let mut scene = Scene::new(PipeFlags::CLOEXEC);
        scene.write(OUTPUT);
        killed_copier(&mut scene, 50, 0);
        fs::rename(scene.path(), scene.path().with_extension("old")).unwrap();
        scene.writer(1 << 20);
        assert_eq!(texts(&scene.path()), ["one", "two", "thr…"]);
    }

    #[test]
    fn what_was_dropped_is_counted_once_and_said_before_the_next_line() {
        let mut scene = Scene::new(PipeFlags::CLOEXEC);
        fs::create_dir(scene.path()).unwrap();
        scene.write(b"lost\n");
        assert!(scene.writer(1 << 20).move_from(&mut scene.channels[0]));
        scene.write(b"this too\n");
        let mut writer = scene.writer(1 << 20);
        assert!(writer.move_from(&mut scene.channels[0]));
        assert_eq!((writer.state.status.lost_bytes, writer.state.unsaid_bytes), (14, 14));
        fs::remove_dir(scene.path()).unwrap();
        scene.write(b"room\n");
        assert!(writer.move_from(&mut scene.channels[0]));
        let said = texts(&scene.path());
        assert!(said[0].starts_with("squall: 14 bytes of output lost: ") && said[1..] == ["room"], "{said:?}");
        assert_eq!((writer.state.status.lost_bytes, writer.state.unsaid_bytes), (14, 0));
    }

    /// A worker may make a pipe of packets of its output (O_DIRECT): of one that is read in part,
    /// read(2) throws the rest away.
    #[test]
    fn packets_that_do_not_fit_into_a_file_are_split_and_none_is_cut() {
        let mut scene = Scene::new(PipeFlags::CLOEXEC | PipeFlags::DIRECT);
        let mut writer = scene.writer(128 << 10);
        let mut expected = Vec::new();
        for round in 0..100 {
            // Lines of 91 bytes, 44 of them in each packet.
            let packet: Vec<u8> = (0..44).flat_map(|line| format!("{round:030} {line:059}\n").into_bytes()).collect();
            scene.write(&packet);
            expected.extend(packet);
            assert!(writer.move_from(&mut scene.channels[0]));
        }
        let names = ["a.log.2", "a.log.1", "a.log"];
        let found = names.map(|name| texts(&scene.directory.path().join(name)).join("\n"));
        let found =
            format!("{}\n", found.iter().filter(|text| !text.is_empty()).cloned().collect::<Vec<_>>().join("\n"));
        assert!(expected.ends_with(found.as_bytes()) && found.len() > 128 << 10, "{}", found.len());
    }
}
