//! `squall-step`: the last step of init before the workload.
//!
//! Until it executes something, init *is* the host's program: an image whose program is a link to
//! `/proc/self/exe` would have the kernel execute that program once more, with a loader of the
//! image's, and leave a way to write to it. So init first becomes this program, which lies in a
//! sealed file without a name, and only then the workload: `/proc/self/exe` leads to nothing of the
//! host's.
//!
//! What confines the worker, an AppArmor profile or an SELinux label, is named to the kernel here,
//! for the next exec: written any earlier, it would confine this program. The kernel takes it only
//! from a descriptor that was opened since the last exec, and nothing but procfs takes it at all:
//! `/proc` is looked at before anything is written, and nothing on the way below it may be a mount
//! or lead elsewhere.
//!
//! Then the worker's filter is installed, as the last thing before its program: it need not allow
//! what this program does.
//!
//! Arguments: the program to execute, the number of the report pipe, that of the file with the
//! filter (0: there is none), the path below `/proc` of the attribute that confines the worker,
//! what is written to it and how many bytes that is (0: nothing is written), then the workload's
//! own arguments. The environment is the workload's. The filter comes as seccomp(2) takes it: four
//! bytes of flags, four of nothing, then instructions of eight bytes.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};
use core::mem::MaybeUninit;

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor %ebp, %ebp", "mov %rsp, %rdi", "and $-16, %rsp", "call {main}", main = sym main, options(att_syntax));
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl {main}", main = sym main);

/// What tells the launch process that an errno follows, and of which call: execve, seccomp, looking
/// at `/proc` (0: it is not procfs), opening the attribute, writing it; see `launch::report`.
const EXECVE_MARK: u8 = 0xfe;
const SECCOMP_MARK: u8 = 0xfd;
const PROC_MARK: u8 = 0xfc;
const ATTRIBUTE_MARK: u8 = 0xfb;
const LABEL_MARK: u8 = 0xfa;

/// Most instructions of a filter: the kernel's BPF_MAXINSNS.
const MAX_INSTRUCTIONS: usize = 4096;

/// The flags, then the instructions.
static mut FILTER: [u64; 1 + MAX_INSTRUCTIONS] = [0; 1 + MAX_INSTRUCTIONS];

/// `struct sock_fprog` of <linux/filter.h>.
#[repr(C)]
struct Program {
    length: u16,
    instructions: *const u64,
}

#[cfg(target_arch = "x86_64")]
mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const EXECVE: usize = 59;
    pub const FCNTL: usize = 72;
    pub const FSTATFS: usize = 138;
    pub const EXIT_GROUP: usize = 231;
    pub const SECCOMP: usize = 317;
    pub const OPENAT: usize = 257;
    pub const STATX: usize = 332;
    /// A flag, and another on each machine, too.
    pub const O_NOFOLLOW: usize = 0o400_000;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const EXECVE: usize = 221;
    pub const FCNTL: usize = 25;
    pub const FSTATFS: usize = 44;
    pub const EXIT_GROUP: usize = 94;
    pub const SECCOMP: usize = 277;
    pub const OPENAT: usize = 56;
    pub const STATX: usize = 291;
    /// A flag, and another on each machine, too.
    pub const O_NOFOLLOW: usize = 0o100_000;
}

/// One system call of up to five arguments.
fn call<const N: usize>(number: usize, arguments: [usize; N]) -> isize {
    let argument = |index: usize| arguments.get(index).copied().unwrap_or_default();
    let (a, b, c, d, e) = (argument(0), argument(1), argument(2), argument(3), argument(4));
    let result: isize;
    // SAFETY: the calls made here take plain numbers, or pointers into this program's stack and
    // arguments, which live until it ends.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _);
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e);
    }
    result
}

/// The stack that the kernel made: the number of arguments, their pointers and a null, the
/// environment's pointers and a null.
extern "C" fn main(stack: *const usize) -> ! {
    const FIRST: usize = 6;
    // SAFETY: `stack` is the initial stack as the ABI has it; nothing is read beyond the count that
    // stands there.
    let (program, report, filter, attribute, label, length, argv, envp) = unsafe {
        let count = *stack;
        if count <= FIRST {
            exit(64)
        }
        let argv = stack.add(1);
        let number = |index: usize| number_in(*argv.add(index) as *const u8);
        (*argv, number(1), number(2), *argv.add(3), *argv.add(4), number(5), argv.add(FIRST), argv.add(count + 1))
    };
    end_with_exec(report);
    if length != 0 {
        if let Err((mark, errno)) = confine_next_exec(attribute, label, length) {
            fail(report, mark, errno)
        }
    }
    if filter != 0 {
        end_with_exec(filter);
        let errno = -install(filter);
        if errno != 0 {
            fail(report, SECCOMP_MARK, errno)
        }
    }
    fail(report, EXECVE_MARK, -call(number::EXECVE, [program, argv as usize, envp as usize]))
}

/// Lets a descriptor end with the next exec.
fn end_with_exec(descriptor: usize) {
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    call(number::FCNTL, [descriptor, F_SETFD, FD_CLOEXEC]);
}

