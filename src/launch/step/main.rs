//! `squall-step`: the last step of init before the workload, for workers that could write to the program that launched them.
//!
//! Until it executes something, init *is* the host's program: an image whose program is a link to `/proc/self/exe` would have the kernel
//! execute that program once more, with a loader of the image's, and leave a way to write to it. So init first becomes this program, which
//! lies in a sealed file without a name, and only then the workload: `/proc/self/exe` leads to nothing of the host's.
//!
//! Arguments: the program to execute, the number of the report pipe, then the workload's own arguments. The environment is the workload's.

#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor %ebp, %ebp", "mov %rsp, %rdi", "and $-16, %rsp", "call {main}", main = sym main, options(att_syntax));
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl {main}", main = sym main);

/// What tells the launch process that an errno follows; see `launch::report`.
const ERRNO_MARK: u8 = 0xfe;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const EXECVE: usize = 59;
    pub const FCNTL: usize = 72;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const EXECVE: usize = 221;
    pub const FCNTL: usize = 25;
    pub const EXIT_GROUP: usize = 94;
}

/// One system call of up to three arguments.
fn call(number: usize, a: usize, b: usize, c: usize) -> isize {
    let result: isize;
    // SAFETY: the four calls made here take plain numbers, or pointers into this program's stack and arguments, which live until it ends.
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
    const F_SETFD: usize = 2;
    const FD_CLOEXEC: usize = 1;
    const FIRST: usize = 2;
    // SAFETY: `stack` is the initial stack as the ABI has it; nothing is read beyond the count that stands there.
    let (program, report, argv, envp) = unsafe {
        let count = *stack;
        if count <= FIRST {
            exit(64)
        }
        let argv = stack.add(1);
        (*argv, number_in(*argv.add(1) as *const u8), argv.add(FIRST), argv.add(count + 1))
    };
    call(number::FCNTL, report, F_SETFD, FD_CLOEXEC);
    let errno = -call(number::EXECVE, program, argv as usize, envp as usize);
    let mut message = [ERRNO_MARK, 0, 0, 0, 0];
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
