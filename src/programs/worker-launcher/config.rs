//! `worker-launcher.cfg`: what the administrator says, which is all that is trusted.
//!
//! The first of several lines with one key holds, as with Storm's own.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config_text::parse;
use nix::unistd::Group;
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::exit::{Code, Failure, Result, WithCode};

/// The directory of the file, fixed when the program is built, as with Storm's.
const DIRECTORY: &str = match option_env!("WORKER_LAUNCHER_CONF_DIR") {
    Some(directory) => directory,
    None => "/etc/storm",
};

const NAME: &str = "worker-launcher.cfg";

/// The key of the launcher's group.
pub const GROUP_KEY: &str = "storm.worker-launcher.group";

/// Files of administrators are a few KiB.
const LONGEST: u64 = 1 << 20;

/// The smallest uid of an ordinary user (`UID_MIN` of Debian's login.defs, and Storm's default).
const LEAST_UID: u32 = 1000;

/// What the file says.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file itself, all links resolved.
    pub path: PathBuf,
    /// The launcher's group: that of the supervisor, and of all files that it shares with users.
    pub group: u32,
    entries: Vec<(String, String)>,
}

impl Config {
    /// Reads the file. It and every directory above it but `/` must belong to root and be writable
    /// by nobody else.
    pub fn read() -> Result<Config> {
        let mut config = Config::open(&Config::built_in_path())?;
        config.group = config.group_id()?;
        Ok(config)
    }

    /// The file that the program reads.
    pub fn built_in_path() -> PathBuf {
        Path::new(DIRECTORY).join(NAME)
    }

    /// Reads a file, by the same rules, and leaves its group open.
    pub fn open(named: &Path) -> Result<Config> {
        let (path, bytes) = read_trusted(named, "configuration file")?;
        let object = format!("configuration file '{}'", path.display());
        let entries =
            parse(&bytes).map_err(|problem| Failure::new(Code::Configuration, format!("{object}: {problem}")))?;
        Ok(Config { path, group: 0, entries })
    }

    /// The keys, as often as they are there.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(key, _)| key.as_str())
    }

    /// For tests: of this text.
    #[cfg(test)]
    pub fn of_text(text: &str, group: u32) -> Config {
        Config { path: PathBuf::from("/etc/storm/test.cfg"), group, entries: parse(text.as_bytes()).unwrap() }
    }

    /// The group that the file names.
    pub fn group_id(&self) -> Result<u32> {
        const KEY: &str = GROUP_KEY;
        let name = self.get(KEY).ok_or_else(|| self.wrong(KEY, "it is missing"))?;
        match Group::from_name(name) {
            Ok(Some(group)) => Ok(group.gid.as_raw()),
            Ok(None) => Err(self.wrong(KEY, format!("there is no group '{name}'"))),
            Err(errno) => Err(self.wrong(KEY, format!("group '{name}' cannot be looked up: {errno}"))),
        }
    }

    /// The value of a key, if there is one and it is not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        let entry = self.entries.iter().find(|(known, _)| known == key);
        entry.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The words of a list, separated by commas.
    pub fn list(&self, key: &str) -> Option<Vec<&str>> {
        let words = self.get(key)?.split(',').map(str::trim);
        Some(words.filter(|word| !word.is_empty()).collect())
    }

    /// A number, if the key is there.
    pub fn number(&self, key: &str) -> Result<Option<u64>> {
        let number = self.get(key).map(|text| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| is_plain);
            number.ok_or_else(|| self.wrong(key, format!("'{text}' is no whole number")))
        });
        number.transpose()
    }

    /// A path, if the key is there: absolute, without `.` and `..`.
    pub fn path(&self, key: &str) -> Result<Option<PathBuf>> {
        self.get(key).map(|text| self.checked_path(key, text)).transpose()
    }

    /// The paths of a list.
    pub fn paths(&self, key: &str) -> Result<Option<Vec<PathBuf>>> {
        let Some(words) = self.list(key) else { return Ok(None) };
        words.into_iter().map(|text| self.checked_path(key, text)).collect::<Result<_>>().map(Some)
    }

    fn checked_path(&self, key: &str, text: &str) -> Result<PathBuf> {
        squall::request::AbsolutePath::new(text)
            .map(|path| path.as_path().to_owned())
            .map_err(|bad| self.wrong(key, bad.at(text)))
    }

    /// The smallest uid that the supervisor may act for.
    pub fn least_uid(&self) -> Result<u32> {
        let number = self.number("min.user.id")?.map_or(Ok(LEAST_UID), u32::try_from);
        number.map_err(|_| self.wrong("min.user.id", "there is no such uid"))
    }

    /// Users that it may not act for.
    pub fn banned_users(&self) -> Vec<&str> {
        self.list("banned.users").unwrap_or_else(|| vec!["bin"])
    }

    /// A file that a key names, under the same rules as the configuration file.
    pub fn read_trusted(&self, key: &str, path: &Path) -> Result<Vec<u8>> {
        self.checked_path(key, &path.to_string_lossy())?;
        read_trusted(path, &format!("file of {key}")).map(|(_, bytes)| bytes)
    }

    /// What is wrong with a key's value.
    pub fn wrong(&self, key: &str, problem: impl std::fmt::Display) -> Failure {
        Failure::new(Code::Configuration, format!("configuration file '{}': {key}: {problem}", self.path.display()))
    }
}

