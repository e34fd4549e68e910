//! The worker's HOME, from the image's own user database.
//!
//! Runs in init, which is root still.

use std::os::fd::BorrowedFd;

use crate::image_file;
use crate::request::{AbsolutePath, Home, LaunchSpec};

const PASSWD: &str = "/etc/passwd";

/// `HOME=…`, if the spec wants one and its environment has none. An image without a user database
/// is nothing unusual.
pub(in crate::launch) fn variable(root: BorrowedFd<'_>, spec: &LaunchSpec) -> Option<String> {
    let Home::OfImage { otherwise } = &spec.home else { return None };
    if spec.env.get("HOME").is_some() {
        return None;
    }
    let text = image_file::read(root, PASSWD).unwrap_or_default();
    let home = home_of(spec.user.uid(), &text).unwrap_or_else(|| otherwise.clone());
    Some(format!("HOME={home}"))
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
