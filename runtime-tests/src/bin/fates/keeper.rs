//! Starts the embedder, hears what it says, kills it when its time has come, and starts it again.

use std::io::Read;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use runtime_tests::interruption;
use runtime_tests::random::Random;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use crate::Outcome;
use crate::ground::Ground;
use crate::journal::Journal;

/// When an embedder is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// So long after so many workers were about to be launched.
    Launched(u64, Duration),
    /// So long after it was started: it takes up what it finds.
    Started(Duration),
}

/// Longest time from what a moment is counted from to the kill. Half of the kills come at once.
const DELAY_US: u64 = 60_000;

/// Longest time to a kill after a start.
const START_US: u64 = 150_000;

/// How the life of one embedder ended.
enum Ending {
    /// It was killed.
    Struck,
    /// It has done everything.
    Over,
    /// It ended, and nobody killed it.
    Died,
    /// All of it takes too long, or somebody has interrupted it.
    GivenUp,
}

/// Supervises the embedders until one has done everything; the answer is how many were killed.
pub fn supervise(ground: &Ground, kills: u64, deadline: Instant, journal: &mut Journal) -> Outcome<u64> {
    let mut struck = 0;
    let mut deaths = 0;
    let mut moments = draw_moments(ground, kills).into_iter();
    loop {
        let moment = moments.next();
        match Run::start(ground, journal)?.follow(moment, deadline, journal)? {
            Ending::Struck => struck += 1,
            // It was too fast for its kill.
            Ending::Over if moment.is_some() => {}
            Ending::Over => return Ok(struck),
            Ending::Died if deaths < 3 => deaths += 1,
            Ending::Died => return Ok(struck),
            Ending::GivenUp => {
                journal.problem(None, "it is not over, and given up");
                return Ok(struck);
            }
        }
    }
}

/// In the order in which they come. The last part of the workers is left to one that is not killed.
fn draw_moments(ground: &Ground, kills: u64) -> Vec<Moment> {
    let random = &mut Random::new(ground.seed, u64::MAX);
    let most = ground.workers * 9 / 10 + 1;
    let mut launched: Vec<u64> = (0..kills).map(|_| random.below(most)).collect();
    launched.sort_unstable();
    let mut delay = |most| Duration::from_micros(if random.percent(50) { 0 } else { random.below(most) });
    let moment = |(index, launched)| match index % 4 {
        3 => Moment::Started(delay(START_US)),
        _ => Moment::Launched(launched, delay(DELAY_US)),
    };
    launched.into_iter().enumerate().map(moment).collect()
}

/// An embedder.
struct Run {
    child: Child,
    words: ChildStdout,
    started: Instant,
    heard: Vec<u8>,
    over: bool,
}

impl Run {
    fn start(ground: &Ground, journal: &mut Journal) -> Outcome<Run> {
        let mut child =
            ground.embedder(&journal.refused_launches()).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let words = child.stdout.take().ok_or("its words are a pipe")?;
        journal.embedders.push(child.id());
        Ok(Run { child, words, started: Instant::now(), heard: Vec::new(), over: false })
    }

    /// Hears it until its life ends, by a kill at this moment.
    fn follow(mut self, moment: Option<Moment>, deadline: Instant, journal: &mut Journal) -> Outcome<Ending> {
        let mut strike = None;
        loop {
            if interruption::has_come() || Instant::now() >= deadline {
                self.kill(journal)?;
                return Ok(Ending::GivenUp);
            }
            strike = strike.or_else(|| self.instant_of(moment?, journal));
            if strike.is_some_and(|strike| strike <= Instant::now()) && !self.over {
                self.kill(journal)?;
                // What it said meanwhile may have been its last word.
                return Ok(if self.over { Ending::Over } else { Ending::Struck });
            }
            if !self.hear(strike.into_iter().chain([deadline]).min(), journal)? {
                return self.ended(journal);
            }
        }
    }

    fn instant_of(&self, moment: Moment, journal: &Journal) -> Option<Instant> {
        match moment {
            Moment::Started(after) => Some(self.started + after),
            Moment::Launched(count, after) => (journal.launched() >= count).then(|| Instant::now() + after),
        }
    }

    /// Hears what it says until this instant; false: it says nothing any more.
    fn hear(&mut self, until: Option<Instant>, journal: &mut Journal) -> Outcome<bool> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut [PollFd::new(&self.words, PollFlags::IN)], timeout.as_ref()) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(true),
            other => other?,
        };
        let mut buffer = [0; 65536];
        let length = self.words.read(&mut buffer)?;
        self.heard.extend_from_slice(&buffer[..length]);
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            let word: Value = serde_json::from_slice(&line)?;
            self.over |= word["over"] == true;
            journal.add(self.child.id(), word);
        }
        Ok(length > 0)
    }

    /// Kills it, and hears the rest of what it has said.
    fn kill(&mut self, journal: &mut Journal) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        while self.hear(None, journal)? {}
        Ok(())
    }

    fn ended(&mut self, journal: &mut Journal) -> Outcome<Ending> {
        let status = self.child.wait()?;
        if status.success() && self.over {
            return Ok(Ending::Over);
        }
        journal.problem(None, &format!("the embedder ended by itself: {status}"));
        Ok(Ending::Died)
    }
}