/// Writes to the attribute of this process that confines it from its next exec on. What fails is
/// told by its mark, with the errno.
///
/// openat2(2) would do without the second look, but the filter that every worker of uid 0 has by
/// now denies it (`launch::root_guard`).
fn confine_next_exec(attribute: usize, label: usize, length: usize) -> Result<(), (u8, isize)> {
    // <linux/fcntl.h>, <linux/magic.h>, <linux/proc_fs.h>.
    const AT_FDCWD: usize = -100_isize as usize;
    const O_WRONLY: usize = 0o1;
    const O_NONBLOCK: usize = 0o4_000;
    const O_CLOEXEC: usize = 0o2_000_000;
    const O_PATH: usize = 0o10_000_000;
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    const PROC_ROOT_INO: u64 = 1;
    const EIO: isize = 5;
    const EXDEV: isize = 18;
    let of_proc = |errno| (PROC_MARK, errno);
    let of_attribute = |errno| (ATTRIBUTE_MARK, errno);

    let flags = O_PATH | number::O_NOFOLLOW | O_CLOEXEC;
    let proc = answer(call(number::OPENAT, [AT_FDCWD, c"/proc".as_ptr() as usize, flags])).map_err(of_proc)?;
    let file_system = file_system_of(proc).map_err(of_proc)?;
    let place = Place::of(proc).map_err(of_proc)?;
    if file_system != PROC_SUPER_MAGIC || place.inode != PROC_ROOT_INO {
        return Err(of_proc(0));
    }
    // Whatever a FIFO in its place would have us wait for is not waited for. `self` is a link, so
    // links are followed; one that leads out of this mount of procfs, or a mount over the
    // attribute, is seen by the mount that the file is on.
    let flags = O_WRONLY | O_NONBLOCK | number::O_NOFOLLOW | O_CLOEXEC;
    let file = answer(call(number::OPENAT, [proc, attribute, flags])).map_err(of_attribute)?;
    if Place::of(file).map_err(of_attribute)?.mount != place.mount {
        return Err(of_attribute(EXDEV));
    }
    match answer(call(number::WRITE, [file, label, length])) {
        Ok(written) if written == length => Ok(()),
        other => Err((LABEL_MARK, other.err().unwrap_or(EIO))),
    }
}

/// The type of the file system that an open file is on, by fstatfs(2).
fn file_system_of(file: usize) -> Result<u64, isize> {
    // `struct statfs` has 120 bytes, and begins with it. Nothing here sets memory to zero: that
    // would be a call of memset, which this program does not have.
    let mut found = MaybeUninit::<[u64; 15]>::uninit();
    answer(call(number::FSTATFS, [file, found.as_mut_ptr() as usize]))?;
    // SAFETY: the kernel has filled the whole structure.
    Ok(unsafe { found.assume_init() }[0])
}

/// Where an open file is.
struct Place {
    inode: u64,
    mount: u64,
}

impl Place {
    /// By statx(2); the mount's id is in it since Linux 5.8.
    fn of(file: usize) -> Result<Place, isize> {
        // <linux/stat.h>: `struct statx` has 256 bytes, its mask first, the inode at byte 32 and
        // the id of the mount at byte 144.
        const AT_EMPTY_PATH: usize = 0x1000;
        const STATX_INO: usize = 0x100;
        const STATX_MNT_ID: usize = 0x1000;
        const BOTH: usize = STATX_INO | STATX_MNT_ID;
        const ENOSYS: isize = 38;
        let mut found = MaybeUninit::<[u64; 32]>::uninit();
        let buffer = found.as_mut_ptr() as usize;
        answer(call(number::STATX, [file, c"".as_ptr() as usize, AT_EMPTY_PATH, BOTH, buffer]))?;
        // SAFETY: the kernel has filled the whole structure.
        let found = unsafe { found.assume_init_ref() };
        if found[0] as usize & BOTH != BOTH {
            return Err(ENOSYS);
        }
        Ok(Place { inode: found[4], mount: found[18] })
    }
}

/// What a system call returned, or its errno.
fn answer(returned: isize) -> Result<usize, isize> {
    if returned < 0 { Err(-returned) } else { Ok(returned as usize) }
}

/// Reads the filter to its end and installs it; what seccomp(2) answers.
fn install(file: usize) -> isize {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    const EINVAL: isize = 22;
    let filter = &raw mut FILTER as *mut u64;
    let mut length = 0;
    loop {
        let read = call(number::READ, [file, filter as usize + length, size_of::<[u64; 1 + MAX_INSTRUCTIONS]>() - length]);
        match read {
            ..0 => return read,
            0 => break,
            1.. => length += read as usize,
        }
    }
    if length <= size_of::<u64>() {
        return -EINVAL;
    }
    // SAFETY: one thread; the first word was read, and the instructions begin behind it.
    let (flags, instructions) = unsafe { (*filter, filter.add(1)) };
    let program = Program { length: (length / size_of::<u64>() - 1) as u16, instructions };
    call(number::SECCOMP, [SECCOMP_SET_MODE_FILTER, flags as usize, &raw const program as usize])
}

/// Says why the workload could not be started, if the filter lets it, and ends.
fn fail(report: usize, mark: u8, errno: isize) -> ! {
    let mut message = [mark, 0, 0, 0, 0];
    message[1..].copy_from_slice(&(errno as i32).to_le_bytes());
    call(number::WRITE, [report, message.as_ptr() as usize, message.len()]);
    exit(1)
}

fn exit(code: usize) -> ! {
    loop {
        call(number::EXIT_GROUP, [code]);
    }
}

/// A decimal number, up to the first byte that is no digit.
unsafe fn number_in(mut text: *const u8) -> usize {
    let mut number = 0usize;
    // SAFETY: the text is an argument, which ends with a NUL.
    unsafe {
        while (*text).is_ascii_digit() {
            number = number.wrapping_mul(10).wrapping_add(usize::from(*text - b'0'));
            text = text.add(1);
        }
    }
    number
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(70)
}
