//! POSIX access control lists, as far as they say who may write.

/// `POSIX_ACL_XATTR_VERSION` of <linux/posix_acl_xattr.h>.
const VERSION: u32 = 2;

/// Length of an entry: tag, permissions, and whom it is about.
const ENTRY_BYTES: usize = 8;

/// `ACL_WRITE` of <linux/posix_acl.h>.
const WRITE: u16 = 2;

/// Whom an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    /// What named users and all groups have at most.
    Mask,
    Other,
}

/// A list: who, and whether they may write. The mask is applied already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acl(Vec<(Tag, bool)>);

impl Acl {
    /// The list in the value of `system.posix_acl_access`; nothing where that is none.
    pub(crate) fn parse(value: &[u8]) -> Option<Acl> {
        let (version, entries) = value.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY_BYTES != 0 {
            return None;
        }
        let entries = entries.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<Vec<_>>>()?;
        let mask = entries.iter().find(|(tag, _)| *tag == Tag::Mask).is_none_or(|(_, writes)| *writes);
        let masked = |tag| matches!(tag, Tag::User(_) | Tag::OwningGroup | Tag::Group(_));
        Some(Acl(entries.into_iter().map(|(tag, writes)| (tag, writes && (mask || !masked(tag)))).collect()))
    }

    /// What a mode says where there is no list.
    pub(crate) fn of_mode(mode: u32) -> Acl {
        let entry = |tag, bit| (tag, mode & bit != 0);
        Acl(vec![entry(Tag::Owner, 0o200), entry(Tag::OwningGroup, 0o020), entry(Tag::Other, 0o002)])
    }

    /// Whether everybody else may write.
    pub(crate) fn everybody_writes(&self) -> bool {
        self.writing().any(|tag| tag == Tag::Other)
    }

    /// Whether the group of the file may write.
    pub(crate) fn owning_group_writes(&self) -> bool {
        self.writing().any(|tag| tag == Tag::OwningGroup)
    }

    /// The users, named one by one, that may write.
    pub(crate) fn writing_users(&self) -> impl Iterator<Item = u32> {
        self.writing().filter_map(|tag| match tag {
            Tag::User(uid) => Some(uid),
            _ => None,
        })
    }

    /// The groups, named one by one, that may write.
    pub(crate) fn writing_groups(&self) -> impl Iterator<Item = u32> {
        self.writing().filter_map(|tag| match tag {
            Tag::Group(gid) => Some(gid),
            _ => None,
        })
    }

    fn writing(&self) -> impl Iterator<Item = Tag> {
        self.0.iter().filter(|(_, writes)| *writes).map(|(tag, _)| *tag)
    }
}

fn entry(bytes: &[u8]) -> Option<(Tag, bool)> {
    let half = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let id = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let tag = match half(0)? {
        0x01 => Tag::Owner,
        0x02 => Tag::User(id),
        0x04 => Tag::OwningGroup,
        0x08 => Tag::Group(id),
        0x10 => Tag::Mask,
        0x20 => Tag::Other,
        _ => return None,
    };
    Some((tag, half(2)? & WRITE != 0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A list as the kernel gives it: tag, permissions, id.
    pub(crate) fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for (tag, permissions, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn the_mask_bounds_named_users_and_every_group_and_nobody_else() {
        let list = |mask| bytes(&[(1, 6, 0), (2, 6, 7), (4, 6, 0), (8, 6, 9), (16, mask, 0), (32, 6, 0)]);
        let open = Acl::parse(&list(6)).unwrap();
        assert_eq!(
            (open.writing_users().collect::<Vec<_>>(), open.writing_groups().collect::<Vec<_>>()),
            (vec![7], vec![9])
        );
        assert!(open.owning_group_writes() && open.everybody_writes());
        let masked = Acl::parse(&list(4)).unwrap();
        assert_eq!((masked.writing_users().count(), masked.writing_groups().count()), (0, 0));
        assert!(!masked.owning_group_writes() && masked.everybody_writes());
    }

    #[test]
    fn a_mode_is_a_list_of_three() {
        assert!(Acl::of_mode(0o620).owning_group_writes() && !Acl::of_mode(0o620).everybody_writes());
        assert!(Acl::of_mode(0o602).everybody_writes() && !Acl::of_mode(0o602).owning_group_writes());
    }

    #[test]
    fn what_is_no_list_is_none() {
        let good = bytes(&[(1, 6, 0), (4, 4, 0), (32, 4, 0)]);
        assert!(Acl::parse(&good).is_some());
        let wrong_version = [&[3, 0, 0, 0], &good[4..]].concat();
        for bad in [&good[..2], &good[..good.len() - 1], &wrong_version, &bytes(&[(3, 6, 0)])] {
            assert_eq!(Acl::parse(bad), None);
        }
    }
}
