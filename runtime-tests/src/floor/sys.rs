//! The system calls. Everything unsafe of the floor is here; each call gets plain numbers, or
//! pointers to values that live across it.

use std::ffi::{CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::ptr::{null, null_mut};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    #[link_name = "open"]
    fn c_open(path: *const c_char, flags: c_int, ...) -> c_int;
    #[link_name = "close"]
    fn c_close(fd: c_int) -> c_int;
    #[link_name = "read"]
    fn c_read(fd: c_int, buffer: *mut c_void, length: usize) -> isize;
    #[link_name = "write"]
    fn c_write(fd: c_int, buffer: *const c_void, length: usize) -> isize;
    #[link_name = "mkdir"]
    fn c_mkdir(path: *const c_char, mode: c_uint) -> c_int;
    #[link_name = "rmdir"]
    fn c_rmdir(path: *const c_char) -> c_int;
    #[link_name = "symlink"]
    fn c_symlink(target: *const c_char, path: *const c_char) -> c_int;
    fn mknod(path: *const c_char, mode: c_uint, device: u64) -> c_int;
    #[link_name = "mount"]
    fn c_mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_char,
    ) -> c_int;
    fn umount2(path: *const c_char, flags: c_int) -> c_int;
    fn chdir(path: *const c_char) -> c_int;
    fn fchdir(fd: c_int) -> c_int;
    #[link_name = "unshare"]
    fn c_unshare(flags: c_int) -> c_int;
    fn sethostname(name: *const c_char, length: usize) -> c_int;
    fn setns(fd: c_int, kind: c_int) -> c_int;
    fn setsid() -> c_int;
    fn umask(mask: c_uint) -> c_uint;
    fn prctl(option: c_int, ...) -> c_int;
    fn setgroups(count: usize, groups: *const c_uint) -> c_int;
    fn setresgid(real: c_uint, effective: c_uint, saved: c_uint) -> c_int;
    fn setresuid(real: c_uint, effective: c_uint, saved: c_uint) -> c_int;
    fn execve(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn pipe2(fds: *mut c_int, flags: c_int) -> c_int;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut [i64; 2]) -> c_int;
    fn _exit(code: c_int) -> !;
}

// These numbers are the same on every machine since 5.2 (asm-generic/unistd.h).
const OPEN_TREE: c_long = 428;
const MOVE_MOUNT: c_long = 429;
const FSOPEN: c_long = 430;
const FSCONFIG: c_long = 431;
const FSMOUNT: c_long = 432;
const CLONE3: c_long = 435;
const MOUNT_SETATTR: c_long = 442;
#[cfg(target_arch = "x86_64")]
mod older {
    pub const PIVOT_ROOT: i64 = 155;
    pub const KEYCTL: i64 = 250;
    pub const CAPSET: i64 = 126;
    pub const SECCOMP: i64 = 317;
}
#[cfg(not(target_arch = "x86_64"))]
mod older {
    pub const PIVOT_ROOT: i64 = 41;
    pub const KEYCTL: i64 = 219;
    pub const CAPSET: i64 = 91;
    pub const SECCOMP: i64 = 277;
}

pub const O_WRONLY: c_int = 1;
pub const O_PATH: c_int = 0o10000000;
const O_CLOEXEC: c_int = 0o2000000;
const AT_FDCWD: c_int = -100;
const AT_EMPTY_PATH: c_uint = 0x1000;
const AT_RECURSIVE: c_uint = 0x8000;
const MS_SLAVE_REC: c_ulong = (1 << 19) | (1 << 14);
const MNT_DETACH: c_int = 2;

/// A path or a name.
pub struct Text(CString);

impl Text {
    pub fn of(text: &str) -> Text {
        Text(CString::new(text).unwrap_or_default())
    }

    /// An empty one, or `-`, stands for none.
    fn optional(&self) -> *const c_char {
        if self.0.is_empty() || self.0.as_c_str() == c"-" { null() } else { self.0.as_ptr() }
    }
}

pub fn monotonic_ns() -> u64 {
    let mut time = [0; 2];
    // SAFETY: see the top of the file.
    unsafe { clock_gettime(1, &raw mut time) };
    time[0] as u64 * 1_000_000_000 + time[1] as u64
}

pub fn exit_now(code: i32) -> ! {
    // SAFETY: see the top of the file.
    unsafe { _exit(code) }
}

pub fn open(path: &Text, flags: c_int) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { c_open(path.0.as_ptr(), flags | O_CLOEXEC) }
}

pub fn close(fd: i32) {
    // SAFETY: the steps close what they opened, once.
    unsafe { c_close(fd) };
}

pub fn write(fd: i32, bytes: &[u8]) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { c_write(fd, bytes.as_ptr().cast(), bytes.len()) as i32 }
}

/// One byte; an early end is an error.
pub fn read_byte(fd: i32) -> i32 {
    let mut byte = 0u8;
    // SAFETY: see the top of the file.
    unsafe { c_read(fd, (&raw mut byte).cast(), 1) as i32 - 1 }
}

