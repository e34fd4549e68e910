//! Changing the limits of a container that is there.
//!
//! Updates of one container come one after the other, by a lock on its claim file, which lies in
//! its directory from the claim to the removal and is locked for nothing else. The record with the
//! new limits takes the place of the old one in one step, so that other programs, older ones too,
//! read the limits that are in force.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Container, Created, Paused, Running};
use crate::cgroup::{Adjustment, Cgroup, Field, Layout, LimitChanges, Limits};
use crate::error::{Context, Error, Problem, Result};
use crate::request::limit_problems;
use crate::stage::Stage;
use crate::state::claim;
use crate::state::ledger::{self, Holding, Ledger};
use crate::state::record::{self, LaunchRecord};
use crate::wait::lock_by;

/// How long another update is waited for: it may be waiting itself, for the kernel to reclaim
/// memory.
const PATIENCE: Duration = Duration::from_secs(30);

impl Running {
    /// Changes limits while it runs. What is not named stays as it is. Returns the handle with the
    /// record that has the limits now in force, and in
    /// [`adjustments`](LaunchRecord::adjustments) what the kernel took otherwise.
    ///
    /// What the kernel would refuse is refused before anything is changed; should it refuse a value
    /// all the same, or the record not be written, the earlier limits are put back, and the error
    /// says so. In particular:
    ///
    /// - A memory limit is refused that is below what cannot be reclaimed: without swap all memory
    ///   but page cache. v1 reclaims, or refuses. On v2, where a limit below the use kills, the
    ///   kernel is asked to reclaim first (`memory.reclaim`, Linux 5.19).
    /// - A sum of memory and swap stays what it is when memory alone is changed, and is refused where
    ///   it would be less than memory.
    /// - Processors and memory nodes are those of the parent cgroup, at most. Memory that is there
    ///   stays on its node.
    /// - On v1 a quota is at most what the parents have; on v2 the parents' is in force as well.
    /// - Processors that another container has for itself are refused with its id
    ///   ([`Exhausted`](crate::ErrorKind::Exhausted)), and so is more memory for one whose memory is
    ///   promised than there is. What a container has for itself stays so.
    /// - A number of processes below the present one ends none of them: the kernel refuses forks
    ///   until there are fewer.
    ///
    /// An update that is killed half way may leave values that are not on record; the next one of the
    /// same limits mends that.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) with each field that is refused;
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a controller that the machine does not
    /// have; [`Phase`](crate::ErrorKind::Phase) when it has ended;
    /// [`TimedOut`](crate::ErrorKind::TimedOut) when another update has not come to its end within
    /// 30 seconds. Needs root, or a cgroup that is delegated to the caller.
    pub fn update(&self, changes: &LimitChanges) -> Result<Running> {
        let layout = Layout::detect()?;
        let _lock = self.lock_updates()?;
        let Some(written) = self.own_record()? else { return Err(self.ended_before("update")) };
        let cgroup = if self.is_there()? { self.own_cgroup(&layout)? } else { None };
        let Some(cgroup) = cgroup else { return Err(self.ended_before("update")) };
        let before = limits_of(&written).map_err(|error| self.unreadable(&error))?;
        self.check_update(changes, &before)?;
        let after = changes.applied_to(&before);
        let moving = self.move_holding(changes, &after)?;
        let updated = self.unless_ended("update", self.change(&cgroup, changes, &before, written));
        if let Some(moving) = moving {
            moving.settle(updated.is_ok());
        }
        updated
    }

