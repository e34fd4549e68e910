//! The system calls of the monitor, without libc. The only file of the program with `unsafe` in it.
//!
//! Two invariants hold for all of it. Each wrapper passes the kernel only pointers made from
//! references that live until the call returns, with the length of what they point to. And no fd is
//! ever wrapped in an owner: a wrong number is EBADF, never a broken promise to the compiler.

#![allow(unsafe_code)]

use core::arch::{asm, global_asm};
use core::ffi::CStr;

/// A call's value, or its errno.
pub type Result<T> = core::result::Result<T, i32>;

pub const EINTR: i32 = 4;
pub const EAGAIN: i32 = 11;
pub const EBADF: i32 = 9;
pub const ENOTDIR: i32 = 20;
pub const ECONNABORTED: i32 = 103;

pub const POLLIN: i16 = 0x1;
pub const POLLPRI: i16 = 0x2;

pub const SIGKILL: u8 = 9;
const SIGTERM: u32 = 15;
const SIGCHLD: u32 = 17;

const AT_FDCWD: usize = -100_isize as usize;
const O_PATH: usize = 0o10_000_000;
const O_CLOEXEC: usize = 0o2_000_000;
const NONBLOCK: usize = 0o4_000;
const AT_REMOVEDIR: usize = 0x200;

// What the kernel calls its own on each architecture (arch/x86/entry/syscalls/syscall_64.tbl,
// include/uapi/asm-generic/unistd.h).
macro_rules! numbers {
    ($($name:ident $x86_64:literal $aarch64:literal)*) => {
        $(const $name: usize = if cfg!(target_arch = "x86_64") { $x86_64 } else { $aarch64 };)*
    };
}
numbers! {
    READ 0 63
    WRITE 1 64
    CLOSE 3 57
    MMAP 9 222
    RT_SIGACTION 13 134
    RT_SIGPROCMASK 14 135
    PREAD64 17 67
    SENDTO 44 206
    RECVFROM 45 207
    SHUTDOWN 48 210
    GETSOCKOPT 55 209
    CLONE 56 220
    FCNTL 72 25
    FTRUNCATE 77 46
    CHDIR 80 49
    FCHMOD 91 52
    SETSID 112 157
    SETFSUID 122 151
    SETFSGID 123 152
    CAPSET 126 91
    FSTATFS 138 44
    PRCTL 157 167
    CLOCK_GETTIME 228 113
    EXIT_GROUP 231 94
    WAITID 247 95
    OPENAT 257 56
    GETDENTS64 217 61
    UNLINKAT 263 35
    RENAMEAT 264 38
    PPOLL 271 73
    FALLOCATE 285 47
    ACCEPT4 288 242
    SIGNALFD4 289 74
    PIDFD_SEND_SIGNAL 424 424
    CLOSE_RANGE 436 436
}

#[cfg(target_arch = "x86_64")]
global_asm!(include_str!("x86_64.s"), main = sym crate::main);
#[cfg(target_arch = "aarch64")]
global_asm!(include_str!("aarch64.s"), main = sym crate::main);

/// # Safety
/// The call must not write to memory other than what pointers among the arguments are meant for,
/// nor end what others rely on.
#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> Result<usize> {
    let value: isize;
    // SAFETY: the kernel clobbers rax, rcx and r11 and nothing else; the rest is the caller's
    // promise.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => value, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    errno(value)
}

/// # Safety
/// As on x86_64.
#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> Result<usize> {
    let value: isize;
    // SAFETY: the kernel clobbers x0 and nothing else; the rest is the caller's promise.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => value, in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            in("x5") f, options(nostack));
    }
    errno(value)
}

fn errno(value: isize) -> Result<usize> {
    if (-4095..0).contains(&value) { Err(-value as i32) } else { Ok(value as usize) }
}

/// The arguments of a call as registers, those that it does not use set to 0.
macro_rules! registers {
    ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => {
        [$a as usize, $b as usize, $c as usize, $d as usize, $e as usize, $f as usize]
    };
    ($($argument:expr),*) => {
        registers!($($argument,)* 0)
    };
}

/// A call whose arguments are numbers alone, so that no memory is touched.
macro_rules! plain {
    ($number:ident $(, $argument:expr)*) => {{
        let arguments = registers!($($argument),*);
        // SAFETY: every use passes numbers only, to calls that neither unmap nor move memory of
        // this program.
        unsafe { call($number, arguments) }
    }};
}

/// A call with pointers.
macro_rules! with_memory {
    ($number:ident $(, $argument:expr)*) => {{
        let arguments = registers!($($argument),*);
        // SAFETY: every use passes pointers made from references in scope, with the lengths of what
        // they refer to.
        unsafe { call($number, arguments) }
    }};
}

pub fn exit(code: i32) -> ! {
    loop {
        let _ = plain!(EXIT_GROUP, code);
    }
}

