//! The system calls that no library offers safely, and the only `unsafe` of the library.
//!
//! Everything here is a thin call: no policy, no retries, no text. Each block states why it is sound. Callers that fork or clone uphold
//! one rule, stated once: **the calling process has a single thread** ([`is_single_threaded`] checks it), so that the child, a copy of that
//! thread, may go on using the allocator and every library.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// The result of a raw call: the errno as `io::Error`.
type Io<T> = io::Result<T>;

fn check(value: libc::c_long) -> Io<libc::c_long> {
    if value == -1 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Whether this process has one thread: the link count of the task directory is two plus the number of threads.
pub(crate) fn is_single_threaded() -> bool {
    rustix::fs::stat("/proc/self/task").is_ok_and(|stat| stat.st_nlink == 3)
}

/// Which side of a fork this is.
pub(crate) enum Fork<P> {
    Parent(P),
    Child,
}

/// A child just cloned: its pid as seen from here, and a pidfd from its birth.
pub(crate) struct Cloned {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// `clone3` without sharing anything but what `flags` say; the child gets a pidfd from birth and, on cgroup v2, may be born in a cgroup.
///
/// The caller has a single thread.
pub(crate) fn clone3(flags: u64, into_cgroup: Option<BorrowedFd<'_>>) -> Io<Fork<Cloned>> {
    #[repr(C, align(8))]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = into_cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid `struct clone_args` of the size given, living across the call; the kernel writes one int to `pidfd`. Without
    // CLONE_VM the child has a copy of this address space and, the caller being single-threaded, goes on as after fork(2).
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) })?;
    if pid == 0 {
        return Ok(Fork::Child);
    }
    // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Fork::Parent(Cloned { pid: pid as i32, pidfd }))
}

/// Ends this process at once, without destructors, atexit handlers or flushing what the parent had buffered.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// `execve`; returns only on failure.
pub(crate) fn execve(path: &CStr, argv: &[CString], envp: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both arrays are NULL-terminated and point to NUL-terminated strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// `execveat` of an open file; returns only on failure.
pub(crate) fn execveat(file: BorrowedFd<'_>, argv: &[CString], envp: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: as for `execve`; the empty path with AT_EMPTY_PATH names the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Marks every descriptor from `first` on close-on-exec. Kernel 5.11.
pub(crate) fn close_on_exec_from(first: u32) -> Io<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed, so no owner is left with a dangling one.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(done).map(drop)
}

/// Moves `fd` to the number `target`, which stays open across exec.
pub(crate) fn move_to(fd: BorrowedFd<'_>, target: RawFd) -> Io<()> {
    if fd.as_raw_fd() == target {
        // SAFETY: only the close-on-exec flag of an open descriptor changes.
        return check(unsafe { libc::fcntl(target, libc::F_SETFD, 0) } as libc::c_long).map(drop);
    }
    // SAFETY: called only in a process about to exec, with targets (0-2, or the numbers of the handover) that no owner in it uses again.
    check(unsafe { libc::dup2(fd.as_raw_fd(), target) } as libc::c_long).map(drop)
}

/// Mount attributes for [`mount_setattr`]; the flags are `MOUNT_ATTR_*` of the kernel.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

/// Changes the attributes of the mount that `mount` is open on. Kernel 5.12.
pub(crate) fn mount_setattr(mount: BorrowedFd<'_>, recursive: bool, attr: MountAttr) -> Io<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` is a valid `struct mount_attr` of the size given; the empty path names the descriptor itself.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check(done).map(drop)
}

/// Puts every signal's disposition back to the default.
pub(crate) fn reset_dispositions() {
    // SAFETY: an all-zero sigaction is SIG_DFL without flags or mask. The raw calls reach the two realtime
    // signals that glibc keeps for itself, too; those on SIGKILL and SIGSTOP fail, and nobody can have changed these.
    unsafe {
        let default: KernelSigaction = std::mem::zeroed();
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, ptr::null::<u8>(), size_of::<u64>());
        }
    }
}

/// Unblocks every signal.
pub(crate) fn unblock_signals() {
    let none: u64 = 0;
    // SAFETY: the mask is eight valid bytes.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            ptr::null::<u8>(),
            size_of::<u64>(),
        );
    }
}

