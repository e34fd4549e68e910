//! A path inside the image, checked once.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::error::Fault;

/// `SQUASHFS_NAME_LEN`: one more than `NAME_MAX`, the longest name that Linux' own file systems
/// have.
const NAME_LENGTH: usize = 256;
/// `PATH_MAX` without its NUL. Bounds how many directories one hostile path can bring into being.
pub(super) const PATH_LENGTH: usize = 4095;

/// The names from the root down to an entry; none for the root itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct EntryPath<'a>(Vec<&'a [u8]>);

impl<'a> EntryPath<'a> {
    /// Splits a relative path. Components `.` mean nothing and are left out, so that `./a` of a tar
    /// archive is `a`.
    pub(super) fn parse(path: &'a Path) -> Result<EntryPath<'a>, Fault> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() {
            return Ok(EntryPath(Vec::new()));
        }
        if bytes.len() > PATH_LENGTH {
            return Err(Fault::PathTooLong(bytes.len()));
        }
        let mut names = Vec::new();
        for name in bytes.split(|byte| *byte == b'/') {
            match name {
                b"" => return Err(Fault::EmptyComponent),
                b".." => return Err(Fault::ParentComponent),
                b"." => {}
                _ if name.contains(&0) => return Err(Fault::Nul),
                _ if name.len() > NAME_LENGTH => return Err(Fault::NameTooLong(name.len())),
                _ => names.push(name),
            }
        }
        Ok(EntryPath(names))
    }

    /// The names, from the top.
    pub(super) fn names(&self) -> &[&'a [u8]] {
        &self.0
    }

    /// The first `count` names as a path, for messages.
    pub(super) fn prefix(&self, count: usize) -> PathBuf {
        self.0.iter().take(count).map(|name| OsStr::from_bytes(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<&str> {
        let parsed = EntryPath::parse(Path::new(path)).unwrap();
        parsed.names().iter().map(|name| std::str::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn single_dots_are_nothing_and_the_rest_are_names() {
        let empty: [&str; 0] = [];
        for (path, expected) in [
            ("", &empty[..]),
            (".", &empty),
            ("./.", &empty),
            ("a", &["a"]),
            ("./a/./b", &["a", "b"]),
            ("...", &["..."]),
            ("a\n/ ", &["a\n", " "]),
        ] {
            assert_eq!(names(path), expected, "{path:?}");
        }
        assert_eq!(names(&format!("a/{}", "n".repeat(256)))[1].len(), 256);
    }

    #[test]
    fn paths_that_lead_elsewhere_or_cannot_be_stored_are_refused() {
        let long_name = "n".repeat(257);
        let long_path = "n/".repeat(2048);
        for (path, fault) in [
            ("/", "EmptyComponent"),
            ("/etc", "EmptyComponent"),
            ("a/", "EmptyComponent"),
            ("a//b", "EmptyComponent"),
            ("..", "ParentComponent"),
            ("a/../b", "ParentComponent"),
            ("a/b\0c", "Nul"),
            (long_name.as_str(), "NameTooLong(257)"),
            (long_path.as_str(), "PathTooLong(4096)"),
        ] {
            assert_eq!(format!("{:?}", EntryPath::parse(Path::new(path)).unwrap_err()), fault, "{path:?}");
        }
    }
}
