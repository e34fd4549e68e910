//! Security modules of the host, AppArmor and SELinux: whether they are on, and what confines a
//! worker by them.
//!
//! Owns: looking at the host, the check before a launch, the words that the kernel takes, and what
//! its refusals mean. The words are written by the program between init and the workload
//! (`launch::init::exec_stub`), right before the workload's exec: the kernel takes them from the
//! process itself alone, and they hold from its next exec on. Written any earlier, that program
//! itself would have to be permitted by the worker's profile.
//!
//! Never does: load a profile or a policy, label a file or a mount. Runs in the caller (check,
//! plan, doctor) and in the launch process (errors, the record).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, FileAspect, Result};
use crate::request::{AppArmor, AppArmorProfile, LaunchSpec, Selinux, SelinuxLabel};
use crate::stage::Stage;

/// Says Y where AppArmor is on. What libapparmor looks at; everybody may read it.
const APPARMOR_ENABLED: &str = "/sys/module/apparmor/parameters/enabled";

/// The loaded profiles, each `NAME (MODE)`. Only a process that may administer AppArmor reads it,
/// and only where securityfs is mounted.
const APPARMOR_PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

/// 1 where SELinux enforces, 0 where it is permissive. There where selinuxfs is mounted, which is
/// where SELinux is on.
const SELINUX_ENFORCE: &str = "/sys/fs/selinux/enforce";

/// Takes a label at a write, and refuses one that the policy does not know (EINVAL).
const SELINUX_CONTEXT: &str = "/sys/fs/selinux/context";

/// What confines a worker from its exec on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Confinement {
    AppArmor(AppArmorProfile),
    Selinux(SelinuxLabel),
}

impl Confinement {
    /// What the spec names. It names one at most: `request::rules`.
    pub(crate) fn of(spec: &LaunchSpec) -> Option<Confinement> {
        match (&spec.apparmor, &spec.selinux) {
            (AppArmor::Profile(profile), _) => Some(Confinement::AppArmor(profile.clone())),
            (_, Selinux::Label(label)) => Some(Confinement::Selinux(label.clone())),
            _ => None,
        }
    }

    /// The directory of a process in which the kernel has its attributes. AppArmor's own is there
    /// since 5.8; the one that modules share belongs to whichever comes first.
    fn directory(&self) -> &'static str {
        match self {
            Confinement::AppArmor(_) => "attr/apparmor",
            Confinement::Selinux(_) => "attr",
        }
    }

    /// The attribute that decides over the next exec, from the top of procfs.
    pub(crate) fn attribute(&self) -> String {
        format!("self/{}/exec", self.directory())
    }

    /// What is written to it.
    pub(crate) fn text(&self) -> String {
        match self {
            Confinement::AppArmor(profile) => format!("exec {profile}"),
            Confinement::Selinux(label) => label.to_string(),
        }
    }

    /// The name alone.
    pub(crate) fn name(&self) -> &str {
        match self {
            Confinement::AppArmor(profile) => profile.as_str(),
            Confinement::Selinux(label) => label.as_str(),
        }
    }

    /// The security module.
    pub(crate) fn module(&self) -> &'static str {
        match self {
            Confinement::AppArmor(_) => "AppArmor",
            Confinement::Selinux(_) => "SELinux",
        }
    }

    /// What errors call it.
    fn object(&self) -> String {
        match self {
            Confinement::AppArmor(profile) => format!("AppArmor profile '{profile}'"),
            Confinement::Selinux(label) => format!("SELinux label '{label}'"),
        }
    }

    fn refusal(&self, text: impl Into<String>) -> Error {
        let module = match self {
            Confinement::AppArmor(_) => "AppArmor",
            Confinement::Selinux(_) => "SELinux",
        };
        Error::lacking(Stage::Request, self.object(), "check", module, text)
    }

    /// What the kernel answered when the attribute was to be written.
    pub(crate) fn not_applied(&self, call: &str, errno: i32) -> Error {
        let error = Error::system(Stage::Become, self.object(), call, crate::error::Errno(errno));
        let (kind, meaning) = match (self, errno) {
            (Confinement::AppArmor(_), libc::ENOENT) if call.starts_with("write") => {
                (ErrorKind::Unsupported, "AppArmor has no such profile: load it with apparmor_parser")
            }
            (Confinement::AppArmor(_), libc::EPERM | libc::EACCES) => (
                ErrorKind::Privilege,
                "what confines the program that launches does not let the worker change to it; with no_new_privs, which every \
                 worker has, only an unconfined process may, or one whose own profile permits as much",
            ),
            (Confinement::AppArmor(_), libc::EINVAL) => {
                (ErrorKind::Unsupported, "AppArmor is off, or takes no such name")
            }
            (Confinement::Selinux(_), libc::EINVAL) => {
                (ErrorKind::Unsupported, "SELinux is off, or its policy knows no such label")
            }
            (Confinement::Selinux(_), libc::EPERM | libc::EACCES) => {
                (ErrorKind::Privilege, "the policy does not let the program that launches set it (process setexec)")
            }
            (_, libc::EXDEV) => {
                (ErrorKind::System, "something is mounted over it, or a link leads out of /proc: nothing was written")
            }
            _ => return error,
        };
        error.explain(meaning).with_kind(kind)
    }

    /// There is no procfs at `/proc`, so that nobody knows where the words would have gone.
    pub(crate) fn no_procfs(&self) -> Error {
        let (found, expected) = ("another file system", "procfs: nothing that is written here confines anybody");
        Error::wrong_file(Stage::Become, self.object(), "fstatfs(/proc)", FileAspect::Mount, found, expected)
    }

    /// An exec that the kernel refused, where what confines the worker may be the reason.
    pub(crate) fn explain(&self, error: Error) -> Error {
        if !matches!(error.errno(), Some(libc::EPERM | libc::EACCES)) {
            return error;
        }
        let object = self.object();
        error.explain(match self {
            Confinement::AppArmor(_) => format!(
                "perhaps by the {object}: it has to let the program and its interpreter be read and mapped, and with \
                 no_new_privs, which every worker has, only an unconfined process changes to any profile"
            ),
            Confinement::Selinux(_) => format!(
                "perhaps by the {object}: the policy has to allow process transition, file entrypoint, and process2 \
                 nnp_transition and nosuid_transition, because every worker has no_new_privs and a root that is nosuid"
            ),
        })
    }

    /// What the kernel says a process is confined by, with AppArmor's mode; `None` for a process
    /// that has ended. Of a process whose exec has just begun it waits for the exec's end: its pipe
    /// closes before its label changes.
    pub(crate) fn in_force(&self, pid: i32) -> Option<String> {
        // Opening it takes the lock that exec holds until the new credentials are there
        // (`exec_update_lock`).
        let _exec_is_over = File::open(format!("/proc/{pid}/maps"));
        let text = fs::read_to_string(format!("/proc/{pid}/{}/current", self.directory())).ok()?;
        Some(text.trim_end_matches(['\0', '\n']).to_owned()).filter(|text| !text.is_empty())
    }
}

