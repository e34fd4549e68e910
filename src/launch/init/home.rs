//! The worker's HOME, from the image's own user database.
//!
//! Runs in init, which is root still, on an image that nobody trusts: the file is opened below the
//! root by descriptor, on the root's own file system, so that no link of the image leads to what a
//! caller has bound there and its worker may not read; and it is read to a bound.

use std::fs::File;
use std::io::Read;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, OFlags, ResolveFlags, fstat};

use crate::request::{AbsolutePath, Home, LaunchSpec};
use crate::root::target::open_in_root;

const PASSWD: &str = "/etc/passwd";

/// Most bytes that are looked at: ten thousand users.
const MAX_BYTES: u64 = 1 << 20;

/// `HOME=…`, if the spec wants one and its environment has none. An image without a user database
/// is nothing unusual.
pub(in crate::launch) fn variable(root: BorrowedFd<'_>, spec: &LaunchSpec) -> Option<String> {
    let Home::OfImage { otherwise } = &spec.home else { return None };
    if spec.env.get("HOME").is_some() {
        return None;
    }
    let text = passwd(root).unwrap_or_default();
    let home = home_of(spec.user.uid(), &text).unwrap_or_else(|| otherwise.clone());
    Some(format!("HOME={home}"))
}

/// What the image's file holds; nothing where it is missing or no regular file.
fn passwd(root: BorrowedFd<'_>) -> Option<Vec<u8>> {
    // Not to wait for the writer of a FIFO, nor to take a terminal.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = open_in_root(root, PASSWD, flags, ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV).ok()?;
    if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = Vec::new();
    File::from(file).take(MAX_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The sixth field of the first line with this uid (passwd(5)), where it is an absolute path.
fn home_of(uid: u32, passwd: &[u8]) -> Option<AbsolutePath> {
    let of_user = |line: &str| {
        let mut fields = line.split(':');
        let number: u32 = fields.nth(2)?.parse().ok()?;
        (number == uid).then(|| fields.nth(2).map(str::to_owned))
    };
    let lines = passwd.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    AbsolutePath::new(lines.filter_map(of_user).next()??).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_home_is_that_of_the_first_line_with_the_uid() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/sh\n#c\n\xff:x:7:7::/no:\napp:x:7:7:a,b:/srv/app/:/bin/sh\nb:x:7:7::/b:\n\
                       none:x:8:8:::\nrel:x:9:9::home:\nshort:x:10\nup:x:11:11::/a/../b:/bin/sh";
        let table =
            [(0, Some("/root")), (7, Some("/srv/app")), (8, None), (9, None), (10, None), (11, None), (12, None)];
        for (uid, home) in table {
            assert_eq!(home_of(uid, passwd).as_ref().map(AbsolutePath::as_str), home, "{uid}");
        }
    }
}
