//! Mounts as people type them: `-v`, `--tmpfs` and `--mount` of docker and podman.

use super::bind_options::{Access, flag};
use super::host_path::host_path;
use super::mount::{Bind, Mount, TMPFS_MODE, Tmpfs};
use super::path::Destination;
use super::values::{bad, size};
use crate::document::{BadValue, quoted};

/// A mount, and what was said of it that means something to docker and podman and changes nothing
/// here.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypedMount {
    /// The mount.
    pub mount: Mount,
    /// The words without effect, as typed.
    pub without_effect: Vec<String>,
}

/// A bind mount: `SOURCE:DESTINATION` or `SOURCE:DESTINATION:OPTION[,OPTION…]` with OCI's options;
/// unless they say otherwise it is writable, recursive and private. A source that begins with `.`
/// is relative to the working directory.
pub fn volume(text: &str) -> Result<TypedMount, BadValue> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [source, destination] => (source, destination, Vec::new()),
        [source, destination, options] if !options.starts_with('/') => {
            (source, destination, options.split(',').collect())
        }
        _ => {
            let expected = "SOURCE:DESTINATION or SOURCE:DESTINATION:ro,OPTION…; \
                            for a path with ':' there is --mount type=bind,src=SOURCE,dst=DESTINATION";
            return Err(bad(text, "a bind mount", expected));
        }
    };
    if !source.starts_with(['/', '.']) {
        let expected = "a path that begins with '/' or './' (there are no named volumes)";
        return Err(BadValue::new(format!("in {}: {}", quoted(text), bad(source, "an absolute path", expected))));
    }
    let mut typed = Typed { source: Some(source), destination: Some(destination), ..Typed::default() };
    options.into_iter().for_each(|word| typed.option(word));
    typed.bind().map_err(|bad| BadValue::new(format!("in {}: {bad}", quoted(text))))
}

/// A tmpfs: `DESTINATION` or `DESTINATION:OPTION[,OPTION…]`, with `size=SIZE`, `mode=OCTAL`,
/// `uid=`, `gid=`, `nr_inodes=` and the words of mount(8). Without a mode it is 1777.
pub fn tmpfs(text: &str) -> Result<TypedMount, BadValue> {
    let (destination, options) = text.split_once(':').unwrap_or((text, ""));
    let mut typed = Typed { destination: Some(destination), ..Typed::default() };
    options.split(',').filter(|_| text.contains(':')).for_each(|word| typed.option(word));
    typed.tmpfs()
}

/// A mount by keys: `type=bind,src=SOURCE,dst=DESTINATION[,ro][,bind-propagation=…]` or
/// `type=tmpfs,dst=DESTINATION[,tmpfs-size=SIZE][,tmpfs-mode=OCTAL]`. Paths may hold `:`, a source
/// may be relative.
pub fn mount(text: &str) -> Result<TypedMount, BadValue> {
    let (mut typed, mut kind) = (Typed::default(), None);
    for part in text.split(',') {
        match part.split_once('=').map_or((part, None), |(key, value)| (key, Some(value))) {
            ("type", Some(value)) => kind = Some(value),
            ("source" | "src", Some(value)) => typed.source = Some(value),
            ("destination" | "dst" | "target", Some(value)) => typed.destination = Some(value),
            ("ro" | "readonly", value) => typed.options.push(if truth(part, value)? { "ro" } else { "rw" }.to_owned()),
            ("rw", value) => typed.options.push(if truth(part, value)? { "rw" } else { "ro" }.to_owned()),
            ("bind-propagation", Some(value)) => typed.option(value),
            ("bind-nonrecursive", value) => {
                typed.options.push(if truth(part, value)? { "bind" } else { "rbind" }.to_owned());
            }
            ("tmpfs-size", Some(value)) => typed.options.push(format!("size={value}")),
            ("tmpfs-mode", Some(value)) => typed.options.push(format!("mode={value}")),
            ("relabel" | "consistency", Some(_)) => typed.without_effect.push(part.to_owned()),
            _ => typed.option(part),
        }
    }
    let made = match kind {
        Some("bind") => typed.bind(),
        Some("tmpfs") => typed.tmpfs(),
        Some(other) => Err(bad(other, "a kind of mount", "type=bind or type=tmpfs")),
        None => Err(BadValue::new("the kind of mount is missing: expected type=bind or type=tmpfs")),
    };
    made.map_err(|bad| BadValue::new(format!("in {}: {bad}", quoted(text))))
}

/// A word alone means yes.
fn truth(part: &str, value: Option<&str>) -> Result<bool, BadValue> {
    match value {
        None | Some("true" | "1") => Ok(true),
        Some("false" | "0") => Ok(false),
        Some(_) => Err(bad(part, "yes or no", "true or false after the '='")),
    }
}

/// The parts of a mount as they were typed.
#[derive(Default)]
struct Typed<'a> {
    source: Option<&'a str>,
    destination: Option<&'a str>,
    options: Vec<String>,
    without_effect: Vec<String>,
}

