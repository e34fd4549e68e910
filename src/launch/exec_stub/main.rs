//! `squall-step`: the last step of init before the workload.
//!
//! Until it executes something, init *is* the host's program: an image whose program is a link to `/proc/self/exe` would have the kernel
//! execute that program once more, with a loader of the image's, and leave a way to write to it. So init first becomes this program, which
//! lies in a sealed file without a name, and only then the workload: `/proc/self/exe` leads to nothing of the host's.
//!
//! The worker's filter is installed here, as the last thing before its program: it need not allow what this program does.
//!
//! Arguments: the program to execute, the number of the report pipe, that of the file with the filter (0: there is none), then the workload's
//! own arguments. The environment is the workload's. The filter comes as seccomp(2) takes it: four bytes of flags, four of nothing, then
//! instructions of eight bytes.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor %ebp, %ebp", "mov %rsp, %rdi", "and $-16, %rsp", "call {main}", main = sym main, options(att_syntax));
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl {main}", main = sym main);

/// What tells the launch process that an errno follows, of execve or of seccomp; see `launch::report`.
const EXECVE_MARK: u8 = 0xfe;
const SECCOMP_MARK: u8 = 0xfd;

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
    pub const EXIT_GROUP: usize = 231;
    pub const SECCOMP: usize = 317;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const READ: usize = 63;
    pub const WRITE: usize = 64;
    pub const EXECVE: usize = 221;
    pub const FCNTL: usize = 25;
    pub const EXIT_GROUP: usize = 94;
    pub const SECCOMP: usize = 277;
}

/// One system call of up to three arguments.
fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result: isize;
    // SAFETY: the calls made here take plain numbers, or pointers into this program's stack and arguments, which live until it ends.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
            lateout("rcx") _, lateout("r11") _);
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c);
    }
    result
}

/// The stack that the kernel made: the number of arguments, their pointers and a null, the environment's pointers and a null.
extern "C" fn main(stack: *const usize) -> ! {
    const FIRST: usize = 3;
    // SAFETY: `stack` is the initial stack as the ABI has it; nothing is read beyond the count that stands there.
    let (program, report, filter, argv, envp) = unsafe {
        let count = *stack;
        if count <= FIRST {
            exit(64)
        }
        let argv = stack.add(1);
        let number = |index: usize| number_in(*argv.add(index) as *const u8);
        (*argv, number(1), number(2), argv.add(FIRST), argv.add(count + 1))
    };
    end_with_exec(report);
    if filter != 0 {
        end_with_exec(filter);
        let errno = -install(filter);
        if errno != 0 {
            fail(report, SECCOMP_MARK, errno)
        }
    }
    fail(report, EXECVE_MARK, -call(number::EXECVE, program, argv as usize, envp as usize))
}

/// Lets a descriptor end with the next exec.
fn end_with_exec(descriptor: usize) {
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    call(number::FCNTL, descriptor, F_SETFD, FD_CLOEXEC);
}

/// Reads the filter to its end and installs it; what seccomp(2) answers.
fn install(file: usize) -> isize {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    const EINVAL: isize = 22;
    let filter = &raw mut FILTER as *mut u64;
    let mut length = 0;
    loop {
        let read = call(number::READ, file, filter as usize + length, size_of::<[u64; 1 + MAX_INSTRUCTIONS]>() - length);
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
    call(number::SECCOMP, SECCOMP_SET_MODE_FILTER, flags as usize, &raw const program as usize)
}

/// Says why the workload could not be started, if the filter lets it, and ends.
fn fail(report: usize, mark: u8, errno: isize) -> ! {
    let mut message = [mark, 0, 0, 0, 0];
    message[1..].copy_from_slice(&(errno as i32).to_le_bytes());
    call(number::WRITE, report, message.as_ptr() as usize, message.len());
    exit(1)
}

fn exit(code: usize) -> ! {
    loop {
        call(number::EXIT_GROUP, code, 0, 0);
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
