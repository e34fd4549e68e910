//! What the kernel's log says of a process that a seccomp filter has killed: which system call it
//! was. Only the kernel's audit knows, where it is built in, and it writes to this log unless an
//! audit daemon takes its lines (Linux: `audit_seccomp` in kernel/auditsc.c).
//!
//! Pure: the text of one line.

/// The call for which the filter killed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed {
    /// Its number, in the call table of `arch`.
    pub syscall: u64,
    /// `AUDIT_ARCH_…` of <linux/audit.h>.
    pub arch: u64,
}

/// What this line tells of the process; `None` where it is about something else. What a worker has
/// chosen, its name and its program's, is written in hexadecimal digits where it holds a blank, so
/// that no word of the line is a worker's.
pub fn killed(line: &[u8], pid: u32) -> Option<Killed> {
    const AUDIT_SECCOMP: u64 = 1326;
    const SIGSYS: u64 = 31;
    let words = || line.split(|byte| *byte == b' ' || *byte == b'\n');
    let value = |key: &[u8], radix: u32| {
        let digits = words().find_map(|word| word.strip_prefix(key)?.strip_prefix(b"="))?;
        u64::from_str_radix(core::str::from_utf8(digits).ok()?, radix).ok()
    };
    let is_it =
        value(b"type", 10)? == AUDIT_SECCOMP && value(b"sig", 10)? == SIGSYS && value(b"pid", 10)? == u64::from(pid);
    is_it.then_some(())?;
    Some(Killed { syscall: value(b"syscall", 10)?, arch: value(b"arch", 16)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &[u8] = b"4,1203,42682114768,-;audit: type=1326 audit(1795977307.767:89): auid=4294967295 uid=2100056036 gid=2100056036 \
        ses=4294967295 pid=25822 comm=\"unshare\" exe=\"/usr/bin/unshare\" sig=31 arch=c000003e syscall=272 compat=0 ip=0x7f73d29090f7 code=0x80000000\n";

    #[test]
    fn the_call_of_the_process_is_found_and_no_others() {
        assert_eq!(killed(LINE, 25822), Some(Killed { syscall: 272, arch: 0xc000_003e }));
        assert_eq!(killed(LINE, 2582), None);
        for (from, to) in [("1326", "1327"), ("sig=31", "sig=0"), (" syscall=272", ""), ("arch=c000003e", "arch=x")] {
            let other = String::from_utf8(LINE.to_vec()).unwrap().replace(from, to);
            assert_eq!(killed(other.as_bytes(), 25822), None, "{to}");
        }
        assert_eq!(killed(b"", 1), None);
    }
}