/// Reads a file that nobody but root can have written: the file, all links resolved, and every
/// directory above it but `/` belong to root and are writable by nobody else. The answer is where it
/// lies, and what it says.
fn read_trusted(named: &Path, what: &str) -> Result<(PathBuf, Vec<u8>)> {
    let path = named.canonicalize().code(Code::Configuration, format_args!("{what} '{}'", named.display()))?;
    let object = format!("{what} '{}'", path.display());
    path.ancestors().skip(1).filter(|parent| *parent != Path::new("/")).try_for_each(check_owner)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file: File = openat(CWD, &path, flags, Mode::empty()).code(Code::Configuration, &object)?.into();
    let metadata = file.metadata().code(Code::Configuration, &object)?;
    if !metadata.is_file() {
        return Err(Failure::new(Code::Configuration, format!("{object}: it is no regular file")));
    }
    check_mode(&metadata, &object)?;
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).code(Code::Configuration, &object)?;
    if bytes.len() as u64 > LONGEST {
        return Err(Failure::new(Code::Configuration, format!("{object}: it is longer than {LONGEST} bytes")));
    }
    Ok((path, bytes))
}

fn check_owner(directory: &Path) -> Result<()> {
    let object = format!("directory '{}'", directory.display());
    let metadata = directory.symlink_metadata().code(Code::Configuration, &object)?;
    check_mode(&metadata, &object)
}

fn check_mode(metadata: &std::fs::Metadata, object: &str) -> Result<()> {
    let problem = match (metadata.uid(), metadata.mode() & 0o022) {
        (0, 0) => return Ok(()),
        (0, _) => format!("others than root can write to it (mode {:04o})", metadata.mode() & 0o7777),
        (uid, _) => format!("it belongs to uid {uid} instead of root"),
    };
    Err(Failure::new(Code::Configuration, format!("{object}: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_holds_and_lists_have_no_empty_words() {
        let config = Config {
            path: PathBuf::from("/etc/x"),
            group: 0,
            entries: parse(b"a=1\na=2\nlist= x, ,y,\nbig=4294967296\nmin.user.id=4294967296\nword=1x\n").unwrap(),
        };
        assert_eq!(config.number("a").unwrap(), Some(1));
        assert_eq!(config.list("list").unwrap(), ["x", "y"]);
        assert_eq!(config.number("none").unwrap(), None);
        assert!(config.number("word").is_err() && config.least_uid().is_err());
        assert_eq!(config.banned_users(), ["bin"]);
    }
}