/// The kernel's own `struct sigaction`: handler, flags, restorer, mask. Zero is the default action on every architecture.
#[repr(C)]
struct KernelSigaction {
    words: [u64; 8],
}

/// Blocks every signal in this process.
pub(crate) fn block_signals() {
    let all: u64 = u64::MAX;
    // SAFETY: the mask is eight valid bytes.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, ptr::null::<u8>(), size_of::<u64>());
    }
}

/// A descriptor from which the given signals can be read; they are blocked from here on.
pub(crate) fn signal_fd(signals: &[i32]) -> Io<OwnedFd> {
    // SAFETY: `set` is initialised by sigemptyset before use; the descriptor returned is new and owned here.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        check(libc::sigprocmask(libc::SIG_BLOCK, &set, ptr::null_mut()) as libc::c_long)?;
        let fd = check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC) as libc::c_long)?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Lets the kernel reap the children of this process by itself, as the spawner wants it.
pub(crate) fn ignore_children() {
    // SAFETY: SIG_IGN is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
}

/// The timer slack of a process that nobody has given another, 50 µs (prctl(2)). Asking for 0 would only bring back the caller's own.
const TIMER_SLACK_NS: libc::c_ulong = 50_000;

/// What a process inherits from its caller besides signals and descriptors, put back to the kernel's defaults: scheduling policy, I/O
/// priority, execution domain, NUMA policy. What the kernel refuses is named in the answer.
pub(crate) fn reset_scheduling() -> Vec<&'static str> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    let mut refused = Vec::new();
    let mut note = |name, value: libc::c_long| {
        // ENOSYS: this kernel has no such thing, so nothing was inherited either.
        if value == -1 && io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS) {
            refused.push(name);
        }
    };
    // SAFETY: each call takes plain numbers, or a zeroed structure of the right type that lives across it; all of them act on this process.
    unsafe {
        let param: libc::sched_param = std::mem::zeroed();
        note("scheduling policy", libc::sched_setscheduler(0, libc::SCHED_OTHER, &param) as libc::c_long);
        note("nice value", libc::setpriority(libc::PRIO_PROCESS, 0, 0) as libc::c_long);
        note("I/O priority", libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0));
        note("execution domain", libc::personality(0) as libc::c_long);
        note("NUMA policy", libc::syscall(libc::SYS_set_mempolicy, 0, ptr::null::<u8>(), 0));
        note("timer slack", libc::prctl(libc::PR_SET_TIMERSLACK, TIMER_SLACK_NS) as libc::c_long);
        // All CPUs: the kernel keeps those that the cpuset allows.
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        for cpu in 0..libc::CPU_SETSIZE as usize {
            libc::CPU_SET(cpu, &mut all);
        }
        note("CPU affinity", libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &all) as libc::c_long);
    }
    refused
}

/// Puts the rules for capabilities of this process back to the kernel's own. Needs CAP_SETPCAP.
pub(crate) fn reset_securebits() -> Io<()> {
    // SAFETY: plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, 0) } as libc::c_long).map(drop)
}

/// Gives this process a session keyring of its own, so that it holds none of its caller's keys.
pub(crate) fn join_new_session_keyring() -> Io<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<u8>()) };
    match check(joined) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// What `LOOP_GET_STATUS64` says of a bound loop device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoopStatus {
    /// Device number of the file system that holds the backing file, as `stat` gives it.
    pub(crate) device: u64,
    /// Inode number of the backing file.
    pub(crate) inode: u64,
    /// Whether it shows the whole file, read-only, as a device of ours does and an administrator's may not.
    pub(crate) as_ours: bool,
}

