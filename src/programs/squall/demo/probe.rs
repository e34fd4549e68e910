//! The probe: a static program that goes into an image and tells what it finds there.
//!
//! It is a program of its own, compiled by the build script without any crate, and embedded. `demo`
//! shows what it says to a person, `runtime-tests` checks it. Each subcommand does one thing and
//! reports on standard output, as one JSON object where there is much to say.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::raw::{c_char, c_int, c_long, c_uint};
use std::process::exit;
use std::time::{Duration, Instant};

/// What the C library offers and the standard library does not.
mod c {
    use super::*;
    unsafe extern "C" {
        pub fn fork() -> c_int;
        pub fn _exit(code: c_int) -> !;
        pub fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
        pub fn kill(pid: c_int, signal: c_int) -> c_int;
        pub fn signal(signal: c_int, handler: usize) -> usize;
        pub fn sigprocmask(how: c_int, set: *const u64, old: *mut u64) -> c_int;
        pub fn setsid() -> c_int;
        pub fn getsid(pid: c_int) -> c_int;
        pub fn getpgid(pid: c_int) -> c_int;
        pub fn getpriority(which: c_int, who: c_uint) -> c_int;
        pub fn mknod(path: *const c_char, mode: c_uint, device: u64) -> c_int;
        pub fn mount(source: *const c_char, target: *const c_char, kind: *const c_char, flags: u64, data: *const c_char) -> c_int;
        pub fn chroot(path: *const c_char) -> c_int;
        pub fn setuid(uid: c_uint) -> c_int;
        pub fn unshare(flags: c_int) -> c_int;
        pub fn mmap(start: *mut u8, length: usize, protection: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut u8;
        pub fn syscall(number: c_long, ...) -> c_long;
        pub fn personality(persona: u64) -> c_int;
        pub fn prctl(option: c_int, ...) -> c_int;
        pub fn ioctl(fd: c_int, request: c_long, ...) -> c_int;
        pub fn sched_getscheduler(pid: c_int) -> c_int;
        pub fn sigqueue(pid: c_int, signal: c_int, value: usize) -> c_int;
    }
    #[cfg(target_arch = "x86_64")]
    pub const SYS_RT_SIGPROCMASK: c_long = 14;
    #[cfg(not(target_arch = "x86_64"))]
    pub const SYS_RT_SIGPROCMASK: c_long = 135;
    pub const PR_GET_PDEATHSIG: c_int = 2;
    pub const PR_GET_SECUREBITS: c_int = 27;
    #[cfg(target_arch = "x86_64")]
    pub const SYS_IOPRIO_GET: c_long = 252;
    #[cfg(not(target_arch = "x86_64"))]
    pub const SYS_IOPRIO_GET: c_long = 31;
    #[cfg(target_arch = "x86_64")]
    pub const SYS_EXIT: c_long = 60;
    #[cfg(not(target_arch = "x86_64"))]
    pub const SYS_EXIT: c_long = 93;
    pub const SIGTERM: c_int = 15;
    pub const SIGKILL: c_int = 9;
    pub const SIG_IGN: usize = 1;
    pub const PROT_READ: c_int = 1;
    pub const MAP_PRIVATE: c_int = 2;
}

fn main() {
    let mut args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.get(1).is_some_and(|word| word == "held") {
        // Until standard input ends: whoever started it wants to look first.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        args.remove(1);
    }
    let arg = |index: usize| args.get(index).map(String::as_str).unwrap_or_default();
    let number = |index: usize| arg(index).parse::<u64>().unwrap_or_else(|_| usage());
    match arg(1) {
        "report" | "" => println!("{}", report()),
        "exit" => exit(number(2) as i32),
        "signal" => kill_self(number(2) as c_int),
        "burn" => println!("{}", burn(Duration::from_millis(number(2)))),
        "allocate" => allocate(number(2) as usize),
        "keep" => keep(number(2) as usize),
        "fork" => println!("{}", fork_until_refused(number(2))),
        "hold" => hold(number(2) as usize, arg(3), arg(4)),
        "sleep" => std::thread::sleep(Duration::from_millis(number(2))),
        "exit-after" => exit_after(Duration::from_millis(number(2)), number(3) as i32),
        "ignore-term" => ignore_term(Duration::from_millis(number(2))),
        "block" => block(Duration::from_millis(number(2))),
        "exit-on-signal" => exit_on_signal(Duration::from_millis(number(2))),
        "child" => exit(child(&args[2..])),
        "leave-main-thread" => leave_main_thread(Duration::from_millis(number(2))),
        "shell" => shell(&args[2..]),
        "family" => family(Duration::from_millis(number(2))),
        "copy" => exit(copy()),
        "stalk" => stalk(),
        "window" => window(),
        "say" => say(&args[2..]),
        "crash" => crash(),
        "bomb" => bomb(),
        "read" => read_whole(arg(2), Duration::from_millis(number(3))),
        "fill-up" => fill_up(arg(2)),
        "exhaust" => println!("{}", exhaust(arg(2))),
        "litter" => println!("{}", litter(arg(2), number(3))),
        "try" => println!("{}", attempt(arg(2), arg(3), arg(4))),
        _ => usage(),
    }
}

/// Looks into every other process that comes, as deep as it is let, until it gets SIGTERM; then
/// tells what it has seen.
fn stalk() {
    static OVER: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    extern "C" fn end(_: c_int) {
        OVER.store(true, std::sync::atomic::Ordering::Relaxed);
    }
    // SAFETY: the handler stores one flag.
    unsafe { c::signal(c::SIGTERM, end as *const () as usize) };
    let own = std::process::id().to_string();
    let mut seen = std::collections::BTreeSet::new();
    let mut pids = std::collections::BTreeSet::new();
    while !OVER.load(std::sync::atomic::Ordering::Relaxed) {
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_string_lossy().into_owned();
            if pid == own || !pid.bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            let link = |name: &str| fs::read_link(format!("/proc/{pid}/{name}")).ok().map(|link| link.to_string_lossy().into_owned());
            let links = ["exe", "cwd", "root"].into_iter().filter_map(|name| Some(format!("{name} {}", link(name)?)));
            let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let files = files.filter_map(|file| {
                let name = format!("fd/{}", file.file_name().to_string_lossy());
                link(&name).map(|link| format!("{name} {link}"))
            });
            seen.extend(links.chain(files));
            if fs::File::open(format!("/proc/{pid}/mem")).is_ok() && link("exe").is_some_and(|exe| exe != "/bin/probe") {
                seen.insert("mem of another program".to_owned());
            }
            pids.insert(pid);
        }
    }
    println!("{}", object([("processes".to_owned(), pids.len().to_string()), ("seen".to_owned(), list(seen.iter().map(|it| quoted(it))))]));
}