impl Typed<'_> {
    /// `z` and `Z` relabel the source for SELinux, which Squall leaves as it is.
    fn option(&mut self, word: &str) {
        match word {
            "z" | "Z" => self.without_effect.push(word.to_owned()),
            _ => self.options.push(word.to_owned()),
        }
    }

    fn bind(self) -> Result<TypedMount, BadValue> {
        let source = host_path(self.source.ok_or_else(|| missing("the source", "src=SOURCE"))?)?;
        let destination = self.destination.ok_or_else(no_destination)?;
        let words: Vec<&str> = self.options.iter().map(String::as_str).collect();
        let bind = Bind::parse("", source.as_str(), destination, &words).map_err(|problems| {
            let reasons: Vec<_> = problems.into_iter().map(|problem| problem.reason).collect();
            BadValue::new(reasons.join("; "))
        })?;
        Ok(TypedMount { mount: Mount::Bind(bind), without_effect: self.without_effect })
    }

    fn tmpfs(self) -> Result<TypedMount, BadValue> {
        if let Some(source) = self.source {
            return Err(BadValue::new(format!("a tmpfs has no source, and {} is given", quoted(source))));
        }
        let destination = Destination::new(self.destination.ok_or_else(no_destination)?)?;
        let mut tmpfs = Tmpfs::new(destination, None, TMPFS_MODE);
        self.options.iter().try_for_each(|word| apply(&mut tmpfs, word))?;
        Ok(TypedMount { mount: Mount::Tmpfs(tmpfs), without_effect: self.without_effect })
    }
}

fn missing(what: &str, expected: &str) -> BadValue {
    BadValue::new(format!("{what} is missing: expected {expected}"))
}

fn no_destination() -> BadValue {
    missing("the destination", "dst=DESTINATION")
}

/// One option of a tmpfs. Of two that contradict each other the later wins.
fn apply(tmpfs: &mut Tmpfs, word: &str) -> Result<(), BadValue> {
    match word.split_once('=') {
        Some(("size", given)) => tmpfs.size_bytes = Some(size(given)?),
        Some(("mode", given)) => tmpfs.mode = mode(given)?,
        Some(("uid", given)) => tmpfs.uid = Some(id(given)?),
        Some(("gid", given)) => tmpfs.gid = Some(id(given)?),
        Some(("nr_inodes", given)) => tmpfs.inodes = Some(size(given)?),
        _ => match (word, flag(word)) {
            ("defaults" | "notmpcopyup", _) => {}
            ("ro", _) => tmpfs.access = Access::ReadOnly,
            ("rw", _) => tmpfs.access = Access::ReadWrite,
            (_, Some(flag)) => tmpfs.flags.add(flag),
            _ => {
                let expected = "size=SIZE, mode=OCTAL, uid=N, gid=N, nr_inodes=N, ro, rw, [no]exec, [no]suid, [no]dev, [no]atime \
                                and so on, such as size=64m,mode=1777,noexec";
                return Err(bad(word, "an option of a tmpfs", expected));
            }
        },
    }
    Ok(())
}

fn mode(text: &str) -> Result<u32, BadValue> {
    let octal = (1..=5).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o7777);
    mode.ok_or_else(|| bad(text, "a mode", "1 to 4 octal digits, such as 1777"))
}

/// A number of a user or group.
fn id(text: &str) -> Result<u32, BadValue> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| plain && *number != u32::MAX);
    number.ok_or_else(|| bad(text, "the number of a user or group", "0 to 4294967294"))
}

#[cfg(test)]
mod tests {
    use super::super::{BindOptions, MountFlag, Propagation, Recursion};
    use super::*;

    fn bound(typed: Result<TypedMount, BadValue>) -> Bind {
        match typed.unwrap().mount {
            Mount::Bind(bind) => bind,
            Mount::Tmpfs(_) => panic!("not a bind"),
        }
    }

    fn in_memory(typed: Result<TypedMount, BadValue>) -> Tmpfs {
        match typed.unwrap().mount {
            Mount::Tmpfs(tmpfs) => tmpfs,
            Mount::Bind(_) => panic!("not a tmpfs"),
        }
    }

    fn refused(typed: Result<TypedMount, BadValue>, reason: &str) {
        let error = typed.unwrap_err().to_string();
        assert!(error.contains(reason), "expected '{reason}': {error}");
    }

    #[test]
    fn a_volume_has_two_paths_and_perhaps_options() {
        let bind = bound(volume("/data:/mnt/data"));
        assert_eq!((bind.source.as_str(), bind.destination.as_str()), ("/data", "/mnt/data"));
        assert_eq!(bind.options, BindOptions::default());
        let bind = bound(volume("/data:/d:ro,bind,rslave,noexec"));
        assert_eq!((bind.options.access, bind.options.recursion), (Access::ReadOnly, Recursion::Single));
        assert_eq!(bind.options.propagation, Propagation::RecursiveSlave);
        assert!(bind.options.flags.contains(MountFlag::NoExec));
        let table = [
            ("/a", "SOURCE:DESTINATION"),
            ("", "SOURCE:DESTINATION"),
            ("/a:/b:ro:x", "--mount"),
            ("/a:b:/c", "--mount"),
            ("a:/b", "no named volumes"),
            (":/b", "absolute"),
            ("/a:b", "absolute"),
            ("/a:/", "below the root"),
            ("/a:/b:", "not a mount option"),
            ("/a:/b:ro,oops", "'oops' is not a mount option"),
        ];
        for (text, reason) in table {
            refused(volume(text), reason);
        }
    }