mod loop_abi {
    /// `struct loop_info64` of <linux/loop.h>.
    #[repr(C)]
    #[derive(Clone, Copy)]
    pub(super) struct LoopInfo64 {
        pub(super) lo_device: u64,
        pub(super) lo_inode: u64,
        pub(super) lo_rdevice: u64,
        pub(super) lo_offset: u64,
        pub(super) lo_sizelimit: u64,
        pub(super) lo_number: u32,
        pub(super) lo_encrypt_type: u32,
        pub(super) lo_encrypt_key_size: u32,
        pub(super) lo_flags: u32,
        pub(super) lo_file_name: [u8; 64],
        pub(super) lo_crypt_name: [u8; 64],
        pub(super) lo_encrypt_key: [u8; 32],
        pub(super) lo_init: [u64; 2],
    }

    /// `struct loop_config` of <linux/loop.h>.
    #[repr(C)]
    pub(super) struct LoopConfig {
        pub(super) fd: u32,
        pub(super) block_size: u32,
        pub(super) info: LoopInfo64,
        pub(super) reserved: [u64; 8],
    }

    pub(super) const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
    pub(super) const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
    pub(super) const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
    pub(super) const LO_FLAGS_READ_ONLY: u32 = 1;
    pub(super) const LO_FLAGS_AUTOCLEAR: u32 = 4;
}

/// The number of a loop device that was free a moment ago; one is made where none is.
pub(crate) fn loop_get_free(control: BorrowedFd<'_>) -> Io<u32> {
    // SAFETY: the call takes no argument and returns a number.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), loop_abi::LOOP_CTL_GET_FREE) };
    check(number as libc::c_long).map(|number| number as u32)
}

/// Binds `file` to a free loop device: read-only, and freed by the kernel with its last user. Kernel 5.8.
pub(crate) fn loop_configure(device: BorrowedFd<'_>, file: BorrowedFd<'_>, label: &[u8]) -> Io<()> {
    // SAFETY: both structures are plain integers, for which zero is valid; the kernel reads them during the call only.
    unsafe {
        let mut config: loop_abi::LoopConfig = std::mem::zeroed();
        config.fd = file.as_raw_fd() as u32;
        config.info.lo_flags = loop_abi::LO_FLAGS_READ_ONLY | loop_abi::LO_FLAGS_AUTOCLEAR;
        let length = label.len().min(config.info.lo_file_name.len() - 1);
        config.info.lo_file_name[..length].copy_from_slice(&label[..length]);
        check(libc::ioctl(device.as_raw_fd(), loop_abi::LOOP_CONFIGURE, &raw const config) as libc::c_long).map(drop)
    }
}

/// Asks for a binding to a descriptor that nobody has open, which cannot come about. EBADF from a kernel that knows the request.
pub(crate) fn loop_configure_nothing(device: BorrowedFd<'_>) -> Io<()> {
    // SAFETY: as for `loop_configure`; the descriptor's number is none, which the kernel looks at first.
    unsafe {
        let mut config: loop_abi::LoopConfig = std::mem::zeroed();
        config.fd = u32::MAX;
        check(libc::ioctl(device.as_raw_fd(), loop_abi::LOOP_CONFIGURE, &raw const config) as libc::c_long).map(drop)
    }
}

/// Which file a loop device is bound to; ENXIO when it is not bound.
pub(crate) fn loop_get_status(device: BorrowedFd<'_>) -> Io<LoopStatus> {
    // SAFETY: the kernel fills the structure, for which zero is valid as well.
    unsafe {
        let mut info: loop_abi::LoopInfo64 = std::mem::zeroed();
        check(libc::ioctl(device.as_raw_fd(), loop_abi::LOOP_GET_STATUS64, &raw mut info) as libc::c_long)?;
        let whole = info.lo_offset == 0 && info.lo_sizelimit == 0;
        let read_only = info.lo_flags & loop_abi::LO_FLAGS_READ_ONLY != 0;
        Ok(LoopStatus { device: info.lo_device, inode: info.lo_inode, as_ours: whole && read_only })
    }
}

