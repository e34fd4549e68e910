//! Owner, group and mode of one file or directory, and which are changed at all.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Stat, Uid, chmodat, chownat, fstat, statat};
use rustix::io::{Errno, Result};

use super::trail::is_directory;
use super::{Access, Parties, Setgid};

/// More than the step of the kernel's file times, 10 ms where it ticks slowest.
const TICK: Duration = Duration::from_millis(20);

/// How often a file that somebody links and unlinks is looked at.
const LOOKS: u32 = 5;

/// What a tree is to become.
#[derive(Debug, Clone)]
pub struct Grant {
    pub user: u32,
    pub group: u32,
    pub supervisor: u32,
    pub access: Access,
    pub setgid: Setgid,
    /// Whether the kernel lets a user link only what it owns, or may write to.
    pub links_are_protected: bool,
}

/// An entry that stays as it is.
pub enum Refused {
    /// It is not the user's to have.
    Foreign(String),
    System(&'static str, Errno),
}

impl Grant {
    pub fn new(parties: &Parties, access: Access, setgid: Setgid) -> Grant {
        let protected = std::fs::read_to_string("/proc/sys/fs/protected_hardlinks");
        Grant {
            user: parties.user.uid(),
            group: parties.group,
            supervisor: parties.supervisor.uid(),
            access,
            setgid,
            links_are_protected: protected.is_ok_and(|text| text.trim() == "1"),
        }
    }

    /// The mode: the owner's read and execute bits stay, the group reads and writes, nobody else
    /// does anything.
    pub fn mode(&self, stat: &Stat) -> u32 {
        let write = if self.access == Access::Write { 0o200 } else { 0 };
        let directory = match (is_directory(stat), self.setgid) {
            (false, _) => 0,
            (true, Setgid::No) => 0o010,
            (true, Setgid::Yes) => 0o2010,
        };
        stat.st_mode & 0o500 | 0o060 | write | directory
    }

    /// Whether a tree may begin here. Stricter than inside: what the supervisor made for the user,
    /// or the user's already.
    pub fn may_begin_at(&self, stat: &Stat) -> std::result::Result<(), String> {
        match stat.st_uid {
            uid if uid == self.user || uid == self.supervisor => Ok(()),
            0 if stat.st_gid == self.group => Ok(()),
            uid => Err(format!("it belongs to uid {uid}: neither to the user nor to the supervisor")),
        }
    }

    /// Gives an entry to the user. Everything is decided and done on this one descriptor.
    pub fn apply(
        &self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        entry: BorrowedFd<'_>,
        stat: &Stat,
    ) -> std::result::Result<(), Refused> {
        self.check(stat).map_err(Refused::Foreign)?;
        if stat.st_uid != self.user && !is_directory(stat) && !self.links_are_protected {
            sole_link(parent, name, entry)?;
        }
        self.change(entry, stat)
    }

    /// Whether an entry is given to the user.
    ///
    /// | owner | given |
    /// |---|---|
    /// | the user | yes |
    /// | the supervisor | directories, and files with one link |
    /// | root, anybody else | the same, if it has the launcher's group or everybody may read it |
    ///
    /// A user can link a foreign file into its tree, where the kernel does not protect them, and
    /// can move one that lies in a directory of its own: it must not become the file's owner by
    /// that. So of files with several links, only its own are changed. Those of the supervisor
    /// (links in an unpacked archive) stay as they were unpacked: which names a link count stands
    /// for cannot be told.
    fn check(&self, stat: &Stat) -> std::result::Result<(), String> {
        let uid = stat.st_uid;
        if uid == self.user {
            return Ok(());
        }
        if !is_directory(stat) && stat.st_nlink != 1 {
            return Err(format!("it belongs to uid {uid} and has {} links", stat.st_nlink));
        }
        let open_to_all = if is_directory(stat) { 0o005 } else { 0o004 };
        let is_shared = stat.st_gid == self.group || stat.st_mode & open_to_all == open_to_all;
        if uid == self.supervisor || is_shared {
            return Ok(());
        }
        Err(format!("it belongs to uid {uid}, who lets nobody else read it"))
    }

    /// In three steps, so that at no moment anybody has more than before or after. The middle mode
    /// is what both have in common: with the new one first, the old group could write; with the new
    /// owner first, it could write what it is only to read. The owner's read and execute bits are
    /// the same all the time, so walks at the same time come to the same result.
    fn change(&self, entry: BorrowedFd<'_>, stat: &Stat) -> std::result::Result<(), Refused> {
        let (old, new) = (stat.st_mode & 0o7777, self.mode(stat));
        if stat.st_uid != self.user || stat.st_gid != self.group {
            if old & new != old {
                set_mode(entry, old & new).map_err(|errno| Refused::System("chmod", errno))?;
            }
            let (user, group) = (Uid::from_raw(self.user), Gid::from_raw(self.group));
            chownat(entry, "", Some(user), Some(group), AtFlags::EMPTY_PATH)
                .map_err(|errno| Refused::System("chown", errno))?;
        } else if old == new {
            return Ok(());
        }
        set_mode(entry, new).map_err(|errno| Refused::System("chmod", errno))
    }
}

/// chmod(2) of what an `O_PATH` descriptor stands for. `fchmodat2` would do it by itself, from
/// Linux 6.6 on.
pub fn set_mode(entry: BorrowedFd<'_>, mode: u32) -> Result<()> {
    let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
    chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())
}

/// Makes sure that this entry is the file's only link.
///
/// A user can link a foreign file, have it opened here, and unlink it: it then has one link, and
/// that is the foreign one. Both change the file's ctime. So: one link, unchanged for a while; the
/// name leads to the file; and it has not changed since. An unsettled file is looked at again.
fn sole_link(parent: BorrowedFd<'_>, name: &CStr, entry: BorrowedFd<'_>) -> std::result::Result<(), Refused> {
    let failed = |errno| Refused::System("stat", errno);
    for _ in 0..LOOKS {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = fstat(entry.as_fd()).map_err(failed)?;
        let named = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        let after = fstat(entry).map_err(failed)?;
        let seen = [&before, &named, &after].map(|stat| (stat.st_dev, stat.st_ino, stat.st_nlink, changed(stat)));
        if before.st_nlink == 1 && seen[0] == seen[1] && seen[1] == seen[2] && changed(&before) + TICK < now {
            return Ok(());
        }
        std::thread::sleep(TICK);
    }
    Err(Refused::Foreign("it is somebody else's, and linked or changed all the time".to_owned()))
}

fn changed(stat: &Stat) -> Duration {
    let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(stat.st_ctime_nsec)
}
