//! What every entry has besides its kind: mode, owner, time, extended attributes.

use super::error::Fault;
use super::xattrs::XattrSet;

/// Permission bits, setuid, setgid and sticky bit.
const PERMISSIONS: u32 = 0o7777;
/// The kernel's "no user": `(uid_t) -1`.
const NO_ID: u32 = u32::MAX;

/// The attributes of an entry, as the caller gives them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits with setuid, setgid and sticky bit, without the file type: at most 0o7777.
    /// Of a symlink they are ignored.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970; the format has neither fractions nor times before that, nor after 2106.
    pub modification_time: u32,
    /// Extended attributes: full names (`user.…`, `trusted.…` or `security.…`, 255 bytes at most)
    /// and values (65536 bytes at most), in any order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    /// The mode, root as owner and group, the start of 1970, no extended attributes.
    #[must_use]
    pub fn new(mode: u32) -> Attributes {
        Attributes { mode, ..Attributes::default() }
    }
}

/// The two kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Character device; 0:0 is a whiteout of overlayfs.
    Character,
    /// Block device.
    Block,
}

/// Attributes that the format can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modification_time: u32,
    pub(super) xattrs: Option<XattrSet>,
}

impl Checked {
    /// A directory that nobody described: 0755, root:root.
    pub(super) fn implied_directory(modification_time: u32) -> Checked {
        Checked { mode: 0o755, uid: 0, gid: 0, modification_time, xattrs: None }
    }
}

impl TryFrom<&Attributes> for Checked {
    type Error = Fault;

    fn try_from(given: &Attributes) -> Result<Checked, Fault> {
        if given.mode & !PERMISSIONS != 0 {
            return Err(Fault::Mode(given.mode));
        }
        if given.uid == NO_ID || given.gid == NO_ID {
            return Err(Fault::Owner);
        }
        Ok(Checked {
            mode: given.mode as u16,
            uid: given.uid,
            gid: given.gid,
            modification_time: given.modification_time,
            xattrs: XattrSet::encode(&given.xattrs)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_modes_and_owners_that_exist_pass() {
        assert_eq!(Checked::try_from(&Attributes::new(0o7777)).unwrap().mode, 0o7777);
        assert!(matches!(Checked::try_from(&Attributes::new(0o100644)), Err(Fault::Mode(0o100644))));
        for owner in [(NO_ID, 0), (0, NO_ID)] {
            let attributes = Attributes { uid: owner.0, gid: owner.1, ..Attributes::default() };
            assert!(matches!(Checked::try_from(&attributes), Err(Fault::Owner)), "{owner:?}");
        }
    }
}
