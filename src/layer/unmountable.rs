//! What a layer is that the kernel does not mount or cannot read, in words.

use super::LayerFormat;
use crate::error::{Cause, Error};

/// The error of a mount with what it says about the file, before what the kernel says itself. Of other errors nothing is changed: a limit
/// or a missing file system says nothing about the file.
pub(super) fn explain(error: Error, format: LayerFormat) -> Error {
    let Cause::Errno { errno, meaning } = error.cause() else { return error };
    let Some(words) = words(*errno, format) else { return error };
    let text = match meaning {
        Some(kernel) => format!("{words}; the kernel says: {kernel}"),
        None => words,
    };
    error.meaning(text)
}

/// The errnos by which the two file systems refuse what they find; EIO is also a file that is cut off or a disk that fails below it.
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

/// The error of a call on something in the container's root with what it says about the layers, where it says so. The overlay does not tell
/// which of them it was.
pub(crate) fn explain_unread(error: Error) -> Error {
    match error.errno() {
        Some(libc::EIO | libc::EUCLEAN | libc::EBADMSG) => {
            error.meaning("a layer is damaged, or its file cannot be read any more")
        }
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Errno;
    use crate::stage::Stage;

    #[test]
    fn what_the_kernel_refuses_is_said_in_words_before_its_own() {
        let error = || Error::system(Stage::Layers, "layer '/a'", "fsconfig(squashfs, create)", Errno(libc::EINVAL));
        let plain = explain(error(), LayerFormat::Squashfs).to_string();
        assert!(plain.ends_with("Invalid argument: not a squashfs file or a damaged one"), "{plain}");
        let both = explain(error().meaning("unable to read xattr id table"), LayerFormat::Erofs).to_string();
        assert!(both.contains("not an EROFS file") && both.ends_with("the kernel says: unable to read xattr id table"));
    }

    #[test]
    fn what_cannot_be_read_of_a_root_is_a_damaged_layer_and_what_is_not_there_is_not() {
        let error = |errno| explain_unread(Error::system(Stage::Mounts, "mount point '/a'", "openat2", Errno(errno)));
        assert!(error(libc::EUCLEAN).to_string().contains("a layer is damaged"));
        assert!(!error(libc::ENOENT).to_string().contains("damaged"));
    }

    #[test]
    fn a_limit_says_nothing_about_the_file() {
        let error = Error::system(Stage::Layers, "layer '/a'", "fsconfig(squashfs, create)", Errno(libc::ENOMEM));
        assert_eq!(explain(error.clone(), LayerFormat::Squashfs), error);
    }
}
