//! The user that a worker runs as.
//!
//! Names go through the host's NSS (sssd, LDAP and so on), never through a file of our own
//! choosing, so programs that use [`Identity::of_user_name`] and [`Identity::parse`] link glibc
//! dynamically. Whether a user may be asked for is decided elsewhere.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use serde::{Deserialize, Serialize};

use super::path::AbsolutePath;
use crate::document::{BadValue, quoted};
use crate::error::{Context, Error, Result};
use crate::stage::Stage;

/// The id that means "leave as it is" to setresuid(2) and chown(2), so nobody can have it.
pub(super) const NO_ID: u32 = u32::MAX;

/// Most groups of a process: the kernel's `NGROUPS_MAX`.
const MAX_GROUPS: usize = 65536;

/// Longest user or group name in bytes: glibc's `LOGIN_NAME_MAX` (256) counts the NUL at the end.
const MAX_NAME_BYTES: usize = 255;

/// User, primary group and the full list of groups of a worker. The list is never empty and begins
/// with the primary group: an empty list would let the caller's own groups leak into the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Ids")]
pub struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// An identity as it arrives, not yet checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ids {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl TryFrom<Ids> for Identity {
    type Error = BadValue;

    fn try_from(ids: Ids) -> std::result::Result<Identity, BadValue> {
        Identity::new(ids.uid, ids.gid, ids.groups)
    }
}

impl Identity {
    /// An identity of plain numbers. The primary group is put first, a group given twice is kept
    /// once. 4294967295 is refused everywhere, and so are more than 65536 groups.
    pub fn new(uid: u32, gid: u32, groups: impl IntoIterator<Item = u32>) -> std::result::Result<Identity, BadValue> {
        let mut others: Vec<u32> = groups.into_iter().filter(|group| *group != gid).collect();
        let mut seen = std::collections::HashSet::new();
        others.retain(|group| seen.insert(*group));
        others.insert(0, gid);
        if uid == NO_ID || others.contains(&NO_ID) {
            return Err(BadValue::new("4294967295 means 'no id' to the kernel: expected 0 to 4294967294"));
        }
        if others.len() > MAX_GROUPS {
            return Err(BadValue::new(format!("{} groups are too many: the kernel takes {MAX_GROUPS}", others.len())));
        }
        Ok(Identity { uid, gid, groups: others })
    }

    /// The home directory that the host names for this user, from NSS; nothing where it names none.
    #[must_use]
    pub fn home_on_host(&self) -> Option<AbsolutePath> {
        let user = User::from_uid(Uid::from_raw(self.uid)).ok()??;
        AbsolutePath::new(user.dir).ok()
    }

    /// The user id.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The primary group id.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// All groups, the primary one first; never empty.
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// The identity of a user with all groups, from NSS.
    ///
    /// Errors: `Invalid` (the problem's field is `user`) when nobody has that name, `System` when
    /// NSS fails.
    pub fn of_user_name(name: &str) -> Result<Identity> {
        of_user(&user_named(name)?)
    }

    /// What the command line takes: `NAME`, `UID`, `NAME:GROUP`, `UID:GID` and so on.
    ///
    /// Digits alone are a number, never a name. A user without a group gets all groups that NSS
    /// knows; a bare number that NSS does not know needs a group. With a group the worker has that
    /// one group only.
    ///
    /// Errors: `Invalid` (the problem's field is `user`), `System` when NSS fails.
    pub fn parse(text: &str) -> Result<Identity> {
        let Some((user, group)) = text.split_once(':') else {
            return match number(text)? {
                None => Identity::of_user_name(text),
                Some(uid) => match known(User::from_uid(Uid::from_raw(uid)), text, "getpwuid_r")? {
                    Some(user) => of_user(&user),
                    None => refused(format!("no user has the number {uid}, so its group is unknown: expected UID:GID")),
                },
            };
        };
        let uid = match number(user)? {
            Some(uid) => uid,
            None => user_named(user)?.uid.as_raw(),
        };
        let gid = match number(group)? {
            Some(gid) => gid,
            None => group_named(group)?.gid.as_raw(),
        };
        Identity::new(uid, gid, []).or_else(|bad| refused(bad.to_string()))
    }
}

fn refused<T>(reason: impl Into<String>) -> Result<T> {
    Err(Error::invalid("user", vec![BadValue::new(reason).at("user")]))
}

/// A number where the text is one; `None` where it may be a name.
fn number(text: &str) -> Result<Option<u32>> {
    if text.is_empty() {
        return refused("a name or number is missing: expected NAME or UID, then optionally ':' and a group");
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(NO_ID) | Err(_) => refused(format!("{} is not an id: expected 0 to 4294967294", quoted(text))),
        Ok(id) => Ok(Some(id)),
    }
}

