//! The mounts that the flags ask for: each under the name of its flag, in the order in which they
//! have to be made.

use squall::Problem;
use squall::request::values::{self, TypedMount};
use squall::request::{BadValue, Destination, Mount};

use crate::args::Run;
use crate::image::LaunchImage;

/// The mounts of a command line.
pub struct Mounts {
    /// Each with its flag, what lies above before what lies below.
    pub mounts: Vec<(String, Mount)>,
    /// What is wrong with the flags.
    pub problems: Vec<Problem>,
    /// What of them has no effect.
    pub warnings: Vec<String>,
}

impl Mounts {
    /// Reads `--volume`, `--tmpfs` and `--mount`.
    ///
    /// On a command line the order of mounts means nothing, and flags of three kinds have none:
    /// docker and podman put a mount before those that lie below it, and two at one place are
    /// refused, because the first could never be seen.
    ///
    /// A volume of the image is a tmpfs, unless something is mounted there.
    pub fn of(run: &Run, image: Option<&LaunchImage>) -> Mounts {
        let mut mounts = Mounts { mounts: Vec::new(), problems: Vec::new(), warnings: Vec::new() };
        mounts.read("--volume", &run.volumes, values::volume);
        mounts.read("--tmpfs", &run.tmpfs, values::tmpfs);
        mounts.read("--mount", &run.mounts, values::mount);
        mounts.refuse_doubles();
        for volume in image.iter().flat_map(|image| image.config.volumes()) {
            match values::tmpfs(volume) {
                Ok(TypedMount { mount, .. }) if mounts.has(mount.destination()) => {}
                Ok(TypedMount { mount, .. }) => mounts.mounts.push(("IMAGE: Volumes".to_owned(), mount)),
                Err(bad) => mounts.problems.push(bad.at("IMAGE: Volumes")),
            }
        }
        mounts.mounts.sort_by_key(|(_, mount)| mount.destination().as_path().components().count());
        mounts
    }

    fn read(&mut self, flag: &str, texts: &[String], parse: fn(&str) -> Result<TypedMount, BadValue>) {
        for (index, text) in texts.iter().enumerate() {
            let flag = format!("{flag}[{index}]");
            match parse(text) {
                Ok(typed) => {
                    let words = typed.without_effect.iter();
                    self.warnings.extend(words.map(|word| format!("{flag}: '{word}' has no effect here")));
                    self.mounts.push((flag, typed.mount));
                }
                Err(bad) => self.problems.push(bad.at(flag)),
            }
        }
    }

    fn has(&self, place: &Destination) -> bool {
        self.mounts.iter().any(|(_, mount)| mount.destination() == place)
    }

    fn refuse_doubles(&mut self) {
        for (index, (flag, mount)) in self.mounts.iter().enumerate() {
            let place = mount.destination();
            if let Some((earlier, _)) = self.mounts[..index].iter().find(|(_, other)| other.destination() == place) {
                let bad = BadValue::new(format!("'{place}' is where {earlier} is mounted already"));
                self.problems.push(bad.at(flag));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn mounts(flags: &[&str]) -> Mounts {
        let words = ["squall", "run"].iter().chain(flags).chain(&["image"]);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Run(run) => Mounts::of(&run, None),
            _ => panic!("not run"),
        }
    }

    #[test]
    fn what_lies_above_is_mounted_first_and_equals_keep_their_order() {
        let mounts = mounts(&[
            "-v",
            "/h:/a/b/c",
            "-v",
            "/h:/a",
            "--tmpfs",
            "/t",
            "--mount",
            "type=tmpfs,dst=/a/b",
            "-v",
            "/h:/t/x",
        ]);
        let order: Vec<_> =
            mounts.mounts.iter().map(|(flag, mount)| (flag.as_str(), mount.destination().as_str())).collect();
        assert_eq!(
            order,
            [
                ("--volume[1]", "/a"),
                ("--tmpfs[0]", "/t"),
                ("--volume[2]", "/t/x"),
                ("--mount[0]", "/a/b"),
                ("--volume[0]", "/a/b/c")
            ]
        );
        assert!(mounts.problems.is_empty() && mounts.warnings.is_empty());
    }

    #[test]
    fn two_mounts_at_one_place_are_refused() {
        let mounts = mounts(&["-v", "/a:/d", "--tmpfs", "//d/"]);
        let problems: Vec<_> = mounts.problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems, ["--tmpfs[0]: '/d' is where --volume[0] is mounted already"]);
    }

    #[test]
    fn every_wrong_one_is_named_and_words_without_effect_are() {
        let mounts = mounts(&["-v", "/a:/b:Z", "-v", "x:/y", "--mount", "type=volume"]);
        let fields: Vec<_> = mounts.problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, ["--volume[1]", "--mount[0]"]);
        assert_eq!(mounts.warnings, ["--volume[0]: 'Z' has no effect here"]);
    }
}