/// The resource limits, in the order of their numbers.
pub(crate) const RLIMITS: [(libc::__rlimit_resource_t, &str); 16] = [
    (libc::RLIMIT_CPU, "RLIMIT_CPU"),
    (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
    (libc::RLIMIT_DATA, "RLIMIT_DATA"),
    (libc::RLIMIT_STACK, "RLIMIT_STACK"),
    (libc::RLIMIT_CORE, "RLIMIT_CORE"),
    (libc::RLIMIT_RSS, "RLIMIT_RSS"),
    (libc::RLIMIT_NPROC, "RLIMIT_NPROC"),
    (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
    (libc::RLIMIT_MEMLOCK, "RLIMIT_MEMLOCK"),
    (libc::RLIMIT_AS, "RLIMIT_AS"),
    (libc::RLIMIT_LOCKS, "RLIMIT_LOCKS"),
    (libc::RLIMIT_SIGPENDING, "RLIMIT_SIGPENDING"),
    (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
    (libc::RLIMIT_NICE, "RLIMIT_NICE"),
    (libc::RLIMIT_RTPRIO, "RLIMIT_RTPRIO"),
    (libc::RLIMIT_RTTIME, "RLIMIT_RTTIME"),
];

/// A soft and a hard limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rlimit {
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// A limit of another process (0: this one).
pub(crate) fn rlimit_of(pid: i32, resource: libc::__rlimit_resource_t) -> Io<Rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `struct rlimit` to `limit`; a null new limit changes nothing.
    check(unsafe { libc::prlimit(pid, resource, ptr::null(), &mut limit) } as libc::c_long)?;
    Ok(Rlimit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Sets a limit of this process.
pub(crate) fn set_rlimit(resource: libc::__rlimit_resource_t, limit: Rlimit) -> Io<()> {
    let limit = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
    // SAFETY: `limit` is valid for the call; the null pointer asks for no old value.
    check(unsafe { libc::prlimit(0, resource, &limit, ptr::null_mut()) } as libc::c_long).map(drop)
}

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn bring_loopback_up() -> Io<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `request` is a valid `struct ifreq` (plain integers and bytes, for which zero is valid), with a NUL-terminated name; the kernel
    // reads and writes it during the calls only, and SIOCGIFFLAGS makes the flags member of the union the valid one.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) as libc::c_long)?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) as libc::c_long).map(drop)
    }
}

/// `fork`, from a process with a single thread.
pub(crate) fn fork() -> Io<Fork<i32>> {
    // SAFETY: with one thread, the child may use everything that its parent could.
    match check(unsafe { libc::fork() } as libc::c_long)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid as i32)),
    }
}

