//! A log, read again: its files in order, line by line, and what is added to them.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use super::file::numbered;
use super::format::{MOST_TEXT, Source, parse};
use super::place::{self, Place};
use crate::error::{Context, Error, Problem, Result};
use crate::exhausted::{AtLimit, Limit};
use crate::request::Log;
use crate::stage::Stage;

/// Longest line that is kept together; a longer one comes in pieces. With what stands before its
/// text, a piece of the copier's fits.
const MOST_LINE: usize = MOST_TEXT + 256;

/// A line of a log, or a piece of a long one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// When it was written, in nanoseconds since 1970; `None` in a log without timestamps.
    pub unix_ns: Option<u64>,
    /// The stream that the worker wrote to; `None` in a log without timestamps.
    pub source: Option<Source>,
    /// The bytes, without the newline.
    pub text: &'a [u8],
    /// Whether a newline follows; otherwise the line goes on in the next entry of the same stream.
    pub ended: bool,
}

/// What of a log is read. The default is all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// So many lines from the end, those that are there when reading begins.
    pub tail: Option<u64>,
    /// Lines from this instant on, in nanoseconds since 1970; for a log with timestamps.
    pub since_unix_ns: Option<u64>,
    /// Lines before this instant.
    pub until_unix_ns: Option<u64>,
}

impl Query {
    fn check(&self, log: &Log, object: &str) -> Result<()> {
        let fields = [("since", self.since_unix_ns), ("until", self.until_unix_ns)];
        let problem = |(field, _): (&str, _)| Problem {
            field: field.to_owned(),
            reason: "the log has no timestamps: launch with `timestamps` to have them".to_owned(),
        };
        let asked = fields.into_iter().filter(|(_, instant)| instant.is_some() && !log.timestamps);
        let problems: Vec<Problem> = asked.map(problem).collect();
        if problems.is_empty() { Ok(()) } else { Err(Error::invalid(object, problems)) }
    }

    fn takes(&self, entry: &Entry<'_>) -> bool {
        let Some(instant) = entry.unix_ns else { return self.since_unix_ns.is_none() && self.until_unix_ns.is_none() };
        self.since_unix_ns.is_none_or(|since| instant >= since)
            && self.until_unix_ns.is_none_or(|until| instant < until)
    }
}

/// Which lines are handed over: those of the query, but for the first of them.
struct Choice<'q> {
    query: &'q Query,
    skipped: u64,
}

impl Choice<'_> {
    fn takes(&mut self, entry: &Entry<'_>) -> bool {
        if !self.query.takes(entry) {
            return false;
        }
        let skips = self.skipped > 0;
        self.skipped -= u64::from(skips && entry.ended);
        !skips
    }
}