    /// Changes the limits in the kernel and on record, or neither.
    fn change(&self, cgroup: &Cgroup, changes: &LimitChanges, before: &Limits, written: Value) -> Result<Running> {
        // Room is taken before anything is changed.
        let draft = record::Replacement::prepare(&self.directory, written.to_string().len() + ROOM_FOR_CHANGES);
        let draft = draft.at(Stage::Record, self.object(), "open(record.json)")?;
        let changed = cgroup.change(changes, before).map_err(|error| match error.problems() {
            [] => error,
            problems => self.refusal(problems),
        })?;
        let updated = with_limits(written, &changed.limits, &changes.fields(), changed.adjustments.clone());
        let record: LaunchRecord = match serde_json::from_value(updated.clone()) {
            Ok(record) => record,
            Err(error) => return Err(changed.take_back(self.unreadable(&error))),
        };
        match draft.finish(updated.to_string().as_bytes()) {
            Ok(true) => Ok(Running::new(self.directory.clone(), record)),
            Ok(false) => Err(self.ended_before("update")),
            Err(error) => {
                Err(changed.take_back(Error::system(Stage::Record, self.object(), "write(record.json)", error)))
            }
        }
    }

    /// What it has of its host changes with its limits. Until that is settled it has both, by the
    /// notes that others read.
    fn move_holding(&self, changes: &LimitChanges, after: &Limits) -> Result<Option<Moving<'_>>> {
        let before = ledger::holding_of(&self.directory)?.unwrap_or_default();
        let changed = changes.fields();
        self.refuse_for(&before, &changed, after)?;
        let wanted = Holding {
            cpus: after.cpuset_cpus.clone(),
            nodes: after.cpuset_mems.clone(),
            promised_bytes: if before.promised_bytes == 0 { 0 } else { after.memory_bytes.unwrap_or(0) },
            ..before.clone()
        };
        if wanted == before || (wanted.is_nothing() && before.is_nothing()) {
            return Ok(None);
        }
        Ledger::of_container(&self.directory, &before)?.extend(&self.record.id, &self.directory, &before, &wanted)?;
        Ok(Some(Moving { directory: &self.directory, before, wanted }))
    }

    /// What a container has for itself stays so until its end.
    fn refuse_for(&self, holding: &Holding, changed: &[Field], after: &Limits) -> Result<()> {
        let mut problems = Vec::new();
        let lists = [Field::CpusetCpus, Field::CpusetMems].into_iter().filter(|field| changed.contains(field));
        if let Some(cpus) = holding.cpus.as_ref().filter(|_| holding.exclusive) {
            let reason = format!("it has {cpus} for itself, and that stays so until its end");
            problems.extend(lists.map(|field| Problem { field: field.name().into(), reason: reason.clone() }));
        }
        if holding.promised_bytes > 0 && after.memory_bytes.is_none() {
            let reason = "it is promised to it: it can be another one, and not lifted".to_owned();
            problems.push(Problem { field: Field::MemoryBytes.name().into(), reason });
        }
        if problems.is_empty() { Ok(()) } else { Err(self.refusal(&problems)) }
    }

    fn lock_updates(&self) -> Result<File> {
        let file = match File::open(claim::lock_file(&self.directory)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(self.ended_before("update")),
            other => other.at(Stage::Watch, self.object(), "open(claim)")?,
        };
        if lock_by(file.as_fd(), Instant::now() + PATIENCE).at(Stage::Watch, self.object(), "flock(claim)")? {
            return Ok(file);
        }
        let text = "another update of it has not come to its end";
        Err(Error::timed_out(Stage::Watch, self.object(), "flock(claim)", PATIENCE, text))
    }

    /// The record as it is on disk, whatever it holds; nothing where it is another container's.
    fn own_record(&self) -> Result<Option<Value>> {
        let same = |record: &LaunchRecord| {
            record.init == self.record.init && record.created_unix_ns == self.record.created_unix_ns
        };
        match record::read_launch(&self.directory)?.filter(same) {
            Some(_) => record::read_launch_whole(&self.directory),
            None => Ok(None),
        }
    }

    /// Whether there is anything to be limited.
    fn is_there(&self) -> Result<bool> {
        Ok(matches!(self.refresh()?, Container::Created(_) | Container::Running(_) | Container::Paused(_)))
    }

    /// By the rules that a request has to keep.
    fn check_update(&self, changes: &LimitChanges, before: &Limits) -> Result<()> {
        let after = changes.applied_to(before);
        let mut problems = changes.problems();
        problems.extend(limit_problems(&after));
        if problems.is_empty() { Ok(()) } else { Err(self.refusal(&problems)) }
    }

    /// Problems of limits have their place in a request.
    fn refusal(&self, problems: &[Problem]) -> Error {
        let placed = |problem: &Problem| match problem.field.starts_with("limits") {
            true => problem.clone(),
            false => Problem { field: format!("limits.{}", problem.field), reason: problem.reason.clone() },
        };
        Error::invalid(self.object(), problems.iter().map(placed).collect())
    }

    fn unreadable(&self, error: &serde_json::Error) -> Error {
        Error::malformed(Stage::Watch, self.object(), "parse(limits of record.json)", error)
    }
}

