//! Who may change an open file: its owner, its mode, its access control list.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FileType, Stat, getxattr};
use rustix::io::Errno;

use super::acl::Acl;
use crate::request::Identity;

/// The link in `/proc` that leads to what is open here.
pub(crate) fn own_link(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Who may change something, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) kind: FileType,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    /// None where there is none, or where the file system has none.
    pub(crate) acl: Option<std::result::Result<Acl, ()>>,
}

/// Room for 127 entries, and for as many as an attribute holds (XATTR_SIZE_MAX).
const LIST_BYTES: [usize; 2] = [1024, 65536];

/// The value of the access control list of what is open here. A descriptor by O_PATH has no
/// attributes itself, but leads to what has.
fn access_list(fd: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    let link = own_link(fd);
    let read = |bytes: usize| {
        let mut value = vec![0_u8; bytes];
        let length = getxattr(&link, "system.posix_acl_access", value.as_mut_slice())?;
        value.truncate(length);
        Ok(value)
    };
    match read(LIST_BYTES[0]) {
        Err(Errno::RANGE) => read(LIST_BYTES[1]),
        other => other,
    }
}

impl Facts {
    pub(crate) fn of(fd: BorrowedFd<'_>, stat: &Stat) -> Facts {
        let acl = match access_list(fd) {
            Ok(value) => Some(Acl::parse(&value).ok_or(())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => None,
            Err(_) => Some(Err(())),
        };
        Facts {
            kind: FileType::from_raw_mode(stat.st_mode),
            uid: stat.st_uid,
            gid: stat.st_gid,
            mode: stat.st_mode & 0o7777,
            acl,
        }
    }

    /// Who may write, by list or mode; the error is a way that is open to all, or taken for open.
    fn list(&self) -> std::result::Result<Acl, Way> {
        let acl = match &self.acl {
            Some(Err(())) => return Err(Way::UnreadableList),
            Some(Ok(acl)) => acl.clone(),
            None => Acl::of_mode(self.mode),
        };
        if acl.everybody_writes() { Err(Way::Everybody) } else { Ok(acl) }
    }

    /// How a worker may write, apart from being the owner. Any way counts, also where a narrower
    /// entry would come before it: whose groups may write today, may tomorrow.
    pub(crate) fn way_to_write(&self, worker: &Identity) -> Option<Way> {
        let in_group = |gid: u32| worker.groups().contains(&gid);
        let acl = match self.list() {
            Ok(acl) => acl,
            Err(way) => return Some(way),
        };
        if acl.owning_group_writes() && in_group(self.gid) {
            return Some(Way::Group(self.gid));
        }
        if acl.writing_users().any(|uid| uid == worker.uid()) {
            return Some(Way::UserEntry(worker.uid()));
        }
        acl.writing_groups().find(|gid| in_group(*gid)).map(Way::GroupEntry)
    }

    /// How somebody may write who is neither root nor one of the owners.
    pub(crate) fn way_of_strangers(&self, owners: &[u32]) -> Option<Way> {
        let trusted = |uid: &u32| *uid == 0 || owners.contains(uid);
        let acl = match self.list() {
            Ok(acl) => acl,
            Err(way) => return Some(way),
        };
        let owning_group = acl.owning_group_writes().then_some(self.gid);
        let group = owning_group.into_iter().chain(acl.writing_groups()).next().map(Way::StrangersGroup);
        let user = acl.writing_users().find(|uid| !trusted(uid)).map(Way::Stranger);
        group.or(user)
    }

    /// Whether a worker may write, now or once it has changed the mode as the owner.
    pub(crate) fn may_be_changed_by(&self, worker: &Identity) -> bool {
        self.uid == worker.uid() || self.way_to_write(worker).is_some()
    }
}

/// A way to write to a file of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Everybody,
    Group(u32),
    UserEntry(u32),
    GroupEntry(u32),
    Stranger(u32),
    StrangersGroup(u32),
    UnreadableList,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Way::Everybody => f.write_str("can be written by everybody"),
            Way::Group(gid) => write!(f, "can be written by the worker's group {gid}"),
            Way::UserEntry(uid) => write!(f, "can be written by the worker's user {uid} by its access control list"),
            Way::GroupEntry(gid) => write!(f, "can be written by the worker's group {gid} by its access control list"),
            Way::Stranger(uid) => write!(f, "can be written by user {uid} by its access control list"),
            Way::StrangersGroup(gid) => write!(f, "can be written by group {gid}"),
            Way::UnreadableList => f.write_str("has an access control list that cannot be read"),
        }
    }
}
