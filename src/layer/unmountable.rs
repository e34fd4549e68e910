//! What a layer is that the kernel does not mount or cannot read, in words.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, fstat};

use super::LayerFormat;
use crate::error::{Cause, Context, Error, ErrorKind, FileAspect, Result};
use crate::host::kind_of_file;
use crate::stage::Stage;

/// The error of a mount with what it says about the file, before what the kernel says itself. Of
/// other errors nothing is changed: a limit or a missing file system says nothing about the file.
pub(super) fn explain(error: Error, format: LayerFormat) -> Error {
    let Cause::Errno { errno, meaning } = error.cause() else { return error };
    if let Some(kernel) = meaning.as_deref().filter(|kernel| kernel.contains("compression")) {
        let text = format!("this kernel lacks the compression, or the file is damaged; the kernel says: {kernel}");
        return error.with_kind(ErrorKind::Unsupported).explain(text);
    }
    let Some(words) = words(*errno, format) else { return error };
    let text = match meaning {
        Some(kernel) => format!("{words}; the kernel says: {kernel}"),
        None => words,
    };
    error.explain(text)
}

/// The mount of a layer, if its root is a directory: a damaged file may have anything there, and
/// nothing else can be a part of an overlay.
pub(super) fn with_directory(mount: OwnedFd, object: &str, format: LayerFormat) -> Result<OwnedFd> {
    let mode = fstat(&mount).at(Stage::Layers, object, "fstat")?.st_mode;
    match FileType::from_raw_mode(mode) {
        FileType::Directory => Ok(mount),
        other => {
            let found = format!("a damaged {} file whose root is {}", format.name(), kind_of_file(other));
            let expected = "one whose root is a directory";
            Err(Error::wrong_file(Stage::Layers, object, "fstat", FileAspect::Content, found, expected))
        }
    }
}

/// The errnos by which the two file systems refuse what they find; EIO is also a file that is cut
/// off or a disk that fails below it.
fn words(errno: i32, format: LayerFormat) -> Option<String> {
    match (errno, format) {
        (
            libc::EINVAL | libc::EBADMSG | libc::EUCLEAN | libc::EIO | libc::ENOENT | libc::ERANGE,
            LayerFormat::Squashfs,
        ) => Some("not a squashfs file or a damaged one".into()),
        (
            libc::EINVAL | libc::EBADMSG | libc::EUCLEAN | libc::EIO | libc::ENOENT | libc::ERANGE,
            LayerFormat::Erofs,
        ) => {
            let page = rustix::param::page_size();
            Some(format!("not an EROFS file or a damaged one, or one with blocks greater than a page ({page} bytes)"))
        }
        (libc::EOPNOTSUPP, format) => Some(format!(
            "the file has a feature or a compression of {} that this kernel lacks, or is damaged",
            format.name()
        )),
        _ => None,
    }
}

/// The error of a call on something in the container's root with what it says about the layers,
/// where it says so. The overlay does not tell which of them it was.
pub(crate) fn explain_unread(error: Error) -> Error {
    match error.errno() {
        Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG) => {
            error.explain("a layer is damaged, or its file cannot be read any more")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;

    #[test]
    fn what_the_kernel_refuses_is_said_in_words_before_its_own() {
        let error = || Error::system(Stage::Layers, "layer '/a'", "fsconfig(squashfs, create)", Errno(libc::EINVAL));
        let plain = explain(error(), LayerFormat::Squashfs).to_string();
        assert!(plain.ends_with("Invalid argument: not a squashfs file or a damaged one"), "{plain}");
        let both = explain(error().explain("unable to read xattr id table"), LayerFormat::Erofs).to_string();
        assert!(both.contains("not an EROFS file") && both.ends_with("the kernel says: unable to read xattr id table"));
    }

    #[test]
    fn what_cannot_be_read_of_a_root_is_a_damaged_layer_and_what_is_not_there_is_not() {
        let error = |errno| explain_unread(Error::system(Stage::Mounts, "mount point '/a'", "openat2", Errno(errno)));
        assert!(error(libc::EUCLEAN).to_string().contains("a layer is damaged"));
        assert!(!error(libc::ENOENT).to_string().contains("damaged"));
    }

    #[test]
    fn a_compression_that_the_kernel_lacks_is_told_from_damage_by_what_it_says() {
        let error = Error::system(Stage::Layers, "layer '/a'", "fsconfig(squashfs, create)", Errno(libc::EINVAL));
        let told =
            explain(error.explain("Filesystem uses \"lzo\" compression. This is not supported"), LayerFormat::Squashfs);
        assert_eq!(told.kind(), ErrorKind::Unsupported);
        assert!(told.to_string().contains("lacks the compression"), "{told}");
    }

    #[test]
    fn a_root_that_is_no_directory_is_no_layer() {
        let open = |path: &str| std::fs::File::open(path).unwrap().into();
        assert!(with_directory(open("/"), "layer '/a'", LayerFormat::Squashfs).is_ok());
        let error = with_directory(open("/dev/null"), "layer '/a'", LayerFormat::Squashfs).unwrap_err();
        assert!(error.to_string().contains("a damaged squashfs file"), "{error}");
    }

    #[test]
    fn a_limit_says_nothing_about_the_file() {
        let error = Error::system(Stage::Layers, "layer '/a'", "fsconfig(squashfs, create)", Errno(libc::ENOMEM));
        assert_eq!(explain(error.clone(), LayerFormat::Squashfs), error);
    }
}