/// A name that can be looked up at all.
fn name_of(text: &str) -> Result<&str> {
    let odd = |c: char| c.is_control() || matches!(c, ':' | '/');
    if text.is_empty() || text.len() > MAX_NAME_BYTES || text.contains(odd) {
        return refused(format!("{} is not a user or group name", quoted(text)));
    }
    Ok(text)
}

fn user_named(name: &str) -> Result<User> {
    match known(User::from_name(name_of(name)?), name, "getpwnam_r")? {
        Some(user) => Ok(user),
        None => refused(format!("no user is called {}", quoted(name))),
    }
}

fn group_named(name: &str) -> Result<Group> {
    match known(Group::from_name(name_of(name)?), name, "getgrnam_r")? {
        Some(group) => Ok(group),
        None => refused(format!("no group is called {}", quoted(name))),
    }
}

/// Some NSS modules report an unknown name as an error of these two kinds, as getpwnam(3) warns.
fn known<T>(answer: nix::Result<Option<T>>, object: &str, call: &str) -> Result<Option<T>> {
    match answer {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        answer => answer.at(Stage::Request, format_args!("user {}", quoted(object)), call),
    }
}

fn of_user(user: &User) -> Result<Identity> {
    let object = format!("user {}", quoted(&user.name));
    let name =
        CString::new(user.name.as_str()).map_err(|_| Errno::EINVAL).at(Stage::Request, &object, "getgrouplist")?;
    let groups = getgrouplist(&name, user.gid).at(Stage::Request, &object, "getgrouplist")?;
    Identity::new(user.uid.as_raw(), user.gid.as_raw(), groups.into_iter().map(Gid::as_raw))
        .or_else(|bad| refused(bad.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn the_primary_group_comes_first_and_no_group_twice() {
        let identity = Identity::new(1000, 27, [1000, 27, 4, 1000]).unwrap();
        assert_eq!(identity.groups(), [27, 1000, 4]);
        assert_eq!(Identity::new(1000, 1000, []).unwrap().groups(), [1000]);
    }

    #[test]
    fn the_number_that_means_no_id_is_refused() {
        for (uid, gid, group) in [(NO_ID, 1, 1), (1, NO_ID, 1), (1, 1, NO_ID)] {
            assert!(Identity::new(uid, gid, [group]).is_err());
        }
        for text in ["4294967295", "4294967296", "1:4294967295", "99999999999999999999"] {
            assert_eq!(Identity::parse(text).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
        assert!(Identity::new(1, 1, 0..MAX_GROUPS as u32 + 1).is_err());
    }

    #[test]
    fn deserialising_mends_the_list_and_refuses_what_cannot_be() {
        let identity: Identity = serde_json::from_str(r#"{"uid":1,"gid":2,"groups":[]}"#).unwrap();
        assert_eq!(identity.groups(), [2]);
        assert!(serde_json::from_str::<Identity>(r#"{"uid":4294967295,"gid":2,"groups":[]}"#).is_err());
        assert!(serde_json::from_str::<Identity>(r#"{"uid":1,"gid":2}"#).is_err());
    }

    #[test]
    fn root_is_found_by_name_and_by_number_with_all_groups() {
        let root = Identity::of_user_name("root").unwrap();
        assert_eq!((root.uid(), root.gid()), (0, 0));
        assert!(root.groups().contains(&0));
        assert_eq!(Identity::parse("root").unwrap(), root);
        assert_eq!(Identity::parse("0").unwrap(), root);
    }

    #[test]
    fn the_host_knows_the_home_of_its_users_alone() {
        assert!(Identity::of_user_name("root").unwrap().home_on_host().is_some());
        assert_eq!(Identity::new(3_987_654_321, 1, []).unwrap().home_on_host(), None);
    }

    #[test]
    fn with_a_group_the_worker_has_that_one_only() {
        for (text, uid, gid) in [("7:8", 7, 8), ("root:8", 0, 8), ("7:root", 7, 0)] {
            let identity = Identity::parse(text).unwrap();
            assert_eq!((identity.uid(), identity.gid(), identity.groups()), (uid, gid, [gid].as_slice()), "{text}");
        }
    }

    #[test]
    fn what_names_nobody_is_refused_with_the_reason() {
        let table = [
            ("", "missing"),
            (":", "missing"),
            ("root:", "missing"),
            (":1", "missing"),
            ("no-such-user-7f3a", "no user is called"),
            ("1:no-such-group-7f3a", "no group is called"),
            ("3987654321", "expected UID:GID"),
            ("0:b:c", "not a user or group name"),
            ("a\0b", "not a user or group name"),
            ("-1", "no user is called"),
        ];
        for (text, reason) in table {
            let error = Identity::parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{text:?}");
            assert!(error.to_string().contains(reason), "{text:?}: {error}");
        }
    }
}