/// What is done with each line; an error ends the reading.
pub(crate) type Each<'a> = &'a mut dyn FnMut(&Entry<'_>) -> Result<()>;

/// Lines out of bytes, as they come.
struct Lines {
    timestamps: bool,
    rest: Vec<u8>,
}

impl Lines {
    fn new(log: &Log) -> Lines {
        Lines { timestamps: log.timestamps, rest: Vec::new() }
    }

    /// Everything up to the end of the file.
    fn read(&mut self, file: &mut File, each: Each<'_>) -> std::io::Result<Result<()>> {
        let mut part = vec![0; 64 << 10];
        loop {
            match file.read(&mut part) {
                Ok(0) => return Ok(Ok(())),
                Ok(count) => {
                    if let Err(error) = self.add(&part[..count], each) {
                        return Ok(Err(error));
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn add(&mut self, bytes: &[u8], each: Each<'_>) -> Result<()> {
        self.rest.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(length) = self.rest[from..].iter().position(|byte| *byte == b'\n') {
            each(&self.entry(&self.rest[from..from + length], true))?;
            from += length + 1;
        }
        self.rest.drain(..from);
        if self.rest.len() > MOST_LINE { self.flush(each) } else { Ok(()) }
    }

    /// What has no newline yet; a line with a timestamp is written whole, so its rest will come.
    fn flush_unless_stamped(&mut self, each: Each<'_>) -> Result<()> {
        if self.timestamps { Ok(()) } else { self.flush(each) }
    }

    fn flush(&mut self, each: Each<'_>) -> Result<()> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() { Ok(()) } else { each(&self.entry(&rest, false)) }
    }

    fn entry<'a>(&self, line: &'a [u8], ended: bool) -> Entry<'a> {
        match parse(line).filter(|_| self.timestamps) {
            Some(parsed) => Entry {
                unix_ns: Some(parsed.stamp.unix_ns),
                source: Some(parsed.stamp.source),
                text: parsed.text,
                ended: parsed.ended,
            },
            None => Entry { unix_ns: None, source: None, text: line, ended },
        }
    }
}

/// Reads one log.
pub(crate) struct Reader<'a> {
    place: Place,
    log: &'a Log,
    object: String,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(place: Place, log: &'a Log, id: &str) -> Reader<'a> {
        let object = format!("log '{}' of container '{id}'", place.file.display());
        Reader { place, log, object }
    }

    /// Reads what is there.
    pub(crate) fn read(&self, query: &Query, each: Each<'_>) -> Result<()> {
        query.check(self.log, &self.object)?;
        let mut files = self.files()?.all().at(Stage::Watch, &self.object, "open")?;
        if files.is_empty() {
            return Err(Errno::NOENT).at(Stage::Watch, &self.object, "open");
        }
        let mut choice = self.choice(&mut files, query)?;
        let mut each = |entry: &Entry<'_>| if choice.takes(entry) { each(entry) } else { Ok(()) };
        let mut lines = Lines::new(self.log);
        self.read_files(&mut files, &mut lines, &mut each)?;
        lines.flush(&mut each)
    }

    /// Reads what is there, and what is added until the container has ended and everything is read.
    /// `process` gives what to wait for, and `None` once the container has ended. The answer is how
    /// often files were rotated away before they were read.
    pub(crate) fn follow(
        &self,
        query: &Query,
        process: &dyn Fn() -> Result<Option<OwnedFd>>,
        each: Each<'_>,
    ) -> Result<u64> {
        query.check(self.log, &self.object)?;
        // From before the first look, so that no change is missed.
        let changes = self.watch()?;
        let files = self.files()?;
        let mut all = files.all().at(Stage::Watch, &self.object, "open")?;
        let mut choice = self.choice(&mut all, query)?;
        let mut each = |entry: &Entry<'_>| if choice.takes(entry) { each(entry) } else { Ok(()) };
        let mut lines = Lines::new(self.log);
        self.read_files(&mut all, &mut lines, &mut each)?;
        let mut current = all.pop();
        drop(all);
        let mut gaps = 0;
        loop {
            lines.flush_unless_stamped(&mut each)?;
            // Asked before the files are looked at: what was written before the end is seen then.
            let process = process()?;
            let is_over = process.is_none() && !(self.log.is_copied() && place::has_copier(&self.place.directory));
            let news = files.newer_than(current.as_ref()).at(Stage::Watch, &self.object, "open")?;
            // The file may have grown until it was renamed.
            for file in current.iter_mut() {
                lines.read(file, &mut each).at(Stage::Watch, &self.object, "read")??;
            }
            gaps += u64::from(news.has_gap);
            for mut file in news.files {
                lines.read(&mut file, &mut each).at(Stage::Watch, &self.object, "read")??;
                current = Some(file);
            }
            if is_over {
                lines.flush(&mut each)?;
                return Ok(gaps);
            }
            lines.flush_unless_stamped(&mut each)?;
            self.wait(&changes, process.as_ref())?;
        }
    }

    fn files(&self) -> Result<Files> {
        let directory = self.place.file.parent().unwrap_or(Path::new("/"));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(directory, flags, Mode::empty()).at(Stage::Watch, &self.object, "open(directory)")?;
        let name = self.place.file.file_name().unwrap_or_default().to_owned();
        Ok(Files { directory, name, count: self.log.files() })
    }

    /// Where only the last lines are wanted, all are counted first.
    fn choice<'q>(&self, files: &mut [File], query: &'q Query) -> Result<Choice<'q>> {
        let skipped = match query.tail {
            Some(tail) => self.count(files, query)?.saturating_sub(tail),
            None => 0,
        };
        Ok(Choice { query, skipped })
    }

    fn read_files(&self, files: &mut [File], lines: &mut Lines, each: Each<'_>) -> Result<()> {
        for file in files {
            file.rewind().at(Stage::Watch, &self.object, "lseek")?;
            lines.read(file, each).at(Stage::Watch, &self.object, "read")??;
        }
        Ok(())
    }

    /// How many lines there are, one without an end included.
    fn count(&self, files: &mut [File], query: &Query) -> Result<u64> {
        let (mut count, mut is_midline) = (0, false);
        let mut lines = Lines::new(self.log);
        let mut each = |entry: &Entry<'_>| {
            if query.takes(entry) {
                count += u64::from(entry.ended);
                is_midline = !entry.ended;
            }
            Ok(())
        };
        self.read_files(files, &mut lines, &mut each)?;
        lines.flush(&mut each)?;
        Ok(count + u64::from(is_midline))
    }

    /// Tells of changes to the log's files, and of the end of those who copy it.
    fn watch(&self) -> Result<OwnedFd> {
        let object = &self.object;
        let changes = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .at(Stage::Watch, object, "inotify_init1")
            .at_limit(libc::EMFILE, Limit::InotifyInstances)?;
        let flags = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE_SELF;
        let directory = self.place.file.parent().unwrap_or(Path::new("/"));
        add_watch(&changes, directory, flags)
            .at(Stage::Watch, object, "inotify_add_watch")
            .at_limit(libc::ENOSPC, Limit::InotifyWatches)?;
        if self.log.is_copied() && self.place.directory != directory {
            // The state file changes with every piece; only its end is news.
            let flags = WatchFlags::CLOSE_WRITE | WatchFlags::DELETE_SELF;
            match add_watch(&changes, &self.place.directory, flags) {
                // The container has been removed.
                Err(Errno::NOENT) => {}
                other => other.map(drop).at(Stage::Watch, object, "inotify_add_watch")?,
            }
        }
        Ok(changes)
    }

    fn wait(&self, changes: &OwnedFd, process: Option<&OwnedFd>) -> Result<()> {
        let mut fds = vec![PollFd::new(changes, PollFlags::IN)];
        fds.extend(process.map(|process| PollFd::new(process, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).at(Stage::Watch, &self.object, "poll"),
        }
        // What has changed is looked at in any case.
        let mut buffer = [0; 4096];
        while rustix::io::read(changes, &mut buffer).is_ok_and(|read| read > 0) {}
        Ok(())
    }
}

/// The files of a log, by their directory.
struct Files {
    directory: OwnedFd,
    name: OsString,
    count: u32,
}

/// Files that came after another one, the oldest first.
#[derive(Default)]
struct News {
    files: Vec<File>,
    /// Whether the other one is not among the log's files any more.
    has_gap: bool,
}

impl Files {
    /// All, the oldest first.
    fn all(&self) -> std::io::Result<Vec<File>> {
        self.newer_than(None).map(|news| news.files)
    }

    /// Those after this one. They are opened from the newest on, so a rotation meanwhile shows the
    /// same file twice, and hides none.
    fn newer_than(&self, known: Option<&File>) -> std::io::Result<News> {
        let of = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
        let known = known.map(of).transpose()?;
        let mut news = News { files: Vec::new(), has_gap: known.is_some() };
        let mut seen = Vec::new();
        for number in 0..self.count {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match openat(&self.directory, numbered(&self.name, number), flags, Mode::empty()) {
                // A rotation is under way, or was cut short.
                Err(Errno::NOENT) => continue,
                other => File::from(other?),
            };
            let id = of(&file)?;
            if known == Some(id) {
                news.has_gap = false;
                break;
            }
            if !seen.contains(&id) {
                seen.push(id);
                news.files.push(file);
            }
        }
        news.has_gap &= !news.files.is_empty() && self.count > 1;
        news.files.reverse();
        Ok(news)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;

    use super::*;
    use crate::request::AbsolutePath;

    fn reader<'a>(directory: &Path, log: &'a Log) -> Reader<'a> {
        let place = Place { directory: directory.join("none"), file: directory.join("a.log") };
        Reader::new(place, log, "x")
    }

    fn log_in(directory: &Path) -> Log {
        Log::in_file(AbsolutePath::new(directory.join("a.log")).unwrap())
    }

    fn texts(reader: &Reader<'_>, query: Query) -> Vec<String> {
        let mut texts = Vec::new();
        reader
            .read(&query, &mut |entry| {
                texts.push(format!("{}{}", String::from_utf8_lossy(entry.text), if entry.ended { "" } else { "…" }));
                Ok(())
            })
            .unwrap();
        texts
    }

    #[test]
    fn files_are_one_text_from_the_oldest_on_and_a_tail_counts_its_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = log_in(directory.path()).rotated(1 << 20, 4);
        for (name, text) in [("a.log.3", "1\n2"), ("a.log.1", "2\n3\n"), ("a.log", "4\n5"), ("a.log.4", "no more\n")] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let reader = reader(directory.path(), &log);
        let of = |tail| texts(&reader, Query { tail, ..Query::default() });
        assert_eq!(of(None), ["1", "22", "3", "4", "5…"]);
        assert_eq!(of(Some(2)), ["4", "5…"]);
        assert_eq!(of(Some(100)).len(), 5);
        assert_eq!(of(Some(0)), Vec::<String>::new());
    }

    #[test]
    fn instants_choose_lines_of_a_log_that_has_them_and_are_refused_for_another() {
        let directory = tempfile::tempdir().unwrap();
        let log = log_in(directory.path()).with_timestamps();
        let text =
            "2026-11-29T18:00:00Z stdout F a\n2026-11-29T18:00:01Z stderr P b\n2026-11-29T18:00:02Z stderr F c\nold\n";
        fs::write(directory.path().join("a.log"), text).unwrap();
        let second = |number: u64| Some((1_795_975_200 + number) * 1_000_000_000);
        let query = |since, until| Query { tail: None, since_unix_ns: since, until_unix_ns: until };
        let stamped = reader(directory.path(), &log);
        assert_eq!(texts(&stamped, query(None, None)), ["a", "b…", "c", "old"]);
        assert_eq!(texts(&stamped, query(second(1), None)), ["b…", "c"]);
        assert_eq!(texts(&stamped, query(None, second(1))), ["a"]);
        let plain = log_in(directory.path());
        let error = reader(directory.path(), &plain).read(&query(second(1), second(2)), &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.problems().len(), 2);
    }

    #[test]
    fn a_follower_goes_over_rotations_to_the_end_and_counts_what_it_missed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let log = log_in(directory.path()).rotated(1 << 20, 2);
        fs::write(path("a.log"), "1\n").unwrap();
        let reader = reader(directory.path(), &log);
        let seen = RefCell::new(Vec::new());
        let step = RefCell::new(0);
        // Between two looks the log grows, is rotated once, and twice; then the container ends.
        let process = || {
            *step.borrow_mut() += 1;
            match *step.borrow() {
                1 => {
                    fs::write(path("a.log"), "1\n2\n").unwrap();
                    fs::rename(path("a.log"), path("a.log.1")).unwrap();
                    fs::write(path("a.log"), "3\n").unwrap();
                }
                2 => {
                    for text in ["4\n", "5\n"] {
                        fs::rename(path("a.log"), path("a.log.1")).unwrap();
                        fs::write(path("a.log"), text).unwrap();
                    }
                }
                _ => return Ok(None),
            }
            let ready = rustix::event::eventfd(1, rustix::event::EventfdFlags::CLOEXEC).unwrap();
            Ok(Some(ready))
        };
        let mut each = |entry: &Entry<'_>| {
            seen.borrow_mut().push(String::from_utf8_lossy(entry.text).into_owned());
            Ok(())
        };
        let gaps = reader.follow(&Query::default(), &process, &mut each).unwrap();
        assert_eq!((seen.into_inner().join(" "), gaps), ("1 2 3 4 5".to_owned(), 1));
    }
}
