//! The options of docker that a line may have.

use super::Command::{self, Inspect, Ps, Rm, Run, Stop};

/// An option of docker that is known here.
#[derive(Debug, PartialEq, Eq)]
pub struct KnownOption {
    /// With its dashes.
    pub name: &'static str,
    pub(super) takes: Takes,
    /// What its value means.
    pub kind: Kind,
    pub(super) commands: &'static [Command],
}

/// Whether an option has a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// Never.
    Nothing,
    /// Always; after `=` or as the next word.
    Value,
    /// Perhaps `=true` or `=false`. A further word is not its value, to docker neither.
    Truth,
}

/// What the value of an option means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    /// Nothing that could do harm: text for docker's own output.
    Text,
    Truth,
    Name,
    User,
    Group,
    Path,
    Network,
    CgroupParent,
    CapDrop,
    SecurityOpt,
    Number,
    Cpus,
    CpuSet,
    Memory,
    Volume,
    /// Never allowed with any value.
    Forbidden,
}

const fn of_run(name: &'static str, takes: Takes, kind: Kind) -> KnownOption {
    KnownOption { name, takes, kind, commands: &[Run] }
}

/// Those that Storm's launcher knows, and `--memory`, which Storm writes where it limits memory.
/// What it allows and Storm never writes stays known, so that shortened names mean the same.
pub(super) static OPTIONS: [KnownOption; 26] = [
    of_run("--name", Takes::Value, Kind::Name),
    of_run("--user", Takes::Value, Kind::User),
    of_run("--rm", Takes::Nothing, Kind::Truth),
    of_run("--workdir", Takes::Value, Kind::Path),
    of_run("--net", Takes::Value, Kind::Network),
    of_run("--cgroup-parent", Takes::Value, Kind::CgroupParent),
    of_run("--cap-add", Takes::Value, Kind::Forbidden),
    of_run("--cap-drop", Takes::Value, Kind::CapDrop),
    of_run("--device", Takes::Value, Kind::Forbidden),
    of_run("--detach", Takes::Truth, Kind::Truth),
    of_run("--group-add", Takes::Value, Kind::Group),
    of_run("--read-only", Takes::Nothing, Kind::Truth),
    of_run("--security-opt", Takes::Value, Kind::SecurityOpt),
    of_run("--cpu-shares", Takes::Value, Kind::Number),
    of_run("--cpus", Takes::Value, Kind::Cpus),
    of_run("--cpuset-cpus", Takes::Value, Kind::CpuSet),
    of_run("--cpuset-mems", Takes::Value, Kind::CpuSet),
    of_run("--memory", Takes::Value, Kind::Memory),
    of_run("--cidfile", Takes::Value, Kind::Path),
    KnownOption { name: "--format", takes: Takes::Value, kind: Kind::Text, commands: &[Ps, Inspect] },
    KnownOption { name: "--force", takes: Takes::Nothing, kind: Kind::Truth, commands: &[Rm] },
    KnownOption { name: "--time", takes: Takes::Value, kind: Kind::Number, commands: &[Stop] },
    KnownOption { name: "--filter", takes: Takes::Value, kind: Kind::Text, commands: &[Ps] },
    KnownOption { name: "--quiet", takes: Takes::Truth, kind: Kind::Truth, commands: &[Ps] },
    of_run("-d", Takes::Nothing, Kind::Truth),
    of_run("-v", Takes::Value, Kind::Volume),
];
