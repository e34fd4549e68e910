//! A worker's output in files: written, rotated, and read again.
//!
//! A log that is neither rotated nor has timestamps is *straight*: the worker has the file itself
//! as its standard output and error (`O_APPEND`), and nothing of Squall stands between. Every other
//! one is *copied*: the worker writes into two pipes, and a **copier** writes the file. Asked for
//! by [`request::Log`](crate::request::Log), read by
//! [`ContainerLog`](crate::container::ContainerLog).
//!
//! # Processes
//!
//! ```text
//! worker ──pipe──> copier ──> FILE, FILE.1, …    reads, writes, rotates; watches its keeper
//!                  keeper, its parent            waits for it; forks another when it was killed
//! monitor                                        holds the pipes open, reads nothing
//! ```
//!
//! The launch process forks the keeper once init is there, in the monitors' cgroup; both have one
//! thread, no environment, no descriptors but those of the log, every signal blocked, and neither
//! links itself to its parent's life. They are not the monitor: that must not copy, and stays
//! small. The two are copies of a Rust program: together they have some 1.8 MiB for themselves
//! (measured). They sleep while nothing is written.
//!
//! | who is killed | what happens |
//! |---|---|
//! | the copier | the keeper forks another, which goes on at the byte where the last one was |
//! | the keeper | the copier becomes the keeper, and forks another copier |
//! | both at one instant | nothing is lost; the worker waits at a full pipe, until they are mended |
//! | none, but the copier is stopped | the worker waits at a full pipe, until SIGCONT |
//! | the monitor | nothing; keeper and copier hold the pipes |
//! | all three | the worker gets SIGPIPE, or EPIPE, as of any pipe without a reader |
//! | caller, spawner | nothing |
//! | launch process | init ends with it, and the copier at the pipes' end of file |
//!
//! The monitor holds the pipes so that nobody gets SIGPIPE for what was done to the other two. To
//! mend is to have another pair started, which opens the pipes by the monitor's descriptors:
//! `squall logs`, `squall reap` and
//! [`ContainerLog::mend`](crate::container::ContainerLog::mend) do it.
//!
//! # No byte twice, none lost
//!
//! The copier may be killed between any two system calls, so what it has done must be seen in what
//! the kernel keeps. Bytes move from the worker's pipe to a second one, the *holding pipe*, by
//! splice(2): each is in exactly one of the two. It is filled when it is empty only, and looked at
//! without being emptied (tee(2)). Before the file is written, the state file (`logs/<id>/state`)
//! says how many bytes will be taken from the holding pipe, and how long the file is and will be;
//! then the file is written, the bytes are taken from the holding pipe, and the state file says so.
//! Whoever comes next finds how far the last one came: by the length of the file, and by what the
//! holding pipe has left.
//!
//! What cannot be written (a full disk) is dropped, because a worker must not hang for it; it is
//! counted in the state file (`lost_bytes`), and a line in the log says how much is missing as soon
//! as there is room again. A slow disk slows the worker down, by full pipes. A file system that
//! does not answer at all holds the worker up as it would without us.
//!
//! A log file that was deleted, or renamed by somebody else, is noticed before the next write, and
//! a new one is made. What a deleted file held is gone with it.
//!
//! # The end
//!
//! The copier ends when nobody can write any more, or when init is dead and the pipes are empty:
//! every process of the container is dead then, and what they wrote has been copied. A process
//! outside that was handed the worker's output holds nothing up. `wait` may return a moment
//! earlier; `state` says `complete` at the end, and `logs -f` waits for that.

mod chunk;
mod copier;
mod file;
mod format;
mod keeper;
mod mend;
mod pipes;
mod place;
mod reader;
mod state;
mod time;

pub(crate) use file::numbered;
pub use format::Source;
pub(crate) use mend::Mending;
pub(crate) use pipes::Logging;
pub(crate) use place::{Place, discard, reap, remove};
pub(crate) use reader::Reader;
pub use reader::{Entry, Query};
pub use state::LogStatus;
pub(crate) use state::StateFile;
pub use time::{parse_time, rfc3339};
