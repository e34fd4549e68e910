//! The options of a bind mount, in OCI's words.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::document::{BadValue, quoted};

/// Whether the container may write through a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Access {
    /// `ro`
    ReadOnly,
    /// `rw`
    ReadWrite,
}

/// Whether a bind brings the mounts below its source along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Recursion {
    /// `rbind`: with everything mounted below.
    Recursive,
    /// `bind`: the one mount.
    Single,
}

/// How mount events travel between the host's mount and the container's; the names with `r` mean
/// the whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "OCI's own eight words")]
#[non_exhaustive]
pub enum Propagation {
    Private,
    RecursivePrivate,
    Slave,
    RecursiveSlave,
    Shared,
    RecursiveShared,
    Unbindable,
    RecursiveUnbindable,
}

/// A property of one mount that can be asked for, and its opposite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words of mount(8)")]
#[non_exhaustive]
pub enum MountFlag {
    NoSuid,
    Suid,
    NoDev,
    Dev,
    NoExec,
    Exec,
    NoAtime,
    Atime,
    RelAtime,
    NoRelAtime,
    StrictAtime,
    NoStrictAtime,
    NoDirAtime,
    DirAtime,
    NoSymFollow,
    SymFollow,
}

impl MountFlag {
    /// Flags of one group exclude each other; the access times that the kernel keeps one of are one
    /// group.
    fn group(self) -> u8 {
        use MountFlag::*;
        match self {
            NoSuid | Suid => 0,
            NoDev | Dev => 1,
            NoExec | Exec => 2,
            NoAtime | Atime | RelAtime | NoRelAtime | StrictAtime | NoStrictAtime => 3,
            NoDirAtime | DirAtime => 4,
            NoSymFollow | SymFollow => 5,
        }
    }
}

/// Flags that do not contradict each other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<MountFlag>")]
pub struct MountFlags(BTreeSet<MountFlag>);

impl MountFlags {
    /// Whether a flag was asked for.
    #[must_use]
    pub fn contains(&self, flag: MountFlag) -> bool {
        self.0.contains(&flag)
    }

    /// Every flag that was asked for.
    pub fn iter(&self) -> impl Iterator<Item = MountFlag> {
        self.0.iter().copied()
    }

    /// Adds a flag; a contrary one that was asked for earlier goes.
    pub(super) fn add(&mut self, flag: MountFlag) {
        self.0.retain(|other| other.group() != flag.group());
        self.0.insert(flag);
    }
}

impl From<Vec<MountFlag>> for MountFlags {
    fn from(flags: Vec<MountFlag>) -> MountFlags {
        flags.into_iter().collect()
    }
}

impl FromIterator<MountFlag> for MountFlags {
    fn from_iter<I: IntoIterator<Item = MountFlag>>(flags: I) -> MountFlags {
        let mut kept = MountFlags::default();
        flags.into_iter().for_each(|flag| kept.add(flag));
        kept
    }
}

/// What a bind mount is asked to be. This is the wish alone: whoever mounts may be stricter, and
/// `suid` or `dev` in a wish loosen nothing by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindOptions {
    /// Of the mount itself; mounts below it keep theirs, as in OCI.
    pub access: Access,
    /// Whether mounts below the source come along.
    pub recursion: Recursion,
    /// Set on the new mount.
    pub propagation: Propagation,
    /// Of the mount itself.
    pub flags: MountFlags,
    /// Of the mount and all below it (`rro`, `rrw`), where asked for.
    pub access_below: Option<Access>,
    /// Of the mount and all below it (`rnosuid` and so on).
    pub flags_below: MountFlags,
}

impl Default for BindOptions {
    /// Writable, recursive and private: what docker's `-v` means.
    fn default() -> BindOptions {
        BindOptions {
            access: Access::ReadWrite,
            recursion: Recursion::Recursive,
            propagation: Propagation::RecursivePrivate,
            flags: MountFlags::default(),
            access_below: None,
            flags_below: MountFlags::default(),
        }
    }
}

impl BindOptions {
    /// Reads OCI option words on top of the default. Of two that contradict each other the later
    /// wins.
    ///
    /// Errors: every word that does not exist or cannot belong to a bind mount, in order.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<BindOptions, Vec<BadValue>> {
        let mut options = BindOptions::default();
        let refused: Vec<_> = words.into_iter().filter_map(|word| options.apply(word).err()).collect();
        if refused.is_empty() { Ok(options) } else { Err(refused) }
    }

    fn apply(&mut self, word: &str) -> Result<(), BadValue> {
        match word {
            "defaults" => {}
            "ro" => self.access = Access::ReadOnly,
            "rw" => self.access = Access::ReadWrite,
            "rro" => self.access_below = Some(Access::ReadOnly),
            "rrw" => self.access_below = Some(Access::ReadWrite),
            "bind" => self.recursion = Recursion::Single,
            "rbind" => self.recursion = Recursion::Recursive,
            _ => match (propagation(word), flag(word), word.strip_prefix('r').and_then(flag)) {
                (Some(propagation), ..) => self.propagation = propagation,
                (_, Some(flag), _) => self.flags.add(flag),
                (.., Some(flag)) => self.flags_below.add(flag),
                _ => return Err(unknown(word)),
            },
        }
        Ok(())
    }
}

fn propagation(word: &str) -> Option<Propagation> {
    Some(match word {
        "private" => Propagation::Private,
        "rprivate" => Propagation::RecursivePrivate,
        "slave" => Propagation::Slave,
        "rslave" => Propagation::RecursiveSlave,
        "shared" => Propagation::Shared,
        "rshared" => Propagation::RecursiveShared,
        "unbindable" => Propagation::Unbindable,
        "runbindable" => Propagation::RecursiveUnbindable,
        _ => return None,
    })
}