/// Tells the size of its terminal, and once more when that changes.
fn window() {
    // <asm-generic/ioctls.h>.
    const TIOCGWINSZ: c_long = 0x5413;
    let mut told = [0u16; 4];
    for _ in 0..2 {
        let mut size = told;
        while size == told {
            // SAFETY: `struct winsize` is four numbers of 16 bits.
            if unsafe { c::ioctl(0, TIOCGWINSZ, size.as_mut_ptr()) } != 0 {
                println!("no terminal");
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        println!("size {} {}", size[0], size[1]);
        told = size;
    }
}

/// Ends the first thread, and with it nothing else.
fn leave_main_thread(span: Duration) -> ! {
    std::thread::spawn(move || {
        std::thread::sleep(span);
        exit(0)
    });
    // SAFETY: the thread's own stack goes with the process; nothing here is destroyed or used
    // again.
    unsafe { c::syscall(c::SYS_EXIT, 0) };
    unreachable!("exit does not return")
}

fn usage() -> ! {
    eprintln!("probe: no such subcommand, or a wrong argument");
    exit(64)
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            character if (character as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", character as u32)),
            character => out.push(character),
        }
    }
    out.push('"');
    out
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

fn object(items: impl IntoIterator<Item = (String, String)>) -> String {
    let items: Vec<_> = items.into_iter().map(|(key, value)| format!("{}:{value}", quoted(&key))).collect();
    format!("{{{}}}", items.join(","))
}

fn text_of(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned()).unwrap_or_else(|error| format!("!{error}"))
}

fn links_in(directory: &str) -> String {
    // The list is taken first: reading the directory holds a descriptor of its own, which is gone
    // when the links are read.
    let names: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    object(names.into_iter().filter_map(|path| {
        let link = fs::read_link(&path).ok()?;
        Some((path.file_name()?.to_string_lossy().into_owned(), quoted(&link.to_string_lossy())))
    }))
}

/// Everything that the kernel tells a process about itself.
fn report() -> String {
    let status = text_of("/proc/self/status");
    let status = status.lines().filter_map(|line| line.split_once(":\t"));
    let status = object(status.map(|(key, value)| (key.to_owned(), quoted(value.trim()))));
    // SAFETY: these calls take and return plain numbers.
    let (session, group, nice, persona) =
        unsafe { (c::getsid(0), c::getpgid(0), c::getpriority(0, 0), c::personality(0xffff_ffff)) };
    let mut death_signal: c_int = -1;
    // SAFETY: the one pointer is to a number that lives across its call; the rest are plain
    // numbers.
    let (scheduler, io_priority, securebits) = unsafe {
        c::prctl(c::PR_GET_PDEATHSIG, &raw mut death_signal);
        // 1 is IOPRIO_WHO_PROCESS (linux/ioprio.h), 0 the process itself.
        (c::sched_getscheduler(0), c::syscall(c::SYS_IOPRIO_GET, 1, 0), c::prctl(c::PR_GET_SECUREBITS))
    };
    let field = |key: &str, value: String| (key.to_owned(), value);
    let file = |key: &str, path: &str| (key.to_owned(), quoted(&text_of(path)));
    object([
        field("pid", std::process::id().to_string()),
        field("session", session.to_string()),
        field("process_group", group.to_string()),
        field("nice", nice.to_string()),
        field("personality", persona.to_string()),
        field("scheduler", scheduler.to_string()),
        field("io_priority", io_priority.to_string()),
        field("parent_death_signal", death_signal.to_string()),
        field("securebits", securebits.to_string()),
        field("cwd", quoted(&std::env::current_dir().unwrap_or_default().to_string_lossy())),
        field("args", list(std::env::args().map(|arg| quoted(&arg)))),
        field("env", list(text_of("/proc/self/environ").split_terminator('\0').map(quoted))),
        field("fds", links_in("/proc/self/fd")),
        field("namespaces", links_in("/proc/self/ns")),
        field("status", status),
        field("mountinfo", list(text_of("/proc/self/mountinfo").lines().map(quoted))),
        field("limits", list(text_of("/proc/self/limits").lines().map(quoted))),
        field("cgroup", list(text_of("/proc/self/cgroup").lines().map(quoted))),
        file("hostname", "/proc/sys/kernel/hostname"),
        file("oom_score_adj", "/proc/self/oom_score_adj"),
        file("timerslack_ns", "/proc/self/timerslack_ns"),
        file("net_dev", "/proc/net/dev"),
        field("processes", processes()),
        field("dev", entries("/dev")),
        field("root", entries("/")),
    ])
}

fn entries(directory: &str) -> String {
    let mut names: Vec<_> =
        fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    list(names.iter().map(|name| quoted(name)))
}

fn processes() -> String {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    list(pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).map(|pid| pid.to_string()))
}