/// Detaches from whoever started the launch: own session, `/` as directory, no parent-death signal,
/// no signals at all but SIGKILL and what [`signals`] takes.
pub fn settle(name: &CStr) {
    const PR_SET_PDEATHSIG: usize = 1;
    const PR_SET_NAME: usize = 15;
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    const SIG_SETMASK: usize = 2;
    const SA_NOCLDSTOP: u64 = 1;
    let all = [u64::MAX];
    // handler, flags, restorer, mask: the default action, and no word of children that are stopped,
    // which a worker could be thousands of times a second.
    let deaths_only = [0, SA_NOCLDSTOP, 0, 0];
    let _ = with_memory!(RT_SIGACTION, SIGCHLD, deaths_only.as_ptr(), 0, 8);
    let _ = with_memory!(RT_SIGPROCMASK, SIG_SETMASK, all.as_ptr(), 0, 8);
    let _ = with_memory!(PRCTL, PR_SET_NAME, name.as_ptr());
    let _ = plain!(PRCTL, PR_SET_CHILD_SUBREAPER, 1);
    let _ = plain!(PRCTL, PR_SET_PDEATHSIG, 0);
    let _ = plain!(SETSID);
    let _ = with_memory!(CHDIR, c"/".as_ptr());
}

/// Closes every fd from `first` to `last`.
pub fn close_range(first: i32, last: i32) -> Result<()> {
    plain!(CLOSE_RANGE, first, last).map(drop)
}

pub fn close(fd: i32) {
    let _ = plain!(CLOSE, fd);
}

pub fn set_nonblocking(fd: i32) -> Result<()> {
    const F_GETFL: usize = 3;
    const F_SETFL: usize = 4;
    let flags = plain!(FCNTL, fd, F_GETFL)?;
    plain!(FCNTL, fd, F_SETFL, flags | NONBLOCK).map(drop)
}

pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize> {
    with_memory!(READ, fd, buffer.as_mut_ptr(), buffer.len())
}

/// Reads a small file from its beginning, wherever the fd's offset is. Kernel files of this kind
/// come in one piece.
pub fn read_start(fd: i32, buffer: &mut [u8]) -> Result<&[u8]> {
    let length = with_memory!(PREAD64, fd, buffer.as_mut_ptr(), buffer.len(), 0)?;
    Ok(buffer.get(..length).unwrap_or(&[]))
}

pub fn write(fd: i32, bytes: &[u8]) -> Result<usize> {
    with_memory!(WRITE, fd, bytes.as_ptr(), bytes.len())
}

/// The first `limit` bytes of a file, in fresh memory of which only the pages that are filled
/// exist.
pub fn read_whole(fd: i32, limit: usize) -> Result<&'static [u8]> {
    const PROT_READ_WRITE: usize = 3;
    const MAP_PRIVATE_ANONYMOUS: usize = 0x22;
    let none = usize::MAX;
    let address = plain!(MMAP, 0, limit, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, none, 0)? as *mut u8;
    // SAFETY: a mapping of `limit` zeroed bytes that was made in the line above, is known nowhere
    // else and is never unmapped.
    let memory = unsafe { core::slice::from_raw_parts_mut(address, limit) };
    let mut filled = 0;
    while let Some(rest) = memory.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match with_memory!(PREAD64, fd, rest.as_mut_ptr(), rest.len(), filled)? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(memory.get(..filled).unwrap_or(&[]))
}

/// A directory by its absolute path, only to open files below it.
pub fn open_directory(path: &CStr) -> Result<i32> {
    with_memory!(OPENAT, AT_FDCWD, path.as_ptr(), O_PATH | O_CLOEXEC).map(|fd| fd as i32)
}

/// How a file is opened.
#[derive(Clone, Copy)]
pub enum Open {
    Read = 0,
    Write = 1,
    /// Created if it is not there, its content kept if it is.
    Create = 0o101,
    /// Created, and nothing else: no link of that name is followed, and nothing there is opened.
    New = 0o301,
    /// For reading what is there, and no waiting for more.
    ReadNow = 0o4_000,
}

pub fn open_at(directory: i32, name: &CStr, how: Open) -> Result<i32> {
    with_memory!(OPENAT, directory, name.as_ptr(), how as usize | O_CLOEXEC, 0o600).map(|fd| fd as i32)
}

/// Makes sure that writing the first `length` bytes finds room, without changing the file's size.
pub fn reserve(fd: i32, length: usize) -> Result<()> {
    const FALLOC_FL_KEEP_SIZE: usize = 1;
    plain!(FALLOCATE, fd, FALLOC_FL_KEEP_SIZE, 0, length).map(drop)
}

pub fn chmod(fd: i32, mode: u32) -> Result<()> {
    plain!(FCHMOD, fd, mode).map(drop)
}

