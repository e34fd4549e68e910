//! A layer on a file system that does not answer any more: the launch is given up in a bounded
//! time, with the stage that it hangs in, and when the file system is gone nothing is left.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::{Child, Stdio};
use std::time::Duration;

use runtime_tests::call::wait_for_end;
use runtime_tests::roles::{self, Role};
use runtime_tests::{Bed, bed, cases, host, until};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use squall::squashfs::Attributes;

cases![
    a_layer_that_does_not_answer_is_given_up_wherever_the_launch_hangs,
    planning_does_not_hang_either,
    an_init_holds_nothing_of_its_launch_process,
];

pub const ROLES: &[Role] = &[("hanging-file-system", serve)];

/// Longer than a launch waits for init, and for what it takes back.
const PATIENCE: Duration = Duration::from_secs(100);

/// Random bytes before the probe in the layer, and after it: more than what the kernel reads ahead.
const PADDING: u64 = 1 << 20;

/// A mounted file system with one file in it, and the program that serves it, but for a part of the
/// file: a read there is never answered.
struct Hanging {
    directory: String,
    server: Child,
}

impl Hanging {
    fn start(bed: &Bed, name: &str, layer: &str, silent: Range<u64>) -> Hanging {
        let directory = bed.file(name);
        fs::create_dir_all(&directory).unwrap();
        let mut server = roles::command("hanging-file-system");
        let (from, to) = (silent.start.to_string(), silent.end.to_string());
        server.args([&directory, layer, &from, &to]).stdout(Stdio::piped());
        let mut server = server.spawn().unwrap();
        let mut ready = [0];
        server.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        Hanging { directory, server }
    }

    fn layer(&self) -> String {
        format!("{}/layer", self.directory)
    }

    /// With its server the file system ends, and whoever waits for it is told so.
    fn end(mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
        until("it can be unmounted", || unmount(self.directory.as_str(), UnmountFlags::DETACH).ok());
    }
}

/// All at once, because each takes as long as it is given.
fn a_layer_that_does_not_answer_is_given_up_wherever_the_launch_hangs(bed: &Bed) {
    let padding = || File::open("/dev/urandom").unwrap().take(PADDING);
    let layer = bed.image("padded", |writer| {
        writer.file("before", &Attributes::new(0o644), padding()).unwrap();
        bed::add_probe(writer, "bin/probe", 0o755);
        writer.file("later", &Attributes::new(0o644), padding()).unwrap();
    });
    // The superblock is first and all that a mount reads is last; what init executes is between.
    let size = fs::metadata(&layer).unwrap().len();
    let scenes = [
        ("opened", 0..size, "request: ", "does not answer"),
        ("mounted", PADDING..size, "layers: ", "does not answer"),
        ("run", PADDING..size - PADDING, "", "did not get any further in time"),
    ];
    let launches = scenes.map(|(name, silent, stage, words)| {
        let hanging = Hanging::start(bed, name, &layer, silent);
        let mut command =
            bed.run_layers(&[hanging.layer()], &["--name", name], &["/bin/probe", "exit", "0"]).into_command();
        let stderr = File::create_new(bed.file(&format!("{name}.stderr"))).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        (name, command.spawn().unwrap(), hanging, stage, words)
    });
    for (name, mut launch, hanging, stage, words) in launches {
        let status = wait_for_end(&mut launch, PATIENCE).unwrap();
        let said = fs::read_to_string(bed.file(&format!("{name}.stderr"))).unwrap();
        assert_eq!(status.and_then(|status| status.code()), Some(125), "{name}: {said}");
        assert!(said.starts_with(&format!("squall: {stage}")) && said.contains(words), "{name}: {said}");
        hanging.end();
    }
    // What could not be killed dies now.
    until("everything is cleared away", || {
        bed.squall(&["reap"]).ok();
        fs::read_dir(bed.run_root().join("containers")).unwrap().next().is_none().then_some(())
    });
}

/// Looked at while it waits for its program.
fn an_init_holds_nothing_of_its_launch_process(bed: &Bed) {
    let layer = bed.image("slow", |writer| {
        writer.file("before", &Attributes::new(0o644), File::open("/dev/urandom").unwrap().take(PADDING)).unwrap();
        bed::add_probe(writer, "bin/probe", 0o755);
        writer.file("later", &Attributes::new(0o644), File::open("/dev/urandom").unwrap().take(PADDING)).unwrap();
    });
    let size = fs::metadata(&layer).unwrap().len();
    let hanging = Hanging::start(bed, "slow", &layer, PADDING..size - PADDING);
    let mut command =
        bed.run_layers(&[hanging.layer()], &["--rm", "--name", "slow"], &["/bin/probe", "exit", "0"]).into_command();
    let mut launch = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let init = || {
        let cgroups = host::cgroup_directories(&format!("{}/slow", bed.cgroup()));
        cgroups.first().and_then(|cgroup| host::processes_in(cgroup).first().copied())
    };
    let pid = until("it waits for its program", || {
        init().filter(|pid| fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") D ")))
    });
    let mut held = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        // It may be closing one just now.
        let Ok(file) = fs::read_link(entry.unwrap().path()) else { continue };
        held.push(file.into_os_string().into_string().unwrap());
    }
    let foreign: Vec<_> = held.iter().filter(|file| file.contains(bed.tag()) || file.contains("cgroup")).collect();
    assert!(held.len() > 3 && foreign.is_empty(), "{held:?}");
    // One is libcontainer's own; the launch process's leads to its caller.
    assert!(held.iter().filter(|file| file.starts_with("socket:")).count() <= 5, "{held:?}");
    hanging.end();
    wait_for_end(&mut launch, PATIENCE).unwrap().expect("it ends");
}