fn kill_self(signal: c_int) -> ! {
    // SAFETY: plain numbers. Pid 1 of a namespace only takes signals from outside, or for which it
    // has no say.
    unsafe { c::kill(std::process::id() as c_int, signal) };
    exit(65)
}

/// Uses the CPU for a span of wall time, and tells how much CPU time that was.
fn burn(span: Duration) -> String {
    let began = Instant::now();
    let mut value = 1u64;
    while began.elapsed() < span {
        for _ in 0..10_000 {
            value = std::hint::black_box(value.wrapping_mul(6364136223846793005).wrapping_add(1));
        }
    }
    let ticks: u64 = {
        let stat = text_of("/proc/self/stat");
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        // utime and stime are fields 14 and 15; the state is field 3.
        [14, 15].iter().filter_map(|field| fields.get(field - 3)?.parse::<u64>().ok()).sum()
    };
    object([
        ("wall_ms".to_owned(), began.elapsed().as_millis().to_string()),
        ("cpu_ms".to_owned(), (ticks * 10).to_string()),
    ])
}

/// Takes memory and touches every page of it.
fn allocate(bytes: usize) {
    let mut memory = vec![0u8; bytes];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    std::hint::black_box(&memory);
    println!("allocated {bytes}");
}

/// Takes memory, copies a file as far as the disk, and keeps all of it until it is ended.
fn hold(bytes: usize, from: &str, to: &str) -> ! {
    let memory = vec![1u8; bytes];
    let copied = fs::read(from).and_then(|text| {
        let mut copy = fs::File::create(to)?;
        copy.write_all(&text).and_then(|()| copy.sync_all())
    });
    println!("{copied:?}");
    loop {
        std::thread::sleep(Duration::from_secs(60));
        std::hint::black_box(&memory);
    }
}