pub fn truncate(fd: i32, length: usize) -> Result<()> {
    plain!(FTRUNCATE, fd, length).map(drop)
}

pub fn rename_at(directory: i32, from: &CStr, to: &CStr) -> Result<()> {
    with_memory!(RENAMEAT, directory, from.as_ptr(), directory, to.as_ptr()).map(drop)
}

pub fn unlink_at(directory: i32, name: &CStr) -> Result<()> {
    with_memory!(UNLINKAT, directory, name.as_ptr(), 0).map(drop)
}

pub fn rmdir_at(directory: i32, name: &CStr) -> Result<()> {
    with_memory!(UNLINKAT, directory, name.as_ptr(), AT_REMOVEDIR).map(drop)
}

/// The next entries of an open directory; none are left where nothing is read.
pub fn entries(directory: i32, buffer: &mut [u8; 512]) -> Result<Entries<'_>> {
    let length = with_memory!(GETDENTS64, directory, buffer.as_mut_ptr(), buffer.len())?;
    Ok(Entries(buffer.get(..length).unwrap_or(&[])))
}

/// `struct linux_dirent64`, one after the other: 19 bytes with the entry's length at byte 16, then
/// its name.
pub struct Entries<'b>(&'b [u8]);

impl<'b> Iterator for Entries<'b> {
    type Item = &'b CStr;

    fn next(&mut self) -> Option<&'b CStr> {
        let [low, high] = *self.0.get(16..18)? else { return None };
        let (entry, rest) = self.0.split_at_checked(usize::from(u16::from_ne_bytes([low, high])))?;
        self.0 = rest;
        CStr::from_bytes_until_nul(entry.get(19..)?).ok()
    }
}

pub fn rmdir(path: &CStr) -> Result<()> {
    with_memory!(UNLINKAT, AT_FDCWD, path.as_ptr(), AT_REMOVEDIR).map(drop)
}

/// Bytes per block, blocks, free blocks, inodes, free inodes.
pub fn statfs(fd: i32) -> Result<[u64; 5]> {
    let mut buffer = [0_u64; 15]; // struct statfs of every 64-bit Linux: 120 bytes
    with_memory!(FSTATFS, fd, buffer.as_mut_ptr())?;
    let [_, size, blocks, free, _, inodes, free_inodes, ..] = buffer;
    Ok([size, blocks, free, inodes, free_inodes])
}

/// The clocks in use.
#[derive(Clone, Copy)]
pub enum Clock {
    Realtime = 0,
    Boottime = 7,
}

pub fn now_ns(clock: Clock) -> u64 {
    let mut time = [0_u64; 2];
    let _ = with_memory!(CLOCK_GETTIME, clock, time.as_mut_ptr()); // cannot fail for these clocks
    time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])
}

/// `struct pollfd`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    /// A negative number is passed over by the kernel.
    pub fd: i32,
    pub events: i16,
    pub revents: i16,
}

/// Waits until one of them is ready, or for as long as given.
pub fn poll(fds: &mut [PollFd], timeout_ns: Option<u64>) -> Result<usize> {
    let mut timeout = timeout_ns.map(|ns| [ns / 1_000_000_000, ns % 1_000_000_000]);
    let pointer = timeout.as_mut().map_or(core::ptr::null_mut(), |timeout| timeout.as_mut_ptr());
    with_memory!(PPOLL, fds.as_mut_ptr(), fds.len(), pointer, 0, 0)
}

/// An fd that is readable while SIGCHLD or SIGTERM is pending.
pub fn signals() -> Result<i32> {
    let mask = [1_u64 << (SIGCHLD - 1) | 1_u64 << (SIGTERM - 1)];
    with_memory!(SIGNALFD4, usize::MAX, mask.as_ptr(), 8, O_CLOEXEC | NONBLOCK).map(|fd| fd as i32)
}

/// Takes the pending signals from [`signals`]; if SIGTERM is among them, whose it is: pid and uid.
pub fn take_termination(signals: i32) -> Option<(u32, u32)> {
    // `struct signalfd_siginfo` has 128 bytes: number, errno, code, pid, uid and others, four bytes
    // each. There are two signals, and none is pending twice.
    let mut infos = [0; 256];
    let length = read(signals, &mut infos).unwrap_or(0);
    let taken = infos.get(..length).unwrap_or(&[]);
    let info = taken.chunks_exact(128).find(|info| info.starts_with(&SIGTERM.to_ne_bytes()))?;
    let word = |at: usize| Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?));
    Some((word(12)?, word(16)?))
}

pub fn send_signal(pidfd: i32, signal: u8) -> Result<()> {
    plain!(PIDFD_SEND_SIGNAL, pidfd, signal, 0, 0).map(drop)
}