/// What SELinux does with what its policy denies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelinuxMode {
    /// It notes it.
    Permissive,
    /// It refuses it.
    Enforcing,
}

/// A host's files, from a top directory on, so that a fixture can stand for a host.
#[derive(Debug)]
pub struct Host {
    /// Its root directory: `/`, or a fixture's.
    pub top: PathBuf,
}

impl Host {
    /// The host that this program runs on.
    #[must_use]
    pub fn this() -> Host {
        Host { top: PathBuf::from("/") }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.top.join(Path::new(path).strip_prefix("/").unwrap_or(Path::new(path)))
    }

    fn text(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.path(path))
    }

    /// Whether AppArmor is on.
    #[must_use]
    pub fn has_apparmor(&self) -> bool {
        self.text(APPARMOR_ENABLED).is_ok_and(|flag| flag.trim_end() == "Y")
    }

    /// What SELinux does; `None` where it is not on.
    #[must_use]
    pub fn selinux(&self) -> Option<SelinuxMode> {
        match self.text(SELINUX_ENFORCE).ok()?.trim() {
            "0" => Some(SelinuxMode::Permissive),
            _ => Some(SelinuxMode::Enforcing),
        }
    }

    /// Whether a launch with this confinement can succeed, as far as this process may look. Changes
    /// nothing.
    ///
    /// # Errors
    /// `Unsupported`: the module is not on, the profile is not loaded, the policy does not know the
    /// label.
    pub(crate) fn check(&self, confinement: &Confinement) -> Result<()> {
        match confinement {
            Confinement::AppArmor(profile) => {
                self.check_profile(profile.as_str()).map_err(|text| confinement.refusal(text))
            }
            Confinement::Selinux(label) => self.check_label(label.as_str()).map_err(|text| confinement.refusal(text)),
        }
    }

    /// Why a launch with this AppArmor profile would be refused, as far as this process may look.
    #[must_use]
    pub fn apparmor_refusal(&self, profile: &AppArmorProfile) -> Option<String> {
        self.check_profile(profile.as_str()).err()
    }

    /// Why a launch with this SELinux label would be refused, as far as this process may look.
    #[must_use]
    pub fn selinux_refusal(&self, label: &SelinuxLabel) -> Option<String> {
        self.check_label(label.as_str()).err()
    }

    fn check_profile(&self, name: &str) -> std::result::Result<(), String> {
        if !self.has_apparmor() {
            return Err(format!(
                "AppArmor is not enabled on this host, so the profile cannot be applied: {APPARMOR_ENABLED} does not say Y"
            ));
        }
        // A profile of a namespace and a stack of several are listed otherwise than they are named;
        // the kernel decides at the exec.
        if name.starts_with(':') || name.contains("//&") {
            return Ok(());
        }
        let listed = |line: &str| line.rsplit_once(" (").is_some_and(|(listed, _)| listed == name);
        match self.text(APPARMOR_PROFILES) {
            Ok(profiles) if !profiles.lines().any(listed) => Err(format!(
                "no profile of that name is loaded on this host ({APPARMOR_PROFILES}): load it with apparmor_parser"
            )),
            // Without the list the kernel decides at the exec.
            _ => Ok(()),
        }
    }

    fn check_label(&self, label: &str) -> std::result::Result<(), String> {
        if self.selinux().is_none() {
            return Err(format!(
                "SELinux is not enabled on this host, so the label cannot be applied: there is no {SELINUX_ENFORCE}"
            ));
        }
        let asked = File::options()
            .write(true)
            .open(self.path(SELINUX_CONTEXT))
            .and_then(|mut file| file.write_all(label.as_bytes()));
        match asked {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                Err(format!("the policy of this host does not know it ({SELINUX_CONTEXT})"))
            }
            // Where this process may not ask, the kernel decides at the exec.
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host of these files.
    fn host(files: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let top = tempfile::tempdir().unwrap();
        let host = Host { top: top.path().to_owned() };
        for (path, text) in files {
            let path = host.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        (top, host)
    }

    fn profile(name: &str) -> Confinement {
        Confinement::AppArmor(AppArmorProfile::new(name).unwrap())
    }

    fn label() -> Confinement {
        Confinement::Selinux(SelinuxLabel::new("system_u:system_r:container_t:s0").unwrap())
    }

    const ON: (&str, &str) = (APPARMOR_ENABLED, "Y\n");

    #[test]
    fn without_apparmor_no_profile_is_accepted() {
        for files in [&[][..], &[(APPARMOR_ENABLED, "N\n")], &[(APPARMOR_PROFILES, "x (enforce)\n")]] {
            let (_top, host) = host(files);
            let error = host.check(&profile("x")).unwrap_err();
            assert_eq!((error.kind(), error.stage()), (ErrorKind::Unsupported, Stage::Request));
            assert_eq!(error.object(), "AppArmor profile 'x'");
            assert!(error.to_string().contains("AppArmor is not enabled on this host"), "{error}");
        }
    }

    #[test]
    fn only_a_profile_that_is_loaded_under_the_whole_name_is_accepted() {
        let loaded = (APPARMOR_PROFILES, "docker-default (enforce)\n/usr/bin/man (complain)\na (b) (enforce)\n");
        let (_top, host) = host(&[ON, loaded]);
        for name in ["docker-default", "/usr/bin/man", "a (b)", ":ns:x", "docker-default//&y"] {
            host.check(&profile(name)).unwrap();
        }
        for name in ["docker", "docker-default (enforce)", "man", "a", "enforce"] {
            let error = host.check(&profile(name)).unwrap_err();
            assert!(error.to_string().contains("no profile of that name is loaded"), "{name}: {error}");
        }
    }

    #[test]
    fn where_the_list_cannot_be_read_the_kernel_decides() {
        let (_top, host) = host(&[ON]);
        host.check(&profile("x")).unwrap();
    }

    #[test]
    fn a_label_needs_selinux_and_its_policys_word() {
        let (_top, without) = host(&[ON]);
        let error = without.check(&label()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("SELinux is not enabled on this host"), "{error}");
        for (flag, mode) in [("0", SelinuxMode::Permissive), ("1", SelinuxMode::Enforcing)] {
            let (_top, on) = host(&[(SELINUX_ENFORCE, flag), (SELINUX_CONTEXT, "")]);
            assert_eq!(on.selinux(), Some(mode));
            on.check(&label()).unwrap();
            assert_eq!(on.text(SELINUX_CONTEXT).unwrap(), label().name(), "the policy was asked");
        }
        // A file of the kernel's that answers EINVAL to every text but a number.
        let (_top, refusing) = host(&[(SELINUX_ENFORCE, "1")]);
        std::os::unix::fs::symlink("/proc/self/oom_score_adj", refusing.path(SELINUX_CONTEXT)).unwrap();
        let error = refusing.check(&label()).unwrap_err();
        assert!(error.to_string().contains("the policy of this host does not know it"), "{error}");
    }

    #[test]
    fn what_is_written_is_what_each_module_reads() {
        assert_eq!(
            (profile("a b").attribute(), profile("a b").text()),
            ("self/attr/apparmor/exec".into(), "exec a b".into())
        );
        assert_eq!((label().attribute(), label().text()), ("self/attr/exec".into(), label().name().to_owned()));
    }

    #[test]
    fn a_refusal_of_the_kernel_names_profile_call_and_reason() {
        let error = profile("x").not_applied("write", libc::ENOENT);
        assert_eq!((error.kind(), error.errno()), (ErrorKind::Unsupported, Some(libc::ENOENT)));
        let line = error.to_string();
        assert!(line.starts_with("become: AppArmor profile 'x': write: No such file or directory: "), "{line}");
        for one in [profile("x"), label()] {
            assert_eq!(one.not_applied("write", libc::EACCES).kind(), ErrorKind::Privilege);
            let refused = Error::system(Stage::Become, "program 'p'", "execve", crate::error::Errno(libc::EPERM));
            assert!(one.explain(refused).to_string().contains("no_new_privs"));
            let other = Error::system(Stage::Become, "program 'p'", "execve", crate::error::Errno(libc::ENOENT));
            assert_eq!(one.explain(other.clone()), other);
        }
    }
}
