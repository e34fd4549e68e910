//! What a layer's file is when the kernel does not mount it, in words.

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
    fn a_limit_says_nothing_about_the_file() {
        let error = Error::system(Stage::Layers, "layer '/a'", "fsconfig(squashfs, create)", Errno(libc::ENOMEM));
        assert_eq!(explain(error.clone(), LayerFormat::Squashfs), error);
    }
}