    #[test]
    fn a_relative_source_begins_in_the_working_directory() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(bound(volume("./x:/y")).source.as_path(), here.join("x"));
        assert_eq!(bound(volume(".:/y")).source.as_path(), here);
        assert_eq!(bound(volume("..:/y")).source.as_path(), here.parent().unwrap().canonicalize().unwrap());
        assert_eq!(bound(mount("type=bind,src=x,dst=/y")).source.as_path(), here.join("x"));
    }

    #[test]
    fn labels_for_selinux_are_taken_and_said_to_have_no_effect() {
        for (typed, words) in [
            (volume("/a:/b:Z"), vec!["Z"]),
            (volume("/a:/b:z,ro"), vec!["z"]),
            (volume("/a:/b:ro"), vec![]),
            (
                mount("type=bind,src=/a,dst=/b,relabel=shared,consistency=cached"),
                vec!["relabel=shared", "consistency=cached"],
            ),
        ] {
            let typed = typed.unwrap();
            assert_eq!(typed.without_effect, words, "{typed:?}");
        }
        assert_eq!(bound(volume("/a:/b:z,ro")).options.access, Access::ReadOnly);
    }

    #[test]
    fn a_tmpfs_has_a_path_and_perhaps_size_and_mode() {
        let parts = |text: &str| {
            let tmpfs = in_memory(tmpfs(text));
            (tmpfs.destination.as_str().to_owned(), tmpfs.size_bytes, tmpfs.mode)
        };
        assert_eq!(parts("/t"), ("/t".into(), None, 0o1777));
        assert_eq!(parts("/t:size=64m"), ("/t".into(), Some(64 << 20), 0o1777));
        assert_eq!(parts("/t:mode=0700,size=1k"), ("/t".into(), Some(1024), 0o700));
        for text in
            ["", "t", "/", "/t:", "/t:size", "/t:size=", "/t:mode=8", "/t:mode=17777", "/t:mode=+7", "/t:size=1k,"]
        {
            assert!(tmpfs(text).is_err(), "{text}");
        }
        for text in ["/t:tmpcopyup", "/t:uid=4294967295", "/t:gid=x", "/t:uid=", "/t:bogus=1", "/t:sync"] {
            assert!(tmpfs(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tmpfs_takes_the_options_of_docker() {
        let plain = in_memory(tmpfs("/t:rw,noexec,nosuid,size=65536k"));
        assert_eq!((plain.access, plain.size_bytes), (Access::ReadWrite, Some(64 << 20)));
        assert!(plain.flags.contains(MountFlag::NoExec) && plain.flags.contains(MountFlag::NoSuid));
        let owned = in_memory(tmpfs("/t:ro,uid=7,gid=8,nr_inodes=4k,noatime,exec,notmpcopyup"));
        assert_eq!(
            (owned.access, owned.uid, owned.gid, owned.inodes),
            (Access::ReadOnly, Some(7), Some(8), Some(4096))
        );
        assert!(owned.flags.contains(MountFlag::NoAtime) && !owned.flags.contains(MountFlag::NoExec));
    }

    #[test]
    fn a_mount_by_keys_takes_paths_with_colons() {
        let bind = bound(mount("type=bind,source=/a:b,target=/c:d,readonly,bind-propagation=rslave,bind-nonrecursive"));
        assert_eq!((bind.source.as_str(), bind.destination.as_str()), ("/a:b", "/c:d"));
        assert_eq!((bind.options.access, bind.options.recursion), (Access::ReadOnly, Recursion::Single));
        assert_eq!(bind.options.propagation, Propagation::RecursiveSlave);
        assert_eq!(bound(mount("type=bind,src=/a,dst=/b,ro=false")).options.access, Access::ReadWrite);
        assert_eq!(bound(mount("type=bind,src=/a,dst=/b,rw=false")).options.access, Access::ReadOnly);
        let tmpfs = in_memory(mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700,noexec"));
        assert_eq!((tmpfs.size_bytes, tmpfs.mode), (Some(1 << 20), 0o700));
        let table = [
            ("", "type=bind or type=tmpfs"),
            ("src=/a,dst=/b", "type=bind or type=tmpfs"),
            ("type=volume,src=a,dst=/b", "'volume' is not a kind of mount"),
            ("type=bind,dst=/b", "the source is missing"),
            ("type=bind,src=/a", "the destination is missing"),
            ("type=bind,src=/a,dst=/b,oops", "'oops' is not a mount option"),
            ("type=bind,src=/a,dst=/b,ro=maybe", "true or false"),
            ("type=tmpfs,src=/a,dst=/b", "has no source"),
        ];
        for (text, reason) in table {
            refused(mount(text), reason);
        }
    }
}
