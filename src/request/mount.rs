//! What a caller wants mounted in the container, beside the root and the standard mounts.

use serde::{Deserialize, Serialize};

use super::bind_options::{Access, BindOptions, MountFlags};
use super::path::{AbsolutePath, Destination};
use crate::document::BadValue;
use crate::error::Problem;

/// The mode of a tmpfs unless another is asked for: everyone may write, nobody may remove another's
/// files.
pub(crate) const TMPFS_MODE: u32 = 0o1777;

/// One mount. Their order counts: a later one may lie below an earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Mount {
    /// Something of the host.
    Bind(Bind),
    /// Memory.
    Tmpfs(Tmpfs),
}

impl Mount {
    /// Where it is mounted inside the container.
    #[must_use]
    pub fn destination(&self) -> &Destination {
        match self {
            Mount::Bind(bind) => &bind.destination,
            Mount::Tmpfs(tmpfs) => &tmpfs.destination,
        }
    }
}

/// A file or directory of the host, shown inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bind {
    /// On the host.
    pub source: AbsolutePath,
    /// In the container.
    pub destination: Destination,
    /// How.
    pub options: BindOptions,
}

impl Bind {
    /// Checks all parts at once. The problems' fields are `source`, `destination` and `options[N]`,
    /// with `place` and a point before them.
    pub fn parse(place: &str, source: &str, destination: &str, options: &[&str]) -> Result<Bind, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut note = |field: String, bad: BadValue| problems.push(bad.at(format!("{place}.{field}")));
        let source = AbsolutePath::new(source).map_err(|bad| note("source".into(), bad)).ok();
        let destination = Destination::new(destination).map_err(|bad| note("destination".into(), bad)).ok();
        for (index, word) in options.iter().enumerate() {
            let refused = BindOptions::parse([*word]).err().into_iter().flatten();
            refused.for_each(|bad| note(format!("options[{index}]"), bad));
        }
        match (source, destination, BindOptions::parse(options.iter().copied())) {
            (Some(source), Some(destination), Ok(options)) => Ok(Bind { source, destination, options }),
            _ => Err(problems),
        }
    }
}

/// A file system in memory; what is in it counts as the container's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// In the container.
    pub destination: Destination,
    /// Most bytes in it; without it half of the machine's memory, as the kernel has it.
    pub size_bytes: Option<u64>,
    /// Permissions of its top directory, at most 0o7777.
    pub mode: u32,
    /// Whether the container may write to it.
    #[serde(default = "read_write")]
    pub access: Access,
    /// What else it is asked to be; `nosuid` and `nodev` unless their opposites are asked for.
    #[serde(default)]
    pub flags: MountFlags,
    /// Owner of its top directory; root otherwise.
    #[serde(default)]
    pub uid: Option<u32>,
    /// Group of its top directory; root's otherwise.
    #[serde(default)]
    pub gid: Option<u32>,
    /// Most files in it; a number that goes with the size otherwise.
    #[serde(default)]
    pub inodes: Option<u64>,
}

impl Tmpfs {
    /// A writable tmpfs of this size, with this mode of its top directory.
    #[must_use]
    pub fn new(destination: Destination, size_bytes: Option<u64>, mode: u32) -> Tmpfs {
        Tmpfs {
            destination,
            size_bytes,
            mode,
            access: read_write(),
            flags: MountFlags::default(),
            uid: None,
            gid: None,
            inodes: None,
        }
    }
}

/// What records of earlier versions meant without saying it.
fn read_write() -> Access {
    Access::ReadWrite
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_reports_all_its_problems_with_their_places() {
        let problems = Bind::parse("mounts[3]", "a", "/proc", &["ro", "x", "y"]).unwrap_err();
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(
            fields,
            ["mounts[3].source", "mounts[3].destination", "mounts[3].options[1]", "mounts[3].options[2]"]
        );
    }

    #[test]
    fn a_tmpfs_of_an_earlier_record_is_writable_and_roots() {
        let json = r#"{"type":"tmpfs","destination":"/t","size_bytes":1,"mode":1023}"#;
        let tmpfs = Tmpfs::new(Destination::new("/t").unwrap(), Some(1), TMPFS_MODE);
        assert_eq!(serde_json::from_str::<Mount>(json).unwrap(), Mount::Tmpfs(tmpfs));
    }

    #[test]
    fn mounts_survive_json_and_unknown_fields_do_not() {
        let bind = Mount::Bind(Bind::parse("", "/a", "/b", &["ro"]).unwrap());
        let destination = Destination::new("/t").unwrap();
        let tmpfs = Mount::Tmpfs(Tmpfs::new(destination, Some(1), TMPFS_MODE));
        for mount in [bind, tmpfs] {
            let json = serde_json::to_string(&mount).unwrap();
            assert_eq!(serde_json::from_str::<Mount>(&json).unwrap(), mount);
            let more = json.replacen('{', r#"{"other":1,"#, 1);
            assert!(serde_json::from_str::<Mount>(&more).is_err(), "{more}");
        }
    }
}