/// The flag that a word of mount(8) means.
pub(super) fn flag(word: &str) -> Option<MountFlag> {
    Some(match word {
        "nosuid" => MountFlag::NoSuid,
        "suid" => MountFlag::Suid,
        "nodev" => MountFlag::NoDev,
        "dev" => MountFlag::Dev,
        "noexec" => MountFlag::NoExec,
        "exec" => MountFlag::Exec,
        "noatime" => MountFlag::NoAtime,
        "atime" => MountFlag::Atime,
        "relatime" => MountFlag::RelAtime,
        "norelatime" => MountFlag::NoRelAtime,
        "strictatime" => MountFlag::StrictAtime,
        "nostrictatime" => MountFlag::NoStrictAtime,
        "nodiratime" => MountFlag::NoDirAtime,
        "diratime" => MountFlag::DirAtime,
        "nosymfollow" => MountFlag::NoSymFollow,
        "symfollow" => MountFlag::SymFollow,
        _ => return None,
    })
}

fn unknown(word: &str) -> BadValue {
    let name = quoted(word);
    BadValue::new(match word {
        "sync" | "async" | "dirsync" | "lazytime" | "nolazytime" | "iversion" | "noiversion" | "mand" | "nomand"
        | "acl" | "noacl" | "remount" | "silent" | "loud" => {
            format!("{name} belongs to a whole file system: a bind mount cannot have it")
        }
        "idmap" | "ridmap" => format!("{name} is not supported: there is no user namespace"),
        "tmpcopyup" => format!("{name} belongs to a tmpfs: a bind mount cannot have it"),
        _ => format!(
            "{name} is not a mount option: expected ro, rw, bind, rbind, [r]private, [r]slave, [r]shared, [r]unbindable, \
             [no]suid, [no]dev, [no]exec, [no]atime, [no]diratime, [no]relatime, [no]strictatime, [no]symfollow, \
             or rro, rrw, rnosuid and so on for all mounts below as well"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &str) -> BindOptions {
        BindOptions::parse(words.split_whitespace()).unwrap()
    }

    #[test]
    fn the_options_that_storm_sends_are_understood() {
        let options = parsed("ro rbind rprivate");
        assert_eq!(options, BindOptions { access: Access::ReadOnly, ..BindOptions::default() });
        assert_eq!(parsed("rw rbind rprivate"), BindOptions::default());
        assert_eq!(parsed("defaults"), BindOptions::default());
    }

    #[test]
    fn every_word_arrives_at_its_place() {
        type Holds = fn(&BindOptions) -> bool;
        let table: [(&str, Holds); 18] = [
            ("bind", |o| o.recursion == Recursion::Single),
            ("private", |o| o.propagation == Propagation::Private),
            ("slave", |o| o.propagation == Propagation::Slave),
            ("rslave", |o| o.propagation == Propagation::RecursiveSlave),
            ("shared", |o| o.propagation == Propagation::Shared),
            ("rshared", |o| o.propagation == Propagation::RecursiveShared),
            ("unbindable", |o| o.propagation == Propagation::Unbindable),
            ("runbindable", |o| o.propagation == Propagation::RecursiveUnbindable),
            ("nosuid", |o| o.flags.contains(MountFlag::NoSuid) && !o.flags_below.contains(MountFlag::NoSuid)),
            ("rnosuid", |o| o.flags_below.contains(MountFlag::NoSuid) && !o.flags.contains(MountFlag::NoSuid)),
            ("suid", |o| o.flags.contains(MountFlag::Suid)),
            ("relatime", |o| o.flags.contains(MountFlag::RelAtime)),
            ("rrelatime", |o| o.flags_below.contains(MountFlag::RelAtime)),
            ("rnorelatime", |o| o.flags_below.contains(MountFlag::NoRelAtime)),
            ("rro", |o| o.access_below == Some(Access::ReadOnly) && o.access == Access::ReadWrite),
            ("rrw", |o| o.access_below == Some(Access::ReadWrite)),
            ("nosymfollow", |o| o.flags.contains(MountFlag::NoSymFollow)),
            ("noexec", |o| o.flags.contains(MountFlag::NoExec)),
        ];
        for (word, holds) in table {
            assert!(holds(&parsed(word)), "{word}");
        }
    }

    #[test]
    fn of_contrary_words_the_later_wins() {
        assert_eq!(parsed("ro rw").access, Access::ReadWrite);
        assert_eq!(parsed("rbind bind").recursion, Recursion::Single);
        assert_eq!(parsed("nodev dev").flags, parsed("dev").flags);
        assert_eq!(parsed("noatime relatime strictatime nodiratime").flags, parsed("strictatime nodiratime").flags);
    }

    #[test]
    fn every_word_that_does_not_exist_is_named() {
        let refused = BindOptions::parse(["ro", "rorw", "", "sync", "RO", "size=1"]).unwrap_err();
        let lines: Vec<_> = refused.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert!(lines[0].starts_with("'rorw' is not a mount option"));
        assert!(lines[2].contains("whole file system"));
    }

    #[test]
    fn options_survive_json_and_contradictions_in_it_are_settled() {
        let options = parsed("ro nosuid rnoexec rro slave");
        let json = serde_json::to_string(&options).unwrap();
        assert_eq!(serde_json::from_str::<BindOptions>(&json).unwrap(), options);
        let flags: MountFlags = serde_json::from_str(r#"["no-dev","dev"]"#).unwrap();
        assert_eq!(flags.iter().collect::<Vec<_>>(), [MountFlag::Dev]);
    }
}