fn planning_does_not_hang_either(bed: &Bed) {
    let hanging = Hanging::start(bed, "planned", bed.probe(), 0..u64::MAX);
    let output = bed.squall(&["plan", "--layer", &hanging.layer(), "--", "/bin/probe"]).output();
    assert_eq!(output.code(), 125, "{output}");
    assert!(output.stderr.starts_with("squall: request: ") && output.stderr.contains("does not answer"), "{output}");
    hanging.end();
}

/// Requests and answers of <linux/fuse.h>, as far as one file in one directory needs them.
mod fuse {
    pub const LOOKUP: u32 = 1;
    pub const GETATTR: u32 = 3;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const RELEASE: u32 = 18;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const ROOT: u64 = 1;
    pub const FILE: u64 = 2;
    pub const IN_HEADER: usize = 40;
}

/// The server: mounts itself, says so with a byte, and answers everything but reads of the silent
/// part.
fn serve(args: &[String]) {
    let [at, file, from, to] = args else { panic!("{args:?}") };
    let silent: Range<u64> = from.parse().unwrap()..to.parse().unwrap();
    let file = File::open(file).unwrap();
    let size = file.metadata().unwrap().len();
    let mut device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", device.as_raw_fd());
    let options = std::ffi::CString::new(options).unwrap();
    mount("hanging", at.as_str(), "fuse", MountFlags::NODEV | MountFlags::NOSUID, options.as_c_str()).unwrap();
    let mut buffer = vec![0; 1 << 20];
    std::io::stdout().write_all(b"!").unwrap();
    std::io::stdout().flush().unwrap();
    loop {
        let length = device.read(&mut buffer).unwrap();
        let request = &buffer[..length];
        let word = |at: usize| u32::from_ne_bytes(request[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(request[at..at + 8].try_into().unwrap());
        let (operation, unique, node) = (word(4), long(8), long(16));
        let body = fuse::IN_HEADER;
        let answer: Result<Vec<u8>, i32> = match operation {
            fuse::INIT => Ok(init()),
            fuse::LOOKUP if request[body..].starts_with(b"layer\0") => {
                Ok([words64(&[fuse::FILE, 0, 0, 0]), words32(&[0, 0]), attributes(fuse::FILE, size)].concat())
            }
            fuse::LOOKUP => Err(libc::ENOENT),
            fuse::GETATTR => Ok([words64(&[0]), words32(&[0, 0]), attributes(node, size)].concat()),
            fuse::OPEN => Ok([words64(&[0]), words32(&[0, 0])].concat()),
            fuse::READ => {
                let (offset, count) = (long(body + 8), word(body + 16));
                if offset < silent.end && silent.start < offset + u64::from(count) {
                    continue;
                }
                let mut bytes = vec![0; count as usize];
                let count = file.read_at(&mut bytes, offset).unwrap();
                bytes.truncate(count);
                Ok(bytes)
            }
            fuse::FLUSH | fuse::RELEASE => Ok(Vec::new()),
            _ => Err(libc::ENOSYS),
        };
        let (error, bytes) = answer.map_or_else(|errno| (-errno, Vec::new()), |bytes| (0, bytes));
        let header = [words32(&[16 + bytes.len() as u32, error as u32]), words64(&[unique])].concat();
        // A request that was interrupted is no more.
        let _ = device.write(&[header, bytes].concat());
    }
}

/// Version 7.31, nothing that can be chosen, requests of up to 128 KiB.
fn init() -> Vec<u8> {
    let head = words32(&[7, 31, 1 << 17, 0]);
    let limits = [16_u16, 12].map(u16::to_ne_bytes).concat();
    [head, limits, words32(&[1 << 17, 1]), vec![0; 64 - 16 - 4 - 8]].concat()
}

fn attributes(node: u64, size: u64) -> Vec<u8> {
    let (mode, size) = if node == fuse::ROOT { (0o040_755, 0) } else { (0o100_644, size) };
    [words64(&[node, size, size.div_ceil(512), 0, 0, 0]), words32(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])].concat()
}

fn words32(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn words64(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
