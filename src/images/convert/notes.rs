//! What a conversion changed or left out: each kind once, with how often and where first.

use std::collections::BTreeMap;
use std::fmt;

/// What a conversion changed or left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum NoteKind {
    /// Sockets of a directory: no layer has them.
    Socket,
    /// Times before 1970 or after 2106, changed to the nearest that squashfs has.
    TimeClamped,
    /// Fractions of a second, rounded down.
    TimeRounded,
    /// POSIX ACLs: squashfs has no place for them.
    PosixAcl,
    /// `trusted.overlay.…` attributes: in a layer they are the runtime's instructions to overlayfs,
    /// not the image's.
    OverlayXattr,
    /// `security.selinux` labels: they belong to the machine.
    SelinuxLabel,
    /// Extended attributes outside `user.`, `trusted.` and `security.`.
    UnknownXattr,
    /// Directories that the layer never lists, made as 0755 root:root.
    ImpliedDirectory,
    /// `.wh..wh.…` names of aufs other than the opaque marker.
    AufsName,
    /// Global PAX headers: ignored, as Docker does.
    GlobalHeader,
    /// Volume labels of GNU tar.
    VolumeLabel,
    /// Bytes other than zeros behind the end of the archive.
    TrailingData,
}

impl fmt::Display for NoteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoteKind::Socket => "sockets skipped",
            NoteKind::TimeClamped => "times outside 1970 to 2106 clamped",
            NoteKind::TimeRounded => "fractions of a second dropped",
            NoteKind::PosixAcl => "POSIX ACLs dropped",
            NoteKind::OverlayXattr => "trusted.overlay attributes dropped",
            NoteKind::SelinuxLabel => "SELinux labels dropped",
            NoteKind::UnknownXattr => "unknown extended attributes dropped",
            NoteKind::ImpliedDirectory => "directories never listed made as 0755 root:root",
            NoteKind::AufsName => "aufs names skipped",
            NoteKind::GlobalHeader => "global PAX headers ignored",
            NoteKind::VolumeLabel => "volume labels skipped",
            NoteKind::TrailingData => "data behind the end of the archive ignored",
        })
    }
}

/// One kind of thing that a conversion changed or left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is.
    pub kind: NoteKind,
    /// How often.
    pub count: u64,
    /// The first entry that it happened to, shortened where it is very long.
    pub first: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, first {:?}", self.kind, self.count, self.first)
    }
}

/// Collects notes.
#[derive(Debug, Default)]
pub(crate) struct Notes(BTreeMap<NoteKind, (u64, String)>);

impl Notes {
    pub(crate) fn add(&mut self, kind: NoteKind, name: &[u8]) {
        self.0.entry(kind).or_insert_with(|| (0, shown(name))).0 += 1;
    }

    /// All kinds, in the order of the enum.
    pub(crate) fn into_vec(self) -> Vec<Note> {
        self.0.into_iter().map(|(kind, (count, first))| Note { kind, count, first }).collect()
    }
}

/// How much of a name is shown.
const SHOWN: usize = 256;

/// A name for a person: text, and its beginning if it is very long.
pub(super) fn shown(name: &[u8]) -> String {
    match name.get(..SHOWN) {
        Some(start) if name.len() > SHOWN => format!("{}…", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(name).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_said_once_with_its_first_name() {
        let mut notes = Notes::default();
        notes.add(NoteKind::PosixAcl, b"b");
        notes.add(NoteKind::Socket, b"a");
        notes.add(NoteKind::PosixAcl, b"c");
        let lines: Vec<String> = notes.into_vec().iter().map(Note::to_string).collect();
        assert_eq!(lines, ["sockets skipped: 1, first \"a\"", "POSIX ACLs dropped: 2, first \"b\""]);
    }

    #[test]
    fn a_very_long_name_is_shortened() {
        assert_eq!(shown(&[b'n'; 256]).chars().count(), 256);
        assert_eq!(shown(&[b'n'; 257]), format!("{}…", "n".repeat(256)));
    }
}
