//! What a filter does with a call.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::errno_name;

/// Greatest errno that a filter can give: the kernel's `MAX_ERRNO`; it cuts what is above.
pub(in crate::seccomp) const MAX_ERRNO: u64 = 4095;

/// Greatest number that a tracer can be told: the low half of the filter's answer.
pub(in crate::seccomp) const MAX_MESSAGE: u64 = u16::MAX as u64;

/// What happens to a call, strictest first: the order in which the kernel prefers one answer of
/// several filters to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// The whole process is killed by SIGSYS (`SCMP_ACT_KILL_PROCESS`).
    KillProcess,
    /// The calling thread is killed (`SCMP_ACT_KILL`, `SCMP_ACT_KILL_THREAD`).
    KillThread,
    /// The thread gets SIGSYS, which it may handle (`SCMP_ACT_TRAP`).
    Trap,
    /// The call is not made and answers with this errno; 0 feigns success (`SCMP_ACT_ERRNO`).
    Errno(u16),
    /// A tracer is told this number and decides; without a tracer the call answers ENOSYS
    /// (`SCMP_ACT_TRACE`).
    Trace(u16),
    /// The call is made and logged (`SCMP_ACT_LOG`).
    Log,
    /// The call is made (`SCMP_ACT_ALLOW`).
    Allow,
}

impl Action {
    /// The answer that the kernel knows it by, `SECCOMP_RET_*`.
    pub fn to_kernel(self) -> u32 {
        match self {
            Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
            Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
            Action::Trap => libc::SECCOMP_RET_TRAP,
            Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
            Action::Trace(message) => libc::SECCOMP_RET_TRACE | u32::from(message),
            Action::Log => libc::SECCOMP_RET_LOG,
            Action::Allow => libc::SECCOMP_RET_ALLOW,
        }
    }

    /// What the kernel does with an answer. One that it does not know kills the process; notifying
    /// needs a listener, and without one the call answers ENOSYS.
    pub fn from_kernel(answer: u32) -> Action {
        let data = (answer & libc::SECCOMP_RET_DATA) as u16;
        match answer & libc::SECCOMP_RET_ACTION_FULL {
            libc::SECCOMP_RET_KILL_THREAD => Action::KillThread,
            libc::SECCOMP_RET_TRAP => Action::Trap,
            libc::SECCOMP_RET_ERRNO => Action::Errno(data.min(MAX_ERRNO as u16)),
            libc::SECCOMP_RET_USER_NOTIF => Action::Errno(libc::ENOSYS as u16),
            libc::SECCOMP_RET_TRACE => Action::Trace(data),
            libc::SECCOMP_RET_LOG => Action::Log,
            libc::SECCOMP_RET_ALLOW => Action::Allow,
            _ => Action::KillProcess,
        }
    }

    /// The rank among actions: of several, the kernel takes the lowest.
    pub fn strictness(self) -> u8 {
        match self {
            Action::KillProcess => 0,
            Action::KillThread => 1,
            Action::Trap => 2,
            Action::Errno(_) => 3,
            Action::Trace(_) => 4,
            Action::Log => 5,
            Action::Allow => 6,
        }
    }

    /// Whether the call is made.
    pub fn lets_through(self) -> bool {
        matches!(self, Action::Log | Action::Allow)
    }

    /// The name in a profile.
    pub fn oci_name(self) -> &'static str {
        match self {
            Action::KillProcess => "SCMP_ACT_KILL_PROCESS",
            Action::KillThread => "SCMP_ACT_KILL_THREAD",
            Action::Trap => "SCMP_ACT_TRAP",
            Action::Errno(_) => "SCMP_ACT_ERRNO",
            Action::Trace(_) => "SCMP_ACT_TRACE",
            Action::Log => "SCMP_ACT_LOG",
            Action::Allow => "SCMP_ACT_ALLOW",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::KillProcess => f.write_str("kill the process"),
            Action::KillThread => f.write_str("kill the thread"),
            Action::Trap => f.write_str("send SIGSYS"),
            Action::Errno(0) => f.write_str("skip the call and feign success"),
            Action::Errno(errno) => match errno_name::name_of(*errno) {
                Some(name) => write!(f, "deny with {name}"),
                None => write!(f, "deny with errno {errno}"),
            },
            Action::Trace(message) => write!(f, "ask the tracer (message {message}), deny with ENOSYS without one"),
            Action::Log => f.write_str("allow and log"),
            Action::Allow => f.write_str("allow"),
        }
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Action", 2)?;
        fields.serialize_field("action", self.oci_name())?;
        let number = match self {
            Action::Errno(number) | Action::Trace(number) => Some(number),
            _ => None,
        };
        fields.serialize_field("errnoRet", &number)?;
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_to_the_kernel_comes_back_unchanged() {
        let all = [
            Action::KillProcess,
            Action::KillThread,
            Action::Trap,
            Action::Errno(1),
            Action::Trace(65535),
            Action::Log,
            Action::Allow,
        ];
        for action in all {
            assert_eq!(Action::from_kernel(action.to_kernel()), action);
        }
        // The kernel compares answers as signed numbers.
        assert!(all.is_sorted_by_key(|action| action.to_kernel() as i32));
        assert!(all.is_sorted_by_key(|action| action.strictness()));
    }

    #[test]
    fn an_answer_that_the_kernel_does_not_know_kills() {
        assert_eq!(Action::from_kernel(0x1234_0000), Action::KillProcess);
    }
}
