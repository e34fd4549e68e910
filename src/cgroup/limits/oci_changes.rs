//! A change of limits in OCI's words: the object `linux.resources`, as `runc update` takes it.
//!
//! 0, `null` and the empty text mean "not given", -1 "no limit". A field that nothing comes of is
//! refused, not ignored: who names it would count on it.

use serde::Deserialize;

use super::changes::LimitChanges;
use super::{Field, Limits, SwapLimit};
use crate::document::BadValue;
use crate::error::{Error, Problem, Result};

/// What errors call the document.
const OBJECT: &str = "resources";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    memory: Option<Memory>,
    cpu: Option<Cpu>,
    pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    block_io: Option<BlockIo>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Memory {
    limit: Option<i64>,
    reservation: Option<i64>,
    swap: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cpu {
    shares: Option<u64>,
    quota: Option<i64>,
    period: Option<u64>,
    cpus: Option<String>,
    mems: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pids {
    limit: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BlockIo {
    weight: Option<u16>,
}

impl LimitChanges {
    /// Reads OCI's object `linux.resources` in JSON, as far as it is about memory, CPU, processes
    /// and the weight of block devices. -1 lifts a limit; as the sum of memory and swap it is
    /// [`SwapLimit::Unlimited`], and a negative quota is none.
    ///
    /// # Errors
    /// `Invalid` for what is no such object, names something else, or has a wrong value, with each
    /// field.
    pub fn from_oci(text: &[u8]) -> Result<LimitChanges> {
        let document: Document = serde_json::from_slice(text)
            .map_err(|error| Error::invalid(OBJECT, vec![BadValue::new(error.to_string()).at("document")]))?;
        let mut reading =
            Reading { changes: LimitChanges { set: Limits::none(), lift: Vec::new() }, problems: Vec::new() };
        reading.memory(document.memory.unwrap_or_default());
        reading.cpu(document.cpu.unwrap_or_default());
        let pids = document.pids.unwrap_or_default().limit;
        reading.changes.set.pids = reading.number("pids.limit", Field::Pids, pids);
        reading.changes.set.blkio_weight = document.block_io.unwrap_or_default().weight.filter(|weight| *weight > 0);
        match reading.problems.is_empty() {
            true => Ok(reading.changes),
            false => Err(Error::invalid(OBJECT, reading.problems)),
        }
    }
}

struct Reading {
    changes: LimitChanges,
    problems: Vec<Problem>,
}

impl Reading {
    fn memory(&mut self, memory: Memory) {
        self.changes.set.memory_bytes = self.number("memory.limit", Field::MemoryBytes, memory.limit);
        let field = Field::MemoryReservationBytes;
        self.changes.set.memory_reservation_bytes = self.number("memory.reservation", field, memory.reservation);
        let swap = memory.swap.filter(|swap| *swap != 0).map(SwapLimit::try_from);
        self.changes.set.memory_swap_bytes = self.noted("memory.swap", swap);
    }

    fn cpu(&mut self, cpu: Cpu) {
        let given = |number: Option<u64>| number.filter(|number| *number > 0);
        let set = &mut self.changes.set;
        set.cpu_shares = given(cpu.shares);
        set.cpu_period_us = given(cpu.period);
        set.cpu_quota_us = cpu.quota.filter(|quota| *quota > 0);
        if cpu.quota.is_some_and(|quota| quota < 0) {
            self.changes.lift.push(Field::CpuQuotaUs);
        }
        let list = |text: Option<String>| text.filter(|text| !text.is_empty()).map(|text| text.parse());
        self.changes.set.cpuset_cpus = self.noted("cpu.cpus", list(cpu.cpus));
        self.changes.set.cpuset_mems = self.noted("cpu.mems", list(cpu.mems));
    }

    /// A number that may be -1.
    fn number(&mut self, name: &str, field: Field, number: Option<i64>) -> Option<u64> {
        match number? {
            -1 => self.changes.lift.push(field),
            0 => {}
            number => match u64::try_from(number) {
                Ok(number) => return Some(number),
                Err(_) => self.problem(name, format!("{number} is negative: expected -1 for no limit, or more than 0")),
            },
        }
        None
    }

    fn noted<T, E: std::fmt::Display>(&mut self, name: &str, value: Option<std::result::Result<T, E>>) -> Option<T> {
        match value? {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(name, error.to_string());
                None
            }
        }
    }

    fn problem(&mut self, name: &str, reason: String) {
        self.problems.push(Problem { field: name.to_owned(), reason });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_is_given_is_set_and_minus_one_lifts() {
        let text = br#"{ "memory": { "limit": 1048576, "swap": 2097152, "reservation": -1 },
            "cpu": { "shares": 512, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "" },
            "pids": { "limit": -1 }, "blockIO": { "weight": 100 } }"#;
        let expected = Limits {
            memory_bytes: Some(1 << 20),
            memory_swap_bytes: Some(SwapLimit::Total(2 << 20)),
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            cpuset_cpus: "0-1".parse().ok(),
            blkio_weight: Some(100),
            ..Limits::none()
        };
        let changes = LimitChanges::from_oci(text).unwrap();
        assert_eq!(changes, LimitChanges { set: expected, lift: vec![Field::MemoryReservationBytes, Field::Pids] });
        assert_eq!(changes.problems(), []);
        let unlimited = LimitChanges::from_oci(br#"{"memory":{"swap":-1,"limit":-1},"cpu":{"quota":-1}}"#).unwrap();
        assert_eq!(unlimited.set.memory_swap_bytes, Some(SwapLimit::Unlimited));
        assert_eq!(unlimited.lift, [Field::MemoryBytes, Field::CpuQuotaUs]);
    }

    #[test]
    fn zero_and_null_are_not_given() {
        let text = br#"{ "memory": { "limit": 0, "swap": null, "reservation": 0 }, "blockIO": { "weight": 0 },
            "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": null }, "pids": { "limit": 0 } }"#;
        for text in [&text[..], b"{}", br#"{"memory":null}"#] {
            let changes = LimitChanges::from_oci(text).unwrap();
            assert_eq!((changes.fields(), changes.problems()[0].field.as_str()), (vec![], "limits"));
        }
    }

    #[test]
    fn what_is_wrong_or_would_have_no_effect_is_named() {
        for (text, word) in [
            (&b"[]"[..], "document"),
            (br#"{"memory":{"kernel":5}}"#, "unknown field `kernel`"),
            (br#"{"network":{}}"#, "unknown field `network`"),
            (br#"{"memory":{"limit":-2}}"#, "memory.limit: -2 is negative"),
            (br#"{"memory":{"swap":-5}}"#, "memory.swap: -5"),
            (br#"{"cpu":{"cpus":"3-1"}}"#, "cpu.cpus: the range '3-1'"),
            (br#"{"pids":{"limit":"5"}}"#, "line 1"),
        ] {
            let error = LimitChanges::from_oci(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
