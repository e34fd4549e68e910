//! The program that embeds the library: 32 threads that share one [`Squall`], and a runtime of tokio
//! that waits for all workers and reads one stream of events. It may be killed at any moment; what
//! it does not find done it does.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use runtime_tests::host;
use squall::{Change, Ended, Events, Running, Spawner, Squall};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::ground::Ground;
use crate::plan::Plan;
use crate::{Outcome, life, word};

/// Threads that share the library.
const THREADS: usize = 32;

/// Threads of the runtime.
const RUNTIME_THREADS: usize = 2;

/// The program.
pub struct Embedder {
    pub squall: Squall,
    pub ground: Ground,
    runtime: Runtime,
    /// Waits in the runtime.
    waits: Mutex<Vec<JoinHandle<()>>>,
    places: Arc<Places>,
}

/// The program's own part.
pub fn embed(args: &[String]) {
    if let Err(error) = run(args) {
        word::problem(None, error);
        std::process::exit(1);
    }
}

fn run(args: &[String]) -> Outcome<()> {
    // First of all: the spawner is a copy of this program while it has one thread.
    let spawner = Spawner::fork()?;
    let (ground, refused) = Ground::from_args(args)?;
    let refused: HashSet<u64> = refused.into_iter().collect();
    let squall = ground.library(Some(spawner))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_io().build()?;
    let places = Arc::new(Places { free: Mutex::new(ground.alive), given_back: Condvar::new() });
    let embedder = Embedder { squall, ground, runtime, waits: Mutex::default(), places };
    let before = host::open_fds("self").len();
    embedder.supervise(&refused)?;
    word::over(before, host::open_fds("self").len());
    Ok(())
}

impl Embedder {
    /// Does with every worker what is planned, and learns its end by the stream and by a wait.
    fn supervise(&self, refused: &HashSet<u64>) -> Outcome<()> {
        let ends = self.ground.plans().filter(|plan| !plan.leaves_no_record()).map(|plan| plan.id()).collect();
        let events = self.runtime.spawn(read_ends(self.squall.events()?, ends));
        let next = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while let Some(plan) = self.next(&next) {
                        if !refused.contains(&plan.number) {
                            self.live(&plan);
                        }
                    }
                });
            }
        });
        let waits = std::mem::take(&mut *locked(&self.waits));
        for wait in waits {
            self.runtime.block_on(wait)?;
        }
        self.runtime.block_on(events)?;
        Ok(())
    }

    fn next(&self, next: &AtomicU64) -> Option<Plan> {
        let number = next.fetch_add(1, Ordering::Relaxed);
        (number < self.ground.workers).then(|| self.ground.plan(number))
    }

    /// The life of a worker, from wherever it is.
    fn live(&self, plan: &Plan) {
        let place = Places::take(&self.places);
        if let Err(error) = life::live(self, plan, place) {
            word::problem(Some(plan.number), error);
        }
    }

    /// Waits for the end in the runtime; the worker keeps its place until then.
    pub fn watch(&self, plan: &Plan, running: Running, place: Arc<Place>) {
        let number = plan.number;
        let wait = self.runtime.spawn(async move {
            match running.wait_async().await {
                Ok(ended) => tell(number, "future", &ended),
                Err(error) => word::problem(Some(number), error),
            }
            drop(place);
        });
        locked(&self.waits).push(wait);
    }
}

/// Says how a worker ended.
pub fn tell(number: u64, by: &str, ended: &Ended) {
    match ended {
        Ended::Exited(exited) => word::told(number, by, exited.exit()),
        Ended::Lost(_) => word::problem(Some(number), format_args!("lost, by a {by}")),
    }
}

/// Reads the stream until it has told the end of each of these.
async fn read_ends(mut events: Events, mut ids: HashSet<String>) {
    while !ids.is_empty() {
        let event = match events.next_async().await {
            Ok(event) => event,
            Err(error) => return word::problem(None, format_args!("events: {error}")),
        };
        let number = event.id.strip_prefix('w').and_then(|number| number.parse().ok());
        match (event.change, number) {
            (Change::Exited(exit), Some(number)) => {
                word::told(number, "stream", &exit);
                if !ids.remove(&event.id) {
                    word::problem(Some(number), "the stream tells its end twice, or one that it cannot have");
                }
            }
            (change @ (Change::Lost(_) | Change::Unreadable(_)), number) => {
                word::problem(number, format_args!("the stream tells it is {}", change.name()));
                ids.remove(&event.id);
            }
            _ => {}
        }
    }
}

/// How many workers may be alive.
struct Places {
    free: Mutex<usize>,
    given_back: Condvar,
}

/// A worker's, until it is dropped.
pub struct Place(Arc<Places>);

impl Places {
    fn take(places: &Arc<Places>) -> Arc<Place> {
        let free = locked(&places.free);
        let mut free = places.given_back.wait_while(free, |free| *free == 0).unwrap_or_else(PoisonError::into_inner);
        *free -= 1;
        Arc::new(Place(Arc::clone(places)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *locked(&self.0.free) += 1;
        self.0.given_back.notify_one();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
