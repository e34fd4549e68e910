//! Users of an image, by its own `/etc/passwd` and `/etc/group`.

/// Who a worker of an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// Its uid.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its further groups, sorted.
    pub groups: Vec<u32>,
}

/// Whether a text names user and group by numbers alone, so that no file is needed.
#[must_use]
pub fn by_numbers(text: &str) -> Option<ImageUser> {
    let (uid, gid) = text.split_once(':')?;
    Some(ImageUser { uid: uid.parse().ok()?, gid: gid.parse().ok()?, groups: Vec::new() })
}

/// Finds a user: `user[:group]`, each by name or number, as docker does.
///
/// A name is looked up first; a number that is nobody's is taken as it is. Without a group it is
/// that of the user's line (0 for a uid without one), with all groups that list the user. With a
/// group it is that one alone.
///
/// # Errors
/// What is missing.
pub fn find(text: &str, passwd: &[u8], group: &[u8]) -> Result<ImageUser, String> {
    let (user, wanted_group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let line = users(passwd).find(|line| line.name == user).or_else(|| {
        let uid: u32 = user.parse().ok()?;
        users(passwd).find(|line| line.uid == uid)
    });
    let uid = line.as_ref().map(|line| line.uid).or_else(|| user.parse().ok());
    let uid = uid.ok_or_else(|| format!("the image has no user {user:?} in its /etc/passwd"))?;
    if let Some(wanted) = wanted_group {
        let found = groups(group).find(|line| line.name == wanted).map(|line| line.gid);
        let gid = found.or_else(|| wanted.parse().ok());
        let gid = gid.ok_or_else(|| format!("the image has no group {wanted:?} in its /etc/group"))?;
        return Ok(ImageUser { uid, gid, groups: Vec::new() });
    }
    let Some(line) = line else { return Ok(ImageUser { uid, gid: 0, groups: Vec::new() }) };
    let mut further: Vec<u32> =
        groups(group).filter(|entry| entry.members.contains(&line.name)).map(|entry| entry.gid).collect();
    further.retain(|gid| *gid != line.gid);
    further.sort_unstable();
    further.dedup();
    Ok(ImageUser { uid, gid: line.gid, groups: further })
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

/// passwd(5); lines that are none are left out.
fn users(passwd: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        Some(User { name, uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    })
}

/// group(5).
fn groups(group: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or_default().split(',').collect() })
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\n\xff:x:9:9::/:\nbroken\napp:x:1000:1001::/srv:/bin/sh\n7:x:70:71::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nstaff:x:50:app,other\napp:x:1001:app\nvideo:x:44:other,app\nempty:x:60\n";

    #[test]
    fn users_are_found_by_name_and_number() {
        for (text, expected) in [
            ("app", (1000, 1001, vec![44, 50])),
            ("1000", (1000, 1001, vec![44, 50])),
            ("root", (0, 0, vec![])),
            ("4711", (4711, 0, vec![])),
            // A name comes before a number.
            ("7", (70, 71, vec![])),
            ("app:staff", (1000, 50, vec![])),
            ("app:7", (1000, 7, vec![])),
            ("5:video", (5, 44, vec![])),
        ] {
            let user = find(text, PASSWD, GROUP).unwrap();
            assert_eq!((user.uid, user.gid, user.groups), expected, "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (text, missing) in
            [("nobody", "user \"nobody\""), ("app:no", "group \"no\""), ("", "user \"\""), ("-1", "user")]
        {
            let error = find(text, PASSWD, GROUP).unwrap_err();
            assert!(error.contains(missing), "{text}: {error}");
        }
        assert!(find("app", b"", b"").is_err());
    }

    #[test]
    fn numbers_alone_need_no_file() {
        assert_eq!(by_numbers("1:2"), Some(ImageUser { uid: 1, gid: 2, groups: Vec::new() }));
        for text in ["1", "a:1", "1:a", "1:2:3", ":", "4294967296:0"] {
            assert_eq!(by_numbers(text), None, "{text}");
        }
    }
}
