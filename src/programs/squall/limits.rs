//! Limits as they are asked for: of a new container, and of one that is there.

use std::io::Read;

use squall::cgroup::{CpuList, Field, LimitChanges, Limits, SwapLimit};
use squall::request::{BadValue, values};
use squall::{Error, Result, Stage};

use crate::args::{LimitFlags, Update};
use crate::request::{DOOR, Flags};

impl LimitFlags {
    /// What is to be chosen of processors, where that is what `--cpuset-cpus` says.
    pub fn auto(&self) -> Option<&str> {
        self.cpuset_cpus.as_deref().filter(|text| text.starts_with("auto"))
    }

    pub fn without_auto(&self) -> LimitFlags {
        let cpuset_cpus = self.cpuset_cpus.clone().filter(|_| self.auto().is_none());
        LimitFlags { cpuset_cpus, ..self.clone() }
    }
}

pub fn limits(asked: &LimitFlags, flags: &mut Flags) -> Limits {
    let mut limits = Limits::default();
    let mut size =
        |flag: &str, text: &Option<String>| text.as_deref().and_then(|text| flags.value(flag, values::size(text)));
    limits.memory_bytes = size("--memory", &asked.memory).filter(|bytes| *bytes > 0);
    limits.memory_swap_bytes = match asked.memory_swap.as_deref() {
        Some("-1") => Some(SwapLimit::Unlimited),
        _ => size("--memory-swap", &asked.memory_swap).filter(|bytes| *bytes > 0).map(SwapLimit::Total),
    };
    limits.memory_oom_group = asked.oom_group;
    if let Some(cpus) =
        asked.cpus.as_deref().filter(|text| *text != "0").and_then(|text| flags.value("--cpus", values::cpus(text)))
    {
        limits.cpu_quota_us = Some(cpus.quota_us);
        limits.cpu_period_us = Some(cpus.period_us);
    }
    let mut list = |flag: &str, text: &Option<String>| {
        let parsed = text
            .as_deref()
            .map(|text| text.parse::<CpuList>().map_err(|problem| BadValue::new(format!("'{text}': {problem}"))));
        parsed.and_then(|parsed| flags.value(flag, parsed))
    };
    limits.cpuset_cpus = list("--cpuset-cpus", &asked.cpuset_cpus);
    limits.cpuset_mems = list("--cpuset-mems", &asked.cpuset_mems);
    limits.pids = asked.pids_limit.as_deref().and_then(|text| flags.value("--pids-limit", pids(text))).flatten();
    limits
}

/// The longest document of resources: a real one has less than a thousand bytes.
const MAX_RESOURCES: u64 = 64 << 10;

/// What `update` is to change.
pub fn limit_changes(update: &Update) -> Result<LimitChanges> {
    let Some(path) = &update.resources else { return changes_of_flags(&update.limits) };
    let object = format!("resources '{}'", path.display());
    let failed = |error| Error::system(Stage::Request, &object, "read", error);
    let mut text = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(MAX_RESOURCES + 1).read_to_end(&mut text).map_err(failed)?;
    } else {
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_RESOURCES + 1).read_to_end(&mut text).map_err(failed)?;
    }
    if text.len() as u64 > MAX_RESOURCES {
        let bad = BadValue::new(format!("is longer than {MAX_RESOURCES} bytes"));
        return Err(Error::invalid(object, vec![bad.at("document")]));
    }
    LimitChanges::from_oci(&text)
}

/// A flag that means no limit to `run` lifts one.
fn changes_of_flags(asked: &LimitFlags) -> Result<LimitChanges> {
    let mut flags = Flags::default();
    // An empty list is no list to `run`.
    let given = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
    let lists =
        LimitFlags { cpuset_cpus: given(&asked.cpuset_cpus), cpuset_mems: given(&asked.cpuset_mems), ..asked.clone() };
    let set = limits(&lists, &mut flags);
    let lifts = [
        (asked.memory.is_some() && set.memory_bytes.is_none(), Field::MemoryBytes),
        (asked.memory_swap.is_some() && set.memory_swap_bytes.is_none(), Field::MemorySwapBytes),
        (asked.cpus.is_some() && set.cpu_quota_us.is_none(), Field::CpuQuotaUs),
        (asked.cpus.is_some() && set.cpu_period_us.is_none(), Field::CpuPeriodUs),
        (asked.cpuset_cpus.is_some() && set.cpuset_cpus.is_none(), Field::CpusetCpus),
        (asked.cpuset_mems.is_some() && set.cpuset_mems.is_none(), Field::CpusetMems),
        (asked.pids_limit.is_some() && set.pids.is_none(), Field::Pids),
    ];
    let lift = lifts.into_iter().filter_map(|(lifted, field)| lifted.then_some(field)).collect();
    flags.finish(Ok(LimitChanges { set, lift }))
}

/// A refusal of an update in the words of the command line.
pub fn rename_limits(error: Error) -> Error {
    match error.problems() {
        [] => error,
        problems => Error::invalid(error.object(), problems.iter().cloned().map(|one| DOOR.rename(one)).collect()),
    }
}

/// The limit; `None` for what podman means by 0 and -1.
fn pids(text: &str) -> std::result::Result<Option<u64>, BadValue> {
    let wrong =
        || BadValue::new(format!("'{text}' is not a number of processes: expected 1 or more, or -1 for no limit"));
    match text {
        "0" | "-1" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| wrong()),
    }
}
