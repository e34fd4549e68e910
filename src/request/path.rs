//! Paths that a caller gives: absolute and without a way up.
//!
//! Only the text is checked here; what a path leads to is known when it is opened. `//`, `/./` and
//! a slash at the end are taken out, because configuration joins paths with `/` and they mean
//! nothing to the kernel either. `..` is refused, because its meaning depends on symbolic links.
//! Paths are UTF-8: they cross process borders as JSON.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::document::{BadValue, checked_text, quoted};

/// Longest path in bytes: the kernel's `PATH_MAX` (4096) counts the NUL at the end.
const MAX_PATH_BYTES: usize = 4095;

/// Longest component in bytes: the kernel's `NAME_MAX`.
const MAX_NAME_BYTES: usize = 255;

/// An absolute path without `.`, `..`, empty components or NUL, at most 4095 bytes long.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AbsolutePath(String);

impl AbsolutePath {
    /// Checks a path and brings it into its plain form.
    pub fn new(path: impl AsRef<Path>) -> Result<AbsolutePath, BadValue> {
        let path = path.as_ref();
        let text = path.to_str().ok_or_else(|| bad(&path.to_string_lossy(), "is not UTF-8"))?;
        if !text.starts_with('/') {
            return Err(bad(text, "is not an absolute path: expected one that begins with '/'"));
        }
        if text.contains('\0') {
            return Err(bad(text, "contains a NUL byte"));
        }
        let mut plain = String::new();
        for name in text.split('/').filter(|name| !matches!(*name, "" | ".")) {
            if name == ".." {
                return Err(bad(text, "contains '..': expected the path itself"));
            }
            if name.len() > MAX_NAME_BYTES {
                return Err(bad(text, "has a component of more than 255 bytes (NAME_MAX)"));
            }
            plain.push('/');
            plain.push_str(name);
        }
        if plain.len() > MAX_PATH_BYTES {
            return Err(bad(text, "has more than 4095 bytes (PATH_MAX)"));
        }
        if plain.is_empty() {
            plain.push('/');
        }
        Ok(AbsolutePath(plain))
    }

    /// The root directory.
    #[must_use]
    pub fn root() -> AbsolutePath {
        AbsolutePath("/".into())
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    fn is_root(&self) -> bool {
        self.0 == "/"
    }
}

/// The path of a layer's file on the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerPath(AbsolutePath);

impl LayerPath {
    /// Checks a path: an [`AbsolutePath`] that is not the root directory.
    pub fn new(path: impl AsRef<Path>) -> Result<LayerPath, BadValue> {
        let path = AbsolutePath::new(path)?;
        if path.is_root() {
            return Err(bad("/", "is a directory: expected a layer's file"));
        }
        Ok(LayerPath(path))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        self.0.as_path()
    }
}

/// Where something is mounted inside the container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination(AbsolutePath);

impl Destination {
    /// Checks a path: an [`AbsolutePath`] that is not the root directory and neither `/proc` nor
    /// below it. A false `/proc` would deceive whatever confines the worker through it.
    pub fn new(path: impl AsRef<Path>) -> Result<Destination, BadValue> {
        let path = AbsolutePath::new(path)?;
        if path.is_root() {
            return Err(bad("/", "cannot be mounted over: expected a place below the root"));
        }
        if path.as_path().starts_with("/proc") {
            return Err(bad(path.as_str(), "cannot be mounted over: /proc belongs to the container itself"));
        }
        Ok(Destination(path))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        self.0.as_path()
    }
}

fn bad(path: &str, reason: &str) -> BadValue {
    BadValue::new(format!("{} {reason}", quoted(path)))
}

checked_text! { AbsolutePath LayerPath Destination }

/// What every kind of path can do besides: be lent as a path.
macro_rules! path_text {
    ($($kind:ident)*) => {$(
        impl AsRef<Path> for $kind {
            fn as_ref(&self) -> &Path {
                self.as_path()
            }
        }
    )*};
}

path_text! { AbsolutePath LayerPath Destination }

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_path_is_brought_into_its_plain_form() {
        let table = [("/", "/"), ("//", "/"), ("/a//b/./c/", "/a/b/c"), ("/a/...", "/a/..."), ("/a b:c,d", "/a b:c,d")];
        for (given, plain) in table {
            let path = AbsolutePath::new(given).unwrap();
            assert_eq!(path.as_str(), plain);
            assert_eq!(AbsolutePath::new(path.as_str()).unwrap(), path);
        }
    }

    #[test]
    fn a_path_that_is_relative_climbs_or_does_not_fit_is_refused() {
        let long_name = format!("/{}", "x".repeat(256));
        let long_path = "/xxxxxxxxx".repeat(410);
        for path in ["", "a", "./a", "/a/../b", "/..", "/a\0b", &long_name, &long_path] {
            assert!(AbsolutePath::new(path).is_err(), "{}", quoted(path));
        }
        assert!(AbsolutePath::new(OsStr::from_bytes(b"/\xff")).is_err());
        assert!(AbsolutePath::new(&long_path[..4090]).is_ok());
    }

    #[test]
    fn nothing_is_mounted_over_the_root_or_into_proc() {
        for path in ["/", "/.", "/proc", "//proc/", "/proc/sys/kernel"] {
            assert!(Destination::new(path).is_err(), "{path}");
        }
        for path in ["/process", "/etc/proc", "/sys/fs/cgroup", "/dev/shm"] {
            assert!(Destination::new(path).is_ok(), "{path}");
        }
        assert!(LayerPath::new("/").is_err());
    }

    #[test]
    fn deserialising_runs_the_same_check() {
        assert!(serde_json::from_str::<AbsolutePath>("\"a\"").is_err());
        assert!(serde_json::from_str::<LayerPath>("\"/a/../b\"").is_err());
        assert!(serde_json::from_str::<Destination>("\"/proc\"").is_err());
    }
}
