//! Threads that compress batches, and give them back in the order in which they came.
//!
//! They run in the process of whoever writes the image, live as long as the [`Crew`], and touch
//! nothing but batches. The caller's thread compresses too, whenever it would have to wait.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::batch::Batch;
use super::compress::Compress;

/// Batches in flight for each thread: one being compressed, one waiting, one finished that waits for
/// its turn.
const BATCHES_EACH: usize = 3;

/// The threads, and the batches that they have.
#[derive(Debug)]
pub(super) struct Crew {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    window: usize,
    /// The number of the next batch to go in.
    entering: u64,
    /// The number of the next batch to come out.
    leaving: u64,
}

#[derive(Debug)]
struct Shared {
    compressor: Arc<dyn Compress>,
    desk: Mutex<Desk>,
    /// There is a batch to compress, or nothing will come any more.
    work: Condvar,
    /// A batch is compressed.
    done: Condvar,
}

#[derive(Debug, Default)]
struct Desk {
    waiting: VecDeque<(u64, Batch)>,
    finished: BTreeMap<u64, Batch>,
    /// A compressor panicked: its batch never comes.
    panic: Option<Box<dyn Any + Send>>,
    /// It panicked before, and the caller knows.
    lost: bool,
    closed: bool,
}

impl Crew {
    /// Starts threads, so that with the caller's there are this many. Where the system gives fewer
    /// there are fewer: the result is the same.
    pub(super) fn new(threads: NonZeroUsize, compressor: Arc<dyn Compress>) -> Crew {
        let (desk, work, done) = (Mutex::default(), Condvar::new(), Condvar::new());
        let shared = Arc::new(Shared { compressor, desk, work, done });
        let start = |_| {
            let shared = Arc::clone(&shared);
            thread::Builder::new().name("squashfs".to_owned()).spawn(move || shared.serve()).ok()
        };
        let threads: Vec<_> = (1..threads.get()).map_while(start).collect();
        let window = BATCHES_EACH * (threads.len() + 1);
        Crew { shared, threads, window, entering: 0, leaving: 0 }
    }

    /// Whether there is no thread but the caller's.
    pub(super) fn is_alone(&self) -> bool {
        self.threads.is_empty()
    }

    /// Hands over a batch, for which there has to be room.
    pub(super) fn put(&mut self, batch: Batch) {
        self.shared.desk().waiting.push_back((self.entering, batch));
        self.entering += 1;
        self.shared.work.notify_one();
    }

    /// Whether the next batch has to wait until one has come out.
    pub(super) fn is_full(&self) -> bool {
        self.entering - self.leaving >= self.window as u64
    }

    /// Whether batches are still to come out.
    pub(super) fn is_busy(&self) -> bool {
        self.entering > self.leaving
    }

    /// The next batch in order if it is compressed.
    pub(super) fn take_finished(&mut self) -> Option<Batch> {
        let batch = self.shared.desk().finished.remove(&self.leaving)?;
        self.leaving += 1;
        Some(batch)
    }

    /// The next batch in order; compresses others until it is there. There has to be one.
    pub(super) fn take(&mut self) -> Batch {
        let mut desk = self.shared.desk();
        loop {
            if let Some(batch) = desk.finished.remove(&self.leaving) {
                self.leaving += 1;
                return batch;
            }
            if let Some(panic) = desk.panic.take() {
                desk.lost = true;
                drop(desk);
                resume_unwind(panic);
            }
            assert!(!desk.lost, "a compressor panicked before");
            desk = match desk.waiting.pop_front() {
                Some((number, batch)) => {
                    drop(desk);
                    self.shared.pack(number, batch)
                }
                None => self.shared.done.wait(desk).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

impl Drop for Crew {
    /// Ends the threads, after the batches that they have in hand.
    fn drop(&mut self) {
        let mut desk = self.shared.desk();
        desk.closed = true;
        desk.waiting.clear();
        drop(desk);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // They catch what could make them fail.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn serve(&self) {
        let mut desk = self.desk();
        loop {
            desk = match desk.waiting.pop_front() {
                Some((number, batch)) => {
                    drop(desk);
                    let desk = self.pack(number, batch);
                    self.done.notify_one();
                    desk
                }
                None if desk.closed => return,
                None => self.work.wait(desk).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn pack(&self, number: u64, mut batch: Batch) -> MutexGuard<'_, Desk> {
        let result = catch_unwind(AssertUnwindSafe(|| batch.pack(self.compressor.as_ref())));
        let mut desk = self.desk();
        match result {
            Ok(()) => {
                desk.finished.insert(number, batch);
            }
            Err(panic) => desk.panic = Some(panic),
        }
        desk
    }
}
