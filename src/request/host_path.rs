//! Paths of the host as people type them: relative ones, and with `..`.

use std::path::{Component, Path, PathBuf};

use super::path::AbsolutePath;
use crate::document::{BadValue, quoted};

/// A path of the host, from the working directory where it is relative. `..` means what it means to
/// the kernel: the part of the path that ends with it is looked up, links and all; what follows
/// stays as it is typed.
///
/// Errors: what [`AbsolutePath::new`] refuses, and a `..` that leads nowhere.
pub fn host_path(path: impl AsRef<Path>) -> Result<AbsolutePath, BadValue> {
    let path = path.as_ref();
    let named = |reason: &str| BadValue::new(format!("{} {reason}", quoted(&path.to_string_lossy())));
    let components: Vec<Component<'_>> = path.components().collect();
    let climb = components.iter().rposition(|component| *component == Component::ParentDir);
    let looked_up = match climb {
        None => path.to_owned(),
        Some(last) => {
            let climbing: PathBuf = components[..=last].iter().collect();
            let found =
                climbing.canonicalize().map_err(|error| named(&format!("leads nowhere: {}", reason(&error))))?;
            found.join(components[last + 1..].iter().collect::<PathBuf>())
        }
    };
    let absolute = std::path::absolute(looked_up).map_err(|error| named(&format!("is no path: {}", reason(&error))))?;
    AbsolutePath::new(absolute)
}

/// Without the number that the standard library adds.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_relative_path_begins_in_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        for (typed, below) in [("x", "x"), ("./x", "x"), ("a/./b", "a/b"), ("a:b", "a:b")] {
            assert_eq!(host_path(typed).unwrap().as_path(), here.join(below), "{typed}");
        }
        assert_eq!(host_path("/a//b/").unwrap().as_str(), "/a/b");
    }

    #[test]
    fn the_way_up_is_the_kernels_and_what_follows_it_stays_as_typed() {
        let directory = tempfile::tempdir().unwrap();
        let top = directory.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("far/below")).unwrap();
        symlink(top.join("far/below"), top.join("link")).unwrap();
        symlink("/elsewhere", top.join("far/file")).unwrap();
        // A textual answer would be <top>/file.
        assert_eq!(host_path(top.join("link/../file")).unwrap().as_path(), top.join("far/file"));
        assert_eq!(host_path(top.join("far/below/../..")).unwrap().as_path(), top);
        let error = host_path(top.join("missing/../x")).unwrap_err().to_string();
        assert!(error.contains("No such file or directory") && !error.contains("os error"), "{error}");
    }

    #[test]
    fn what_is_no_path_or_no_text_is_said_to_be() {
        for (typed, reason) in [("", "is no path"), ("a\0b", "NUL")] {
            let error = host_path(typed).unwrap_err().to_string();
            assert!(error.contains(reason), "{typed:?}: {error}");
        }
        let error = host_path(OsStr::from_bytes(b"b\xff.sqsh")).unwrap_err().to_string();
        assert!(error.contains("is not UTF-8"), "{error}");
    }
}
