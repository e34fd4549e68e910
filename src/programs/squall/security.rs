//! `--security-opt`: what confines a worker.

use squall::request::{AbsolutePath, AppArmor, BadValue, Builder, Seccomp, Selinux, SelinuxLabel, values};
use squall::seccomp::{Profile, brief_warnings};
use squall::{Error, Problem, Result};

use crate::request::DOOR;

/// What a worker may call, and what of the profile's file is not done as it is written.
pub struct AskedSeccomp {
    pub seccomp: Seccomp,
    pub warnings: Vec<String>,
}

/// What `--security-opt` asks for: of each kind the last of several.
#[derive(Default)]
pub struct Security {
    pub seccomp: Option<AskedSeccomp>,
    pub apparmor: Option<AppArmor>,
    pub selinux: Option<Selinux>,
}

impl Security {
    pub fn of(options: &[String]) -> Result<Security> {
        let mut security = Security::default();
        options.iter().try_for_each(|option| security.add(option)).map(|()| security)
    }

    /// `no-new-privileges` holds for every worker and may be said all the same.
    fn add(&mut self, option: &str) -> Result<()> {
        match option.split_once(['=', ':']) {
            Some(("seccomp", what)) => self.seccomp = Some(seccomp(what)?),
            Some(("apparmor", profile)) => self.apparmor = Some(AppArmor::new(profile).map_err(bad_option)?),
            Some(("label", what)) => self.selinux = Some(label(what).map_err(bad_option)?),
            None if option == "no-new-privileges" => {}
            Some(("no-new-privileges", "true")) => {}
            _ => {
                return Err(bad_option(BadValue::new(format!(
                    "'{option}' is not known: expected seccomp=FILE, seccomp=unconfined, seccomp=default, apparmor=PROFILE, \
                     apparmor=unconfined, label=context:USER:ROLE:TYPE[:LEVEL] or label=disable"
                ))));
            }
        }
        Ok(())
    }

    /// The builder with all of it, and the warnings.
    pub fn apply(self, mut builder: Builder) -> (Builder, Vec<String>) {
        let mut warnings = Vec::new();
        if let Some(asked) = self.seccomp {
            warnings = asked.warnings;
            builder = builder.seccomp(asked.seccomp);
        }
        builder = self.apparmor.into_iter().fold(builder, Builder::apparmor);
        builder = self.selinux.into_iter().fold(builder, Builder::selinux);
        (builder, warnings)
    }
}

fn bad_option(bad: BadValue) -> Error {
    Error::invalid(DOOR.object, vec![bad.at("--security-opt")])
}

fn seccomp(what: &str) -> Result<AskedSeccomp> {
    let plain = |seccomp| Ok(AskedSeccomp { seccomp, warnings: Vec::new() });
    match what {
        "unconfined" => plain(Seccomp::Unconfined),
        "default" => plain(Seccomp::Default),
        path => {
            let profile = Profile::read(profile_path(path)?.as_path()).map_err(|error| within_file(error, path))?;
            let warnings = brief_warnings(profile.warnings());
            let warnings = warnings.into_iter().map(|warning| format!("'{path}': {warning}")).collect();
            Ok(AskedSeccomp { seccomp: Seccomp::Profile(profile.into()), warnings })
        }
    }
}

/// A whole label, or none. podman replaces parts of one that it takes from a file of the policy's;
/// which that is, Squall does not know.
fn label(what: &str) -> std::result::Result<Selinux, BadValue> {
    match what.split_once(':') {
        None if what == "disable" => Ok(Selinux::Disable),
        Some(("context", context)) => SelinuxLabel::new(context).map(Selinux::Label),
        Some(("user" | "role" | "type" | "level" | "filetype", _)) => Err(BadValue::new(format!(
            "'label={}' is a part of a label, and there is none to put it into: expected label=context:USER:ROLE:TYPE[:LEVEL]",
            what.escape_debug()
        ))),
        _ => Err(BadValue::new(format!(
            "'label={}' is not known: expected label=context:USER:ROLE:TYPE[:LEVEL] or label=disable",
            what.escape_debug()
        ))),
    }
}

fn profile_path(path: &str) -> Result<AbsolutePath> {
    values::host_path(path).map_err(bad_option)
}

/// The problems of a file, each with its place there behind the file's name.
fn within_file(error: Error, path: &str) -> Error {
    if error.problems().is_empty() {
        return error;
    }
    let named = |problem: &Problem| Problem {
        field: "--security-opt".to_owned(),
        reason: format!("'{path}': {}: {}", problem.field, problem.reason),
    };
    Error::invalid(DOOR.object, error.problems().iter().map(named).collect())
}