/// Takes memory, touches every page of it, and keeps it for ever.
fn keep(bytes: usize) -> ! {
    let mut memory = vec![0u8; bytes];
    loop {
        for page in memory.chunks_mut(4096) {
            page[0] = page[0].wrapping_add(1);
        }
        std::hint::black_box(&memory);
        std::thread::sleep(Duration::from_secs(60));
    }
}

/// Forks until it is refused, or as often as asked, and ends every child again.
fn fork_until_refused(most: u64) -> String {
    let mut children = Vec::new();
    let mut refused = String::from("null");
    while (children.len() as u64) < most {
        // SAFETY: this process has one thread; the child only sleeps.
        match unsafe { c::fork() } {
            0 => loop {
                std::thread::sleep(Duration::from_secs(60));
            },
            -1 => {
                refused = quoted(&io::Error::last_os_error().to_string());
                break;
            }
            pid => children.push(pid),
        }
    }
    for pid in &children {
        // SAFETY: a child of ours, not yet waited for.
        unsafe { c::kill(*pid, c::SIGKILL) };
        unsafe { c::waitpid(*pid, std::ptr::null_mut(), 0) };
    }
    object([("forked".to_owned(), children.len().to_string()), ("refused".to_owned(), refused)])
}

/// Says that it runs, and ends later.
fn exit_after(span: Duration, code: i32) -> ! {
    println!("ready");
    std::thread::sleep(span);
    exit(code)
}

fn ignore_term(span: Duration) {
    // SAFETY: SIG_IGN is a valid disposition.
    unsafe { c::signal(c::SIGTERM, c::SIG_IGN) };
    println!("ready");
    std::thread::sleep(span);
}

/// Blocks TERM, as a program does that waits for it.
fn block(span: Duration) {
    // Longer than the C library's sigset_t has to be; bit 0 is signal 1, and SIG_BLOCK is 0.
    let mut set = [0u64; 16];
    set[0] = 1 << (c::SIGTERM - 1);
    // SAFETY: the set lives across the call.
    unsafe { c::sigprocmask(0, set.as_ptr(), std::ptr::null_mut()) };
    println!("ready");
    std::thread::sleep(span);
}

/// Ends with the number of the signal as its code; USR1, USR2 and WINCH are taken and change
/// nothing.
fn exit_on_signal(span: Duration) {
    extern "C" fn end(signal: c_int) {
        // SAFETY: _exit is async-signal-safe.
        unsafe { c::_exit(signal) }
    }
    extern "C" fn go_on(_: c_int) {}
    // TERM comes last: whoever sees that it is caught knows that all are.
    let handlers: [(c_int, extern "C" fn(c_int)); 6] =
        [(10, go_on), (12, go_on), (28, go_on), (1, end), (2, end), (3, end)];
    // Signals of timers, of limits, of the machine, and the first and the last of the realtime
    // ones.
    let rare = [6, 14, 16, 24, 26, 27, 29, 30, 34, 64].map(|signal| (signal, end as extern "C" fn(c_int)));
    for (signal, handler) in handlers.into_iter().chain(rare).chain([(c::SIGTERM, end as extern "C" fn(c_int))]) {
        // SAFETY: both handlers only do what a handler may.
        unsafe { c::signal(signal, handler as usize) };
    }
    std::thread::sleep(span);
}

