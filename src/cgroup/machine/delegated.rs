//! Whether the calling process lies in a cgroup that somebody else than root decides about.
//!
//! Whoever owns a cgroup freezes, starves or kills what is in it. A launch that was called from
//! such a cgroup leaves it before it holds anything that others wait for.

use super::layout::Layout;
use super::membership::Membership;
use crate::error::Result;

/// Whether somebody else than root could write to this process's cgroup, or one above it, in any
/// hierarchy. What cannot be seen from here counts as if somebody could.
///
/// # Errors
/// `System` where `/proc` cannot be read.
pub fn is_delegated(layout: &Layout) -> Result<bool> {
    let membership = Membership::of_self(layout)?;
    let exposed = |hierarchy: &crate::cgroup::machine::layout::Hierarchy| {
        let Some(path) = membership.path_in(hierarchy) else { return false };
        // A process outside of the root of its cgroup namespace has a path that begins with `/..`.
        match path.strip_prefix(hierarchy.root.trim_end_matches('/')) {
            Some(below) if !below.starts_with("/..") => {
                ancestors(below).any(|path| others_write(&hierarchy.below(path)))
            }
            _ => true,
        }
    };
    Ok(layout.hierarchies().iter().any(exposed))
}

/// `/a`, then `/a/b`; not the root.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_end_matches('/');
    let ends = path.match_indices('/').skip(1).map(|(index, _)| index).chain([path.len()]);
    ends.filter(|end| *end > 0).map(|end| &path[..end])
}

fn others_write(directory: &str) -> bool {
    rustix::fs::stat(directory).map_or(true, |stat| stat.st_uid != 0 || stat.st_mode & 0o022 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::path::Path;

    use super::*;
    use crate::cgroup::fake::FakeTree;

    #[test]
    fn every_cgroup_above_the_own_one_is_looked_at_but_the_root() {
        let table: [(&str, &[&str]); 4] =
            [("/", &[]), ("/a", &["/a"]), ("/a/b/c", &["/a", "/a/b", "/a/b/c"]), ("/a/", &["/a"])];
        for (path, expected) in table {
            assert_eq!(ancestors(path).collect::<Vec<_>>(), expected, "{path}");
        }
    }

    /// Needs root, to give a directory away.
    #[test]
    fn a_cgroup_that_somebody_else_may_write_to_is_delegated_and_so_is_all_below_it() {
        let tree = FakeTree::v1();
        tree.add("memory/a");
        tree.add("memory/a/b");
        tree.set_membership("4:memory:/a/b\n3:cpu:/\n0::/\n");
        let mount_point = |name: &str| {
            let found = tree.layout().hierarchies().iter().find(|one| one.mount_point.ends_with(name));
            found.unwrap().mount_point.clone()
        };
        let above = mount_point("/memory") + "/a";
        assert!(!is_delegated(tree.layout()).unwrap());
        chown(&above, Some(4711), None).unwrap();
        assert!(is_delegated(tree.layout()).unwrap());
        chown(&above, Some(0), None).unwrap();
        std::fs::set_permissions(Path::new(&above), std::fs::Permissions::from_mode(0o775)).unwrap();
        assert!(is_delegated(tree.layout()).unwrap());
        tree.set_membership("4:memory:/../a\n");
        assert!(is_delegated(tree.layout()).unwrap());
    }
}