/// Denies this process, and all that come from it, user namespaces of their own; for good. `clone3`, whose flags a filter cannot see, is
/// answered as an older kernel would, so that the C library falls back to `clone`. Calls by another architecture's table end the process.
/// Needs no_new_privs.
pub(crate) fn deny_user_namespaces() -> Io<()> {
    #[cfg(target_arch = "x86_64")]
    const NATIVE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
    #[cfg(target_arch = "aarch64")]
    const NATIVE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64
    /// Offsets within `struct seccomp_data`: number, architecture, low half of the first argument on a little-endian machine.
    const NR: u32 = 0;
    const ARCH: u32 = 4;
    const FIRST: u32 = 16;
    /// What x32 adds to a number; no native number on the other architecture comes near it.
    const X32_BIT: u32 = 0x4000_0000;
    const NEWUSER: u32 = libc::CLONE_NEWUSER as u32;
    let load = |offset| libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    };
    let jump = |test: u32, k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: (libc::BPF_JMP | test | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let answer = |k: u32| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    let errno = |errno: i32| answer(libc::SECCOMP_RET_ERRNO | errno as u32);
    let mut filter = [
        load(ARCH),
        jump(libc::BPF_JEQ, NATIVE, 1, 0),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        load(NR),
        jump(libc::BPF_JGE, X32_BIT, 6, 0),
        jump(libc::BPF_JEQ, libc::SYS_clone3 as u32, 5, 0),
        jump(libc::BPF_JEQ, libc::SYS_clone as u32, 1, 0),
        jump(libc::BPF_JEQ, libc::SYS_unshare as u32, 0, 2),
        load(FIRST),
        jump(libc::BPF_JSET, NEWUSER, 2, 0),
        answer(libc::SECCOMP_RET_ALLOW),
        errno(libc::ENOSYS),
        errno(libc::EPERM),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` describes `filter`, which lives across the call; the kernel copies and checks it.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    check(done).map(drop)
}

/// Makes the cgroups that this process is in the root of what it sees of them. Kernel 4.6.
pub(crate) fn unshare_cgroup_namespace() -> Io<()> {
    // SAFETY: only the namespace of this process changes; no descriptor table, stack or memory is unshared.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } as libc::c_long).map(drop)
}

/// Gives this process, which has one thread, a user namespace of its own.
#[cfg(feature = "cli")]
pub(crate) fn unshare_user_namespace() -> Io<()> {
    // SAFETY: as for the mount namespace.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) } as libc::c_long).map(drop)
}

/// Gives this process a mount namespace of its own.
pub(crate) fn unshare_mount_namespace() -> Io<()> {
    // SAFETY: only the namespace of this process changes; no descriptor table, stack or memory is unshared.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) } as libc::c_long).map(drop)
}

/// The wait status of a process that has been reaped, by whomever, from a pidfd held since before. Kernel 6.15; nothing below.
pub(crate) fn pidfd_wait_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    /// `struct pidfd_info` of <linux/pidfd.h>, in its first published size.
    #[repr(C)]
    #[derive(Default)]
    struct PidfdInfo {
        mask: u64,
        cgroup_id: u64,
        ids: [u32; 11],
        exit_code: i32,
    }
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// `_IOWR(0xFF, 11, struct pidfd_info)`.
    const PIDFD_GET_INFO: libc::Ioctl = (3 << 30) | ((size_of::<PidfdInfo>() as libc::Ioctl) << 16) | (0xff << 8) | 11;
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the kernel reads and writes one structure of the size that the request number carries.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (done == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Empties this process's environment, so that nothing of it reaches libcontainer (`LISTEN_FDS`) or any program executed later.
pub(crate) fn clear_environment() {
    // SAFETY: the process has a single thread, so nobody reads the environment meanwhile.
    unsafe { libc::clearenv() };
}

/// Closes every descriptor but the standard streams and `kept`.
pub(crate) fn close_all_but(kept: BorrowedFd<'_>) {
    let kept = kept.as_raw_fd() as u32;
    // SAFETY: called by the spawner, which is a forked copy of a program that never returns to that program's code, or a program that has
    // opened nothing but `kept`: no owner of the closed descriptors runs again in it.
    unsafe {
        if kept > 3 {
            libc::syscall(libc::SYS_close_range, 3, kept - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, kept.max(2) + 1, u32::MAX, 0);
    }
}

/// Lets this process wait for its children again, after [`ignore_children`].
pub(crate) fn reap_children_again() {
    // SAFETY: SIG_DFL is a valid disposition for SIGCHLD.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// A close-on-exec copy of the descriptor with this number, if it is open.
pub(crate) fn duplicate(number: RawFd) -> Io<OwnedFd> {
    // SAFETY: the copy is new and owned here; the original is only read.
    unsafe {
        let copy = check(libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) as libc::c_long)?;
        Ok(OwnedFd::from_raw_fd(copy as RawFd))
    }
}

/// What happens to this process when its parent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParentDeath {
    Kill,
    Survive,
}

/// Sets what happens to this process when its parent dies. Changing ids sets it back, an exec does not.
pub(crate) fn on_parent_death(fate: ParentDeath) -> Io<()> {
    let signal = match fate {
        ParentDeath::Kill => libc::SIGKILL,
        ParentDeath::Survive => 0,
    };
    // SAFETY: plain numbers.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) } as libc::c_long).map(drop)
}

/// seccomp(2): from now on the calling thread's system calls go through this program too.
pub(crate) fn install_seccomp_filter(program: &[crate::seccomp::Instruction], flags: u32) -> Io<()> {
    // The kernel refuses what is longer than 4096.
    let len = u16::try_from(program.len()).unwrap_or(u16::MAX);
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `Instruction` has the layout of `struct sock_filter` (repr(C), the same four fields), `len` of them are there, and the kernel
    // only reads them, during the call.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match check(done)? {
        0 => Ok(()),
        // With TSYNC: the id of a thread that has another filter already.
        _ => Err(io::Error::from_raw_os_error(libc::ESRCH)),
    }
}