pub fn read_to_end(fd: i32) -> String {
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 1024];
    loop {
        // SAFETY: see the top of the file.
        let length = unsafe { c_read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
        match usize::try_from(length) {
            Ok(length) if length > 0 => bytes.extend_from_slice(&buffer[..length]),
            _ => return String::from_utf8_lossy(&bytes).into_owned(),
        }
    }
}

pub fn pipe() -> (i32, i32) {
    let mut fds = [0; 2];
    // SAFETY: see the top of the file.
    unsafe { pipe2(fds.as_mut_ptr(), O_CLOEXEC) };
    (fds[0], fds[1])
}

pub fn mkdir(path: &Text, mode: u32) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { c_mkdir(path.0.as_ptr(), mode) }
}

pub fn rmdir(path: &Text) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { c_rmdir(path.0.as_ptr()) }
}

pub fn symlink(target: &Text, path: &Text) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { c_symlink(target.0.as_ptr(), path.0.as_ptr()) }
}

/// A character device for everybody.
pub fn make_device(path: &Text, major: u64, minor: u64) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { mknod(path.0.as_ptr(), 0o020666, (major << 8) | minor) }
}

pub fn open_tree(path: &Text, recursive: bool) -> i32 {
    let flags = 1 | O_CLOEXEC as c_uint | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: see the top of the file.
    unsafe { syscall(OPEN_TREE, AT_FDCWD, path.0.as_ptr(), flags) as i32 }
}

pub fn mount_setattr(mount: i32, set: u64, propagation: u64, recursive: bool) -> i32 {
    let attributes = [set, 0, propagation, 0];
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: see the top of the file.
    unsafe { syscall(MOUNT_SETATTR, mount, c"".as_ptr(), flags, attributes.as_ptr(), size_of_val(&attributes)) as i32 }
}

/// A detached mount of a new file system; options as `key=value`, or `key` for a flag, with blanks
/// between them.
pub fn new_mount(kind: &Text, attributes: u64, options: &str) -> i32 {
    const SET_FLAG: c_uint = 0;
    const SET_STRING: c_uint = 1;
    const CREATE: c_uint = 6;
    // SAFETY: see the top of the file.
    unsafe {
        let context = syscall(FSOPEN, kind.0.as_ptr(), 1) as i32;
        for option in options.split(' ').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
            let (key, value) = (Text::of(key), value.map(Text::of));
            let command = if value.is_some() { SET_STRING } else { SET_FLAG };
            let value = value.as_ref().map_or(null(), |value| value.0.as_ptr());
            if syscall(FSCONFIG, context, command, key.0.as_ptr(), value, 0) < 0 {
                return -1;
            }
        }
        if syscall(FSCONFIG, context, CREATE, null::<c_char>(), null::<c_char>(), 0) < 0 {
            return -1;
        }
        let mount = syscall(FSMOUNT, context, 1, attributes) as i32;
        c_close(context);
        mount
    }
}

pub fn move_mount(mount: i32, target: &Text) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { syscall(MOVE_MOUNT, mount, c"".as_ptr(), AT_FDCWD, target.0.as_ptr(), 4) as i32 }
}

pub fn mount(source: &Text, target: &Text, kind: &Text, flags: u64, data: &Text) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { c_mount(source.optional(), target.0.as_ptr(), kind.optional(), flags, data.optional()) }
}

/// Leaves the mount tree for a detached mount.
pub fn pivot_to_mount(mount: i32) -> i32 {
    // SAFETY: see the top of the file.
    unsafe {
        let old = c_open(c"/".as_ptr(), O_PATH | O_CLOEXEC);
        if syscall(MOVE_MOUNT, mount, c"".as_ptr(), AT_FDCWD, c"/".as_ptr(), 4) < 0 || fchdir(mount) < 0 {
            return -1;
        }
        leave(old, false)
    }
}

/// Leaves the mount tree for the mount at this path.
pub fn pivot(path: &Text) -> i32 {
    // SAFETY: see the top of the file.
    unsafe {
        let old = c_open(c"/".as_ptr(), O_PATH | O_CLOEXEC);
        if chdir(path.0.as_ptr()) < 0 {
            return -1;
        }
        leave(old, true)
    }
}

/// # Safety
/// `old` is open on the root that is left.
unsafe fn leave(old: i32, slave: bool) -> i32 {
    // SAFETY: see the top of the file.
    unsafe {
        if syscall(older::PIVOT_ROOT, c".".as_ptr(), c".".as_ptr()) < 0 || fchdir(old) < 0 {
            return -1;
        }
        if slave && c_mount(null(), c".".as_ptr(), null(), MS_SLAVE_REC, null()) < 0 {
            return -1;
        }
        if umount2(c".".as_ptr(), MNT_DETACH) < 0 {
            return -1;
        }
        c_close(old);
        chdir(c"/".as_ptr())
    }
}

