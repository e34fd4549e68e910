//! `linux.resources`: OCI's fields for CPU, memory and block I/O, as [`Limits`].
//!
//! What these mean where they ask for nothing follows runc: 0 and `null` are "not given", a quota
//! of 0 or less is none, -1 is "no limit". What Squall does not set is a warning, never silence.

use super::Place;
use crate::cgroup::{CpuList, Limits, SwapLimit};
use crate::document::{self, quoted};
use crate::request::rules::SHARES;

/// The type of a field that is known and not used.
#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Boolean,
    Array,
}

const CPU: &[&str] = &["shares", "quota", "period", "cpus", "mems"];
const CPU_UNUSED: &[(&str, Kind)] = &[
    ("burst", Kind::Integer),
    ("idle", Kind::Integer),
    ("realtimePeriod", Kind::Integer),
    ("realtimeRuntime", Kind::Integer),
];

const MEMORY: &[&str] = &["limit", "reservation", "swap"];
const MEMORY_UNUSED: &[(&str, Kind)] = &[
    ("checkBeforeUpdate", Kind::Boolean),
    ("disableOOMKiller", Kind::Boolean),
    ("kernel", Kind::Integer),
    ("kernelTCP", Kind::Integer),
    ("swappiness", Kind::Integer),
    ("useHierarchy", Kind::Boolean),
];

const BLOCK_IO: &[&str] = &["weight"];
const BLOCK_IO_UNUSED: &[(&str, Kind)] = &[
    ("leafWeight", Kind::Integer),
    ("throttleReadBpsDevice", Kind::Array),
    ("throttleReadIOPSDevice", Kind::Array),
    ("throttleWriteBpsDevice", Kind::Array),
    ("throttleWriteIOPSDevice", Kind::Array),
    ("weightDevice", Kind::Array),
];

/// Reads the object; other sections than the three are problems.
pub(super) fn limits(resources: &Place<'_, '_>) -> Limits {
    let mut limits = Limits::default();
    for (name, section) in resources.members() {
        let read = match name {
            "cpu" => cpu,
            "memory" => memory,
            "blockIO" => block_io,
            _ => {
                section.problem("is not allowed: expected only blockIO, cpu and memory");
                continue;
            }
        };
        if section.is_object() {
            read(&section, &mut limits);
        }
    }
    limits
}

fn cpu(cpu: &Place<'_, '_>, limits: &mut Limits) {
    unused(cpu, CPU, CPU_UNUSED);
    limits.cpu_shares = given(cpu, "shares").map(|shares| {
        // The kernel takes the nearest that it has, so this must not make a launch fail.
        let nearest = shares.clamp(*SHARES.start(), *SHARES.end());
        if nearest != shares {
            cpu.warn(|field| format!("{field}.shares: {shares} is not possible, {nearest} is used"));
        }
        nearest
    });
    limits.cpu_quota_us = number(cpu, "quota").and_then(|(quota, place)| match i64::try_from(quota) {
        Ok(quota) => Some(quota).filter(|quota| *quota > 0),
        Err(_) => place.unexpected("a signed number of 64 bits"),
    });
    limits.cpu_period_us = given(cpu, "period");
    limits.cpuset_cpus = list(cpu, "cpus");
    limits.cpuset_mems = list(cpu, "mems");
}

fn memory(memory: &Place<'_, '_>, limits: &mut Limits) {
    unused(memory, MEMORY, MEMORY_UNUSED);
    let bounded = |limit| match limit {
        SwapLimit::Total(bytes) => Some(bytes),
        SwapLimit::Unlimited => None,
    };
    limits.memory_bytes = bytes(memory, "limit").and_then(bounded);
    limits.memory_reservation_bytes = bytes(memory, "reservation").and_then(bounded);
    limits.memory_swap_bytes = bytes(memory, "swap");
}

fn block_io(block_io: &Place<'_, '_>, limits: &mut Limits) {
    unused(block_io, BLOCK_IO, BLOCK_IO_UNUSED);
    limits.blkio_weight = given(block_io, "weight").map(|weight| u16::try_from(weight).unwrap_or(u16::MAX));
}

/// Notes every field that will not be used, and its type if that is wrong as well.
fn unused(section: &Place<'_, '_>, used: &[&str], known: &[(&str, Kind)]) {
    for (name, place) in section.members().filter(|(name, _)| !used.contains(name)) {
        let Some((_, kind)) = known.iter().find(|(known, _)| *known == name) else {
            place.warn(|field| format!("{field}: is unknown and has no effect"));
            continue;
        };
        let asks = match (kind, &place.node().kind) {
            (_, document::Kind::Null) => false,
            (Kind::Integer, _) => integer(&place).is_some(),
            (Kind::Boolean, document::Kind::Boolean(asked)) => *asked,
            (Kind::Boolean, _) => place.unexpected("a boolean").unwrap_or(false),
            (Kind::Array, _) => place.elements().len() > 0,
        };
        if asks {
            place.warn(|field| format!("{field}: is not supported and has no effect"));
        }
    }
}

/// A whole number; `null` is "not given".
fn number<'s, 'd>(section: &'s Place<'_, 'd>, name: &'s str) -> Option<(i128, Place<'s, 'd>)> {
    let place = section.given(name)?;
    integer(&place).map(|number| (number, place))
}

/// A whole number within 64 bits, signed or not.
fn integer(place: &Place<'_, '_>) -> Option<i128> {
    let number = place.number()?;
    // 2^63: below that every whole number that a double holds can be cast.
    let whole = |float: &f64| float.fract() == 0.0 && float.abs() < 9_223_372_036_854_775_808.0;
    let integer = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let integer = integer.or_else(|| number.as_f64().filter(whole).map(|float| float as i128));
    if integer.is_none() {
        place.problem(format!("expected a whole number of 64 bits, found {}", quoted(&number.to_string())));
    }
    integer
}

/// A number of which 0 means "not given".
fn given(section: &Place<'_, '_>, name: &str) -> Option<u64> {
    let (number, place) = number(section, name)?;
    match u64::try_from(number) {
        Ok(number) => Some(number).filter(|number| *number > 0),
        Err(_) => {
            place.problem(format!("{number} is negative: expected 0 (not given) or more"));
            None
        }
    }
}

/// A number of bytes of which 0 means "not given" and -1 "no limit".
fn bytes(section: &Place<'_, '_>, name: &str) -> Option<SwapLimit> {
    let (number, place) = number(section, name)?;
    match (number, u64::try_from(number)) {
        (0, _) => None,
        (-1, _) => Some(SwapLimit::Unlimited),
        (_, Ok(bytes)) => Some(SwapLimit::Total(bytes)),
        (_, Err(_)) => {
            place.problem(format!("{number} is negative: expected bytes, or -1 for no limit"));
            None
        }
    }
}

/// A list of CPUs or memory nodes, of which the empty text means "not given".
fn list(section: &Place<'_, '_>, name: &str) -> Option<CpuList> {
    let place = section.given(name)?;
    let text = place.text().filter(|text| !text.is_empty())?;
    let list = text.parse::<CpuList>();
    list.map_err(|error| place.problem(format!("{}: {error}", quoted(text)))).ok()
}