pub fn accept(socket: i32) -> Result<i32> {
    plain!(ACCEPT4, socket, 0, 0, O_CLOEXEC | NONBLOCK).map(|fd| fd as i32)
}

/// Who connected: pid and uid.
pub fn peer(socket: i32) -> Result<(u32, u32)> {
    const SOL_SOCKET: usize = 1;
    const SO_PEERCRED: usize = 17;
    let mut credentials = [u32::MAX; 3]; // struct ucred: pid, uid, gid
    let mut length = [12_u32];
    with_memory!(GETSOCKOPT, socket, SOL_SOCKET, SO_PEERCRED, credentials.as_mut_ptr(), length.as_mut_ptr())?;
    Ok((credentials[0], credentials[1]))
}

/// One packet. The length is the packet's own, which may be more than the buffer took.
pub fn receive(socket: i32, buffer: &mut [u8]) -> Result<usize> {
    const MSG_TRUNC_DONTWAIT: usize = 0x20 | 0x40;
    with_memory!(RECVFROM, socket, buffer.as_mut_ptr(), buffer.len(), MSG_TRUNC_DONTWAIT, 0, 0)
}

pub fn send(socket: i32, packet: &[u8]) -> Result<usize> {
    const MSG_DONTWAIT_NOSIGNAL: usize = 0x40 | 0x4000;
    with_memory!(SENDTO, socket, packet.as_ptr(), packet.len(), MSG_DONTWAIT_NOSIGNAL, 0, 0)
}

/// Nothing more is said or heard; what was sent before still arrives.
pub fn shutdown(socket: i32) {
    const SHUT_RDWR: usize = 2;
    let _ = plain!(SHUTDOWN, socket, SHUT_RDWR);
}

/// A process beside this one.
pub enum Forked {
    /// This is it.
    Child,
    /// This is still the monitor, with a pidfd of it.
    Parent(i32),
}

pub fn fork() -> Result<Forked> {
    const CLONE_PIDFD: usize = 0x1000;
    let mut pidfd = [-1_i32];
    // With a stack of 0 the child goes on with a copy of this one, and of all memory.
    let pid = with_memory!(CLONE, CLONE_PIDFD | SIGCHLD as usize, 0, pidfd.as_mut_ptr())?;
    Ok(if pid == 0 { Forked::Child } else { Forked::Parent(pidfd[0]) })
}

/// Touches files as this user from here on, without any capability unless the user is root. Whether
/// it is so: the calls that set the ids have no error.
pub fn become_for_files(uid: u32, gid: u32) -> bool {
    const VERSION_3: u32 = 0x2008_0522;
    const ASK: usize = u32::MAX as usize;
    let _ = plain!(SETFSGID, gid);
    let _ = plain!(SETFSUID, uid);
    let is_so = plain!(SETFSGID, ASK) == Ok(gid as usize) && plain!(SETFSUID, ASK) == Ok(uid as usize);
    let (header, none) = ([VERSION_3, 0], [0_u32; 6]);
    is_so && (uid == 0 || with_memory!(CAPSET, header.as_ptr(), none.as_ptr()).is_ok())
}

/// Which children a wait is for.
#[derive(Clone, Copy)]
pub enum Children {
    All,
    Pid(u32),
    Pidfd(i32),
}

/// What a wait does about a child. None of them blocks.
#[derive(Clone, Copy)]
pub enum Wait {
    /// Says whether it is dead, and leaves it a zombie.
    Look = 0x0100_0001,
    /// Reaps it, if it is dead.
    Reap = 1,
}

/// A dead child.
pub struct Dead {
    pub pid: u32,
    /// CLD_EXITED 1, CLD_KILLED 2, CLD_DUMPED 3.
    pub code: i32,
    /// Exit code or signal.
    pub status: i32,
    /// `struct rusage`: seconds and microseconds in user mode, the same in the kernel, largest
    /// resident set in KiB, and more.
    pub usage: [u64; 18],
}

/// A dead child, if there is one, whatever signal its death sends (clone3 may ask for none).
pub fn wait(children: Children, wait: Wait) -> Result<Option<Dead>> {
    const WEXITED_WALL: usize = 4 | 0x4000_0000;
    let (kind, id) = match children {
        Children::All => (0, 0),
        Children::Pid(pid) => (1, pid as usize),
        Children::Pidfd(fd) => (3, fd as usize),
    };
    let mut info = [0_i32; 32]; // siginfo_t: 128 bytes; signo, errno, code, padding, pid, uid, status
    let mut usage = [0_u64; 18];
    let options = WEXITED_WALL | wait as usize;
    with_memory!(WAITID, kind, id, info.as_mut_ptr(), options, usage.as_mut_ptr())?;
    let [_, _, code, _, pid, _, status, ..] = info;
    Ok((pid != 0).then_some(Dead { pid: pid.unsigned_abs(), code, status, usage }))
}