/// The child of a fork with these namespaces; 0 in the child itself.
pub fn clone3(namespaces: u64, into_cgroup: i32) -> i32 {
    const PIDFD: u64 = 0x1000;
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    const SIGCHLD: u64 = 17;
    let mut pidfd = -1i32;
    // struct clone_args, 88 bytes (linux/sched.h).
    let mut args = [0u64; 11];
    args[0] = namespaces | PIDFD;
    args[1] = &raw mut pidfd as u64;
    args[4] = SIGCHLD;
    if into_cgroup >= 0 {
        args[0] |= INTO_CGROUP;
        args[10] = into_cgroup as u64;
    }
    // SAFETY: without a stack of its own the child goes on with a copy of this one; there is one
    // thread.
    let child = unsafe { syscall(CLONE3, args.as_mut_ptr(), size_of_val(&args)) as i32 };
    if child < 0 {
        crate::steps::fail(&format!("clone3: {}", std::io::Error::last_os_error()));
    }
    child
}

/// Its code; 128 and the signal's number for one that a signal ended.
pub fn wait(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: see the top of the file.
    unsafe { waitpid(child, &raw mut status, 0) };
    if status & 0x7f == 0 { (status >> 8) & 0xff } else { 128 + (status & 0x7f) }
}

/// A pidfd.
pub fn open_process(pid: i32) -> i32 {
    const PIDFD_OPEN: c_long = 434;
    // SAFETY: plain numbers.
    unsafe { syscall(PIDFD_OPEN, pid, 0) as i32 }
}

/// Enters namespaces of a process, by its pidfd.
pub fn set_namespaces(process: i32, flags: u64) -> i32 {
    // SAFETY: plain numbers.
    unsafe { setns(process, flags as c_int) }
}

pub fn unshare(flags: u64) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { c_unshare(flags as c_int) }
}

pub fn set_host_name(name: &str) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { sethostname(name.as_ptr().cast(), name.len()) }
}

pub fn bring_loopback_up() -> i32 {
    const SIOCSIFFLAGS: c_ulong = 0x8914;
    const UP_RUNNING: u8 = 0x41;
    // struct ifreq: the name, then the flags.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16] = UP_RUNNING;
    // SAFETY: see the top of the file.
    unsafe {
        let socket = socket(2, 2 | O_CLOEXEC, 0);
        let result = ioctl(socket, SIOCSIFFLAGS, request.as_mut_ptr());
        c_close(socket);
        result
    }
}

pub fn join_new_session_keyring() -> i32 {
    // SAFETY: see the top of the file.
    unsafe { syscall(older::KEYCTL, 1, null::<c_char>()) as i32 }
}

pub fn new_session() -> i32 {
    // SAFETY: see the top of the file.
    unsafe { setsid() }
}

pub fn set_umask(mask: u32) -> i32 {
    // SAFETY: see the top of the file.
    unsafe { umask(mask) as i32 }
}

/// Drops one capability after the other, until the kernel knows no more.
pub fn drop_bounding_set() -> i32 {
    const CAPBSET_DROP: c_int = 24;
    // SAFETY: see the top of the file.
    (0..64).take_while(|capability| unsafe { prctl(CAPBSET_DROP, *capability, 0, 0, 0) } == 0).count() as i32
}

pub fn set_no_new_privileges() -> i32 {
    // SAFETY: see the top of the file.
    unsafe { prctl(38, 1, 0, 0, 0) }
}

/// The user, its group of the same number, and that as the one further group.
pub fn become_user(id: u32) -> i32 {
    // SAFETY: see the top of the file.
    unsafe {
        if setgroups(1, &raw const id) < 0 || setresgid(id, id, id) < 0 {
            return -1;
        }
        setresuid(id, id, id)
    }
}

/// Empties the three sets.
pub fn drop_capabilities() -> i32 {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: see the top of the file.
    unsafe { syscall(older::CAPSET, header.as_ptr(), none.as_ptr()) as i32 }
}

/// Becomes the program; its words are separated by blanks.
pub fn execute(line: &str) -> i32 {
    let words: Vec<Text> = line.split(' ').map(Text::of).collect();
    let argv: Vec<*const c_char> = words.iter().map(|word| word.0.as_ptr()).chain([null()]).collect();
    let envp = [c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".as_ptr(), null_mut()];
    // SAFETY: both arrays end with a null pointer.
    unsafe { execve(argv[0], argv.as_ptr(), envp.as_ptr()) }
}

/// A filter for system calls: instructions of eight bytes.
pub fn install_filter(instructions: &[u64]) -> i32 {
    const SET_MODE_FILTER: c_long = 1;
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u64,
    }
    let program = Program { length: instructions.len() as u16, instructions: instructions.as_ptr() };
    // SAFETY: see the top of the file.
    unsafe { syscall(older::SECCOMP, SET_MODE_FILTER, 0 as c_long, &raw const program) as i32 }
}
