//! The kernel's log, from the beginning of the run on: whom seccomp filters have killed, without any
//! of the code under test.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// The log from an instant on.
pub struct From(Option<File>);

/// The processes that it names.
pub struct KernelLog(BTreeSet<i32>);

/// From now on. Without a log nothing is named.
pub fn from_now() -> From {
    let mut log = File::options().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok();
    let at_end = log.as_mut().is_some_and(|log| log.seek(SeekFrom::End(0)).is_ok());
    From(log.filter(|_| at_end))
}

impl From {
    /// What it has by now.
    pub fn read(self) -> KernelLog {
        let mut named = BTreeSet::new();
        let mut line = [0; 8192];
        let Some(mut log) = self.0 else { return KernelLog(named) };
        loop {
            match log.read(&mut line) {
                Ok(length) if length > 0 => named.extend(killed_by_filter(&String::from_utf8_lossy(&line[..length]))),
                // Some lines were overwritten.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                _ => return KernelLog(named),
            }
        }
    }
}

impl KernelLog {
    /// Whether it says that a filter killed this process.
    pub fn names(&self, pid: i32) -> bool {
        self.0.contains(&pid)
    }
}

/// `type=1326 … pid=25822 … sig=31 …`.
fn killed_by_filter(line: &str) -> Option<i32> {
    let value = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
    (value("type=") == Some("1326") && value("sig=") == Some("31")).then(|| value("pid=")?.parse().ok())?
}