/// As an interactive shell without job control: heeds no INT and no QUIT, has its child in its own
/// process group, and says how that ended.
fn shell(args: &[String]) {
    extern "C" fn go_on(_: c_int) {}
    for signal in [3, 2] {
        // SAFETY: the handler does nothing.
        unsafe { c::signal(signal, go_on as extern "C" fn(c_int) as usize) };
    }
    println!("ready");
    println!("child ended: {}", child(args));
}

/// Does the rest in a child, and returns its code or the signal that ended it.
fn child(args: &[String]) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    let status = std::process::Command::new("/proc/self/exe").args(args).status();
    status.map_or(255, |status| status.code().or(status.signal()).unwrap_or(255))
}

/// A child in a session of its own, and a parent that waits: both have to go when the container is
/// ended.
fn family(span: Duration) {
    // SAFETY: this process has one thread.
    if unsafe { c::fork() } == 0 {
        // SAFETY: as above.
        unsafe { c::signal(c::SIGTERM, c::SIG_IGN) };
        unsafe { c::setsid() };
        std::thread::sleep(span);
        unsafe { c::_exit(0) }
    }
    println!("ready");
    std::thread::sleep(span);
}

/// Standard input to standard output, byte by byte as it is.
fn copy() -> i32 {
    let mut input = io::stdin().lock();
    let mut output = io::stdout().lock();
    let mut buffer = vec![0; 65536];
    loop {
        match input.read(&mut buffer) {
            Ok(0) => return 0,
            Ok(length) if output.write_all(&buffer[..length]).is_ok() => {}
            _ => return 1,
        }
    }
}

fn say(words: &[String]) {
    println!("{}", words.join(" "));
    eprintln!("{}", words.join(" "));
}

/// Tries something that may be forbidden, and says how it went.
fn attempt(what: &str, path: &str, value: &str) -> String {
    let c_path = CString::new(path).unwrap_or_default();
    let done = |code: c_int| if code == -1 { Err(io::Error::last_os_error()) } else { Ok(String::new()) };
    // SAFETY: every pointer is a NUL-terminated string that lives across its call, or null where
    // the call allows it.
    let result = unsafe {
        match what {
            "read" => fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            "map" => map(path),
            "write" => fs::File::options().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes())).map(|()| String::new()),
            "create" => fs::write(path, value).map(|()| String::new()),
            "mkdir" => fs::create_dir(path).map(|()| String::new()),
            "link" => fs::read_link(path).map(|target| target.to_string_lossy().into_owned()),
            "list" => fs::read_dir(path).map(|_| entries(path)),
            "stat" => fs::symlink_metadata(path).map(|metadata| {
                use std::os::unix::fs::MetadataExt;
                format!("{:o} {} {}", metadata.mode(), metadata.uid(), metadata.gid())
            }),
            "fill" => fill(path, value),
            "run" => std::process::Command::new(path).arg(value).output().map(|out| String::from_utf8_lossy(&out.stdout).into_owned()),
            "mknod" => done(c::mknod(c_path.as_ptr(), 0o060_666, 0xfe00)),
            "mount" => done(c::mount(c"none".as_ptr(), c_path.as_ptr(), c"tmpfs".as_ptr(), 0, std::ptr::null())),
            "chroot" => done(c::chroot(c_path.as_ptr())),
            "setuid" => done(c::setuid(0)),
            "unshare" => done(c::unshare(value.parse().unwrap_or(0))),
            "syscall" => {
                // Arguments, up to six, and the number: `syscall 17,3,0 41`.
                let mut arguments = [0u64; 6];
                for (argument, text) in arguments.iter_mut().zip(path.split(',')) {
                    *argument = text.parse().unwrap_or(0);
                }
                let [a, b, c, d, e, f] = arguments;
                done(c::syscall(value.parse().unwrap_or(-1), a, b, c, d, e, f) as c_int)
            }
            "foreign-syscall" => foreign_syscall(value.parse().unwrap_or(0)),
            "connect" => std::os::unix::net::UnixStream::connect(path).map(|_| String::new()),
            "kill" => done(c::kill(path.parse().unwrap_or(0), value.parse().unwrap_or(0))),
            _ => usage(),
        }
    };
    match result {
        Ok(text) => object([("ok".to_owned(), quoted(&text))]),
        Err(error) => {
            object([("errno".to_owned(), error.raw_os_error().unwrap_or(-1).to_string()), ("error".to_owned(), quoted(&error.to_string()))])
        }
    }
}