/// What a container has of its host, on its way from one to the other.
struct Moving<'c> {
    directory: &'c Path,
    before: Holding,
    wanted: Holding,
}

impl Moving<'_> {
    /// Notes which of the two it is. Where there is no room for that, both stay noted: others get
    /// less than they could, and nobody gets what somebody has.
    fn settle(&self, changed: bool) {
        let _ = claim::note_holding(self.directory, if changed { &self.wanted } else { &self.before });
    }
}

/// What a record may grow by.
const ROOM_FOR_CHANGES: usize = 4096;

fn limits_of(record: &Value) -> serde_json::Result<Limits> {
    serde_json::from_value(record["spec"]["limits"].clone())
}

/// The record with these limits; what the kernel took otherwise of the fields that did not change
/// is still so.
fn with_limits(mut record: Value, limits: &Limits, changed: &[Field], new: Vec<Adjustment>) -> Value {
    let earlier: Vec<Value> = record["adjustments"].as_array().cloned().unwrap_or_default();
    // A change of memory is one of swap too, on v2.
    let fields: Vec<Field> = changed.iter().copied().chain(new.iter().map(|one| one.field)).collect();
    let is_changed = |one: &Value| fields.iter().any(|field| one["field"] == field.name());
    let kept = earlier.into_iter().filter(|one| !is_changed(one));
    let new = new.into_iter().map(|one| serde_json::to_value(one).expect("an adjustment is plain data"));
    record["adjustments"] = kept.chain(new).collect();
    record["spec"]["limits"] = serde_json::to_value(limits).expect("limits are plain data");
    record
}

impl Paused {
    /// Changes limits while all its processes stand still, as [`Running::update`] does.
    ///
    /// # Errors
    /// Those of [`Running::update`].
    pub fn update(&self, changes: &LimitChanges) -> Result<Paused> {
        self.0.update(changes).map(Paused)
    }
}

impl Created {
    /// Changes limits before the workload begins, as [`Running::update`] does.
    ///
    /// # Errors
    /// Those of [`Running::update`].
    pub fn update(&self, changes: &LimitChanges) -> Result<Created> {
        self.0.update(changes).map(Created)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cgroup::Got;

    #[test]
    fn a_record_keeps_all_that_did_not_change() {
        let asked = |field: &str| json!({ "field": field, "asked": "5", "got": { "value": "4" } });
        let record = json!({ "schema": 7, "new": [1], "adjustments": [asked("memory_bytes"), asked("pids"), asked("later")],
            "spec": { "id": "a", "new": 2, "limits": { "pids": 3, "devices": "inherit" } } });
        let limits = Limits { pids: Some(9), ..limits_of(&record).unwrap() };
        let got = Adjustment { field: Field::Pids, asked: "9".into(), got: Got::Value("8".into()) };
        let updated = with_limits(record, &limits, &[Field::Pids], vec![got.clone()]);
        let expected = json!({ "schema": 7, "new": [1],
            "adjustments": [asked("memory_bytes"), asked("later"), serde_json::to_value(got).unwrap()],
            "spec": { "id": "a", "new": 2, "limits": { "pids": 9, "devices": "inherit" } } });
        assert_eq!(updated, expected);
    }
}