/// Adds up a file's bytes through a mapping: what cannot be read is a signal here, not an error.
fn map(path: &str) -> io::Result<String> {
    use std::os::fd::AsRawFd;
    let file = fs::File::open(path)?;
    let length = file.metadata()?.len() as usize;
    // SAFETY: a new mapping, which nothing else in this process knows of.
    let start = unsafe { c::mmap(std::ptr::null_mut(), length, c::PROT_READ, c::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if start as isize == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is that long and stays until the end.
    let bytes = unsafe { std::slice::from_raw_parts(start, length) };
    Ok(bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>().to_string())
}

/// A call by the table of 32-bit programs, which every 64-bit program can make.
fn foreign_syscall(number: i32) -> io::Result<String> {
    #[cfg(target_arch = "x86_64")]
    {
        let result: i32;
        // SAFETY: the calls that are tried take no argument; registers that the kernel changes on
        // this way are declared.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("eax") number => result, lateout("r8") _, lateout("r9") _, lateout("r10") _,
                lateout("r11") _);
        }
        if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result.to_string()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let _ = number;
        Err(io::Error::from_raw_os_error(38)) // ENOSYS
    }
}

/// Writes to where nothing is mapped.
fn crash() {
    // SAFETY: none. The kernel is to end this process for it.
    unsafe { std::ptr::null_mut::<u8>().write_volatile(1) };
}

/// Forks for ever, and so does every child.
fn bomb() -> ! {
    loop {
        // SAFETY: this process has one thread.
        unsafe { c::fork() };
    }
}

/// Makes empty files until it is refused, or as many as asked.
fn litter(directory: &str, most: u64) -> String {
    let mut made = 0;
    let refused = loop {
        if made == most {
            break "null".to_owned();
        }
        match fs::File::create(format!("{directory}/{made}")) {
            Ok(_) => made += 1,
            Err(error) => break error.raw_os_error().unwrap_or(-1).to_string(),
        }
    };
    object([("made".to_owned(), made.to_string()), ("errno".to_owned(), refused)])
}

/// Takes of something that is counted until it is refused.
fn exhaust(what: &str) -> String {
    let mut kept = Vec::new();
    let mut take = || match what {
        "terminals" => fs::File::options().read(true).write(true).open("/dev/ptmx").map(|file| kept.push(file)),
        "signals" => queue_signal(),
        _ => usage(),
    };
    let mut taken = 0;
    let refused = loop {
        match take() {
            Ok(()) => taken += 1,
            Err(error) => break error.raw_os_error().unwrap_or(-1).to_string(),
        }
    };
    object([("taken".to_owned(), taken.to_string()), ("errno".to_owned(), refused)])
}

/// Queues a real-time signal, blocked, for this process.
fn queue_signal() -> io::Result<()> {
    const SIGNAL: c_int = 40;
    let blocked: u64 = 1 << (SIGNAL - 1);
    // SAFETY: the mask has the eight bytes that the call is told of, and lives across it.
    let done = unsafe {
        c::syscall(c::SYS_RT_SIGPROCMASK, 0, &blocked as *const u64, std::ptr::null::<u64>(), 8);
        c::sigqueue(std::process::id() as c_int, SIGNAL, 0)
    };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Reads a file to its end, says how long it is, and stays.
fn read_whole(path: &str, span: Duration) {
    let read = fs::File::open(path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
    match read {
        Ok(bytes) => println!("{bytes}"),
        Err(error) => println!("{error}"),
    }
    std::thread::sleep(span);
}

/// Writes until it is refused, and ends with the refusal's number as its code.
fn fill_up(path: &str) -> ! {
    exit(fill(path, "").err().and_then(|error| error.raw_os_error()).unwrap_or(66))
}

/// Writes until the file system is full, or as many bytes as asked.
fn fill(path: &str, bytes: &str) -> io::Result<String> {
    let mut file = fs::File::create(path)?;
    let most: usize = bytes.parse().unwrap_or(usize::MAX);
    let block = vec![7u8; 65536];
    let mut written = 0;
    while written < most {
        file.write_all(&block)?;
        written += block.len();
    }
    Ok(written.to_string())
}
