//! Layers that are cut off, damaged, or no images at all: each is a clear error or a worker that
//! truly runs, and nothing is left of it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use runtime_tests::{Bed, Call, Output, Zlib, bed, cases, host, until};
use rustix::fs::{CWD, FileType, mknodat};
use squall::squashfs::{Attributes, Options};

cases![
    a_squashfs_file_cut_off_anywhere_is_refused_or_runs,
    every_field_of_a_squashfs_superblock_may_be_wrong,
    every_field_of_an_erofs_superblock_may_be_wrong,
    bytes_flipped_at_random_in_the_tables_of_an_image_harm_its_worker_alone,
    what_is_no_image_is_named_and_nothing_of_it_is_shown,
    a_layer_that_the_caller_may_not_read_is_a_clear_error,
    a_worker_whose_layer_is_cut_off_while_it_runs_ends_truly,
];

/// The images that a test has damaged, and what became of each.
struct Bench<'a> {
    bed: &'a Bed,
    count: u32,
    ran: u32,
    refused: u32,
    problems: Vec<String>,
}

impl<'a> Bench<'a> {
    fn new(bed: &'a Bed) -> Bench<'a> {
        Bench { bed, count: 0, ran: 0, refused: 0, problems: Vec::new() }
    }

    /// Launches from an image with this content. Each is a file of its own name: a layer is known
    /// by what its file is. A program of which something is damaged may do anything, and never end:
    /// the time limit is for it alone, and does not count before it is executed.
    fn launch(&mut self, what: &str, content: &[u8]) {
        self.count += 1;
        eprint!("{what}: ");
        let path = self.bed.file(&format!("image-{}", self.count));
        fs::write(&path, content).unwrap();
        let output = self.bed.run_layers(&[&path], &["--rm", "--timeout", "5"], &["/bin/probe", "exit", "7"]).output();
        eprintln!("{} {}", output.code(), output.stderr.trim_end());
        if let Err(reason) = self.judge(&path, &output) {
            self.problems.push(format!("{what}: {reason}: {} {}", output.status, output.stderr.trim_end()));
        }
        if is_refused_at(&output, &["request", "layers"]) {
            // It was never mounted where anybody could see it. The kernel frees its device a moment
            // after the call.
            until(&format!("no loop device stays bound to {what}"), || (!is_bound(&path)).then_some(()));
            let left = fs::read_dir(self.bed.run_root().join("layers")).map_or(0, Iterator::count);
            if left > 0 {
                self.problems.push(format!("{what}: {left} directories are left in the store"));
            }
        } else {
            // What could be mounted stays pinned, whatever became of its worker. The harness looks
            // in the end whether all is given up: a mount namespace that somebody copies in between
            // holds the device for as long as it lives.
            self.bed.squall(&["reap", "--keep", "0"]).ok();
        }
        fs::remove_file(&path).unwrap();
    }

    /// Either a worker that ran, or one line that names stage and layer or, of an image that could
    /// be mounted, what could not be read.
    fn judge(&mut self, path: &str, output: &Output) -> Result<(), &'static str> {
        if output.code() == 7 {
            self.ran += 1;
            return Ok(());
        }
        if !is_refusal(output) {
            // A program whose text comes from the wrong place may crash; that is the worker's end,
            // and true.
            self.ran += 1;
            return if output.stderr.contains("squall") { Err("neither refused nor run") } else { Ok(()) };
        }
        self.refused += 1;
        let line = output.stderr.as_str();
        if line.contains("died") {
            Err("something of the launch died")
        } else if line.lines().count() != 1 {
            Err("not one line")
        } else if is_refused_at(output, &["request", "layers"]) {
            let words = ["damaged", "neither squashfs nor EROFS", "cut off", "sector", "is empty", "mounts 4.0 only"];
            let said = line.contains(path) && words.iter().any(|word| line.contains(word));
            if said { Ok(()) } else { Err("the layer is not named, or not what is wrong with it") }
        } else if is_refused_at(output, &["mounts", "become"]) {
            let unread = ["Input/output error", "Structure needs cleaning", "Bad message"];
            let said = !unread.iter().any(|errno| line.contains(errno)) || line.contains("damaged");
            if said { Ok(()) } else { Err("it does not say what that means") }
        } else {
            Err("another stage")
        }
    }

    /// Ends the test: all must be right, and something of it must have come out as expected.
    fn finish(self, least_refused: u32, least_run: u32) {
        eprintln!("{} images: {} refused, {} run", self.count, self.refused, self.ran);
        assert!(self.problems.is_empty(), "{}", self.problems.join("\n"));
        assert!(self.refused >= least_refused && self.ran >= least_run, "refused {}, ran {}", self.refused, self.ran);
    }
}

fn is_refusal(output: &Output) -> bool {
    (125..=127).contains(&output.code()) && output.stderr.starts_with("squall: ")
}

fn is_refused_at(output: &Output, stages: &[&str]) -> bool {
    is_refusal(output) && stages.iter().any(|stage| output.stderr.starts_with(&format!("squall: {stage}: ")))
}

fn is_bound(path: &str) -> bool {
    let devices = fs::read_dir("/sys/block").unwrap().flatten();
    let files = devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.into_iter().any(|file| file.trim_end().trim_end_matches(" (deleted)") == path)
}

/// An image with something in every table: many inodes and names, extended attributes, several
/// owners, fragments.
fn rich_image(bed: &Bed) -> Vec<u8> {
    let path = bed.image("rich", |writer| {
        bed::add_probe(writer, "bin/probe", 0o755);
        for index in 0..64_u32 {
            let owned = Attributes { uid: index, gid: index, ..Attributes::new(0o644) };
            let xattrs = vec![(b"user.index".to_vec(), index.to_string().into_bytes())];
            let attributes = if index % 2 == 0 { Attributes { xattrs, ..owned } } else { owned };
            writer.file(format!("files/{index}"), &attributes, &b"text"[..]).unwrap();
        }
    });
    fs::read(path).unwrap()
}

/// The same in EROFS, without a checksum of the superblock: with it, all damage there would be
/// found by it alone.
fn erofs_image(bed: &Bed) -> Vec<u8> {
    let tree = bed.work().join("tree");
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("bin/probe"), squall_cli::demo::PROBE).unwrap();
    for path in [tree.clone(), tree.join("bin"), tree.join("bin/probe")] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    for index in 0..64 {
        fs::write(tree.join(index.to_string()), "text").unwrap();
    }
    let path = bed.images().join("rich.erofs");
    let mut command = Command::new("mkfs.erofs");
    command.args(["--quiet", "-zlz4", "-T0"]).arg(&path).arg(&tree);
    Call::new(command).ok();
    let mut image = fs::read(path).unwrap();
    image[EROFS_SUPERBLOCK + 8] &= !1;
    image
}

/// Where EROFS keeps its superblock.
const EROFS_SUPERBLOCK: usize = 1024;

/// Where squashfs's superblock says how much of the file is used.
const BYTES_USED: usize = 40;

/// The starts of the id, attribute, inode, directory, fragment and export tables, as far as there
/// are such.
fn table_starts(image: &[u8]) -> Vec<usize> {
    let start = |offset: usize| u64::from_le_bytes(image[offset..offset + 8].try_into().unwrap());
    (48..96).step_by(8).map(start).filter(|start| *start != u64::MAX).map(|start| start as usize).collect()
}

/// At every fortieth and around the start of each table; as it is, which the superblock gives away,
/// and with a superblock and a padding that hide it, so that the kernel has to find out.
fn a_squashfs_file_cut_off_anywhere_is_refused_or_runs(bed: &Bed) {
    let image = rich_image(bed);
    let mut lengths: Vec<usize> = (0..40).map(|part| image.len() * part / 40).collect();
    let starts = table_starts(&image);
    assert!(starts.len() >= 4, "{starts:?}");
    lengths.extend(starts.iter().flat_map(|start| [start - 1, *start, start + 1, start + 8]));
    lengths.extend([1, 4, 28, 48, 95, 96, 97, image.len() - 1]);
    lengths.sort_unstable();
    lengths.dedup();
    let mut bench = Bench::new(bed);
    bench.launch("whole", &image);
    for length in lengths.into_iter().filter(|length| *length < image.len()) {
        let cut = image[..length].to_vec();
        bench.launch(&format!("cut at {length}"), &cut);
        if length >= 96 {
            let mut hidden = cut;
            hidden[BYTES_USED..BYTES_USED + 8].copy_from_slice(&(length as u64).to_le_bytes());
            hidden.resize(length.next_multiple_of(512), 0);
            bench.launch(&format!("cut at {length} with a superblock that fits"), &hidden);
        }
    }
    bench.finish(80, 1);
}

/// Offset and length of each field of squashfs 4.0's superblock (squashfs_fs.h).
const SQUASHFS_FIELDS: [(&str, usize, usize); 19] = [
    ("s_magic", 0, 4),
    ("inodes", 4, 4),
    ("mkfs_time", 8, 4),
    ("block_size", 12, 4),
    ("fragments", 16, 4),
    ("compression", 20, 2),
    ("block_log", 22, 2),
    ("flags", 24, 2),
    ("no_ids", 26, 2),
    ("s_major", 28, 2),
    ("s_minor", 30, 2),
    ("root_inode", 32, 8),
    ("bytes_used", 40, 8),
    ("id_table_start", 48, 8),
    ("xattr_id_table_start", 56, 8),
    ("inode_table_start", 64, 8),
    ("directory_table_start", 72, 8),
    ("fragment_table_start", 80, 8),
    ("lookup_table_start", 88, 8),
];

/// Offset and length of each field of EROFS's superblock (erofs_fs.h).
const EROFS_FIELDS: [(&str, usize, usize); 24] = [
    ("magic", 0, 4),
    ("checksum", 4, 4),
    ("feature_compat", 8, 4),
    ("blkszbits", 12, 1),
    ("sb_extslots", 13, 1),
    ("root_nid", 14, 2),
    ("inos", 16, 8),
    ("build_time", 24, 8),
    ("build_time_nsec", 32, 4),
    ("blocks", 36, 4),
    ("meta_blkaddr", 40, 4),
    ("xattr_blkaddr", 44, 4),
    ("uuid", 48, 16),
    ("volume_name", 64, 16),
    ("feature_incompat", 80, 4),
    ("available_compr_algs", 84, 2),
    ("extra_devices", 86, 2),
    ("devt_slotoff", 88, 2),
    ("dirblkbits", 90, 1),
    ("xattr_prefix_count", 91, 1),
    ("xattr_prefix_start", 92, 4),
    ("packed_nid", 96, 8),
    ("xattr_filter_reserved", 104, 1),
    ("reserved", 105, 23),
];

/// A field with all bits flipped, 0, 1, the greatest value, and its highest and its lowest bit
/// flipped.
fn wrong_values(field: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut one = vec![0; field.len()];
    one[0] = 1;
    let mut highest = field.to_vec();
    *highest.last_mut().unwrap() ^= 0x80;
    let mut lowest = field.to_vec();
    lowest[0] ^= 1;
    let values = [
        ("all bits flipped", field.iter().map(|byte| !byte).collect()),
        ("zero", vec![0; field.len()]),
        ("one", one),
        ("greatest", vec![0xff; field.len()]),
        ("highest bit flipped", highest),
        ("lowest bit flipped", lowest),
    ];
    values.into_iter().filter(|(_, value)| value != field).collect()
}

fn damage_fields(bench: &mut Bench<'_>, image: &[u8], superblock: usize, fields: &[(&str, usize, usize)]) {
    for (name, offset, length) in fields {
        let place = superblock + offset..superblock + offset + length;
        for (how, value) in wrong_values(&image[place.clone()]) {
            let mut damaged = image.to_vec();
            damaged[place.clone()].copy_from_slice(&value);
            bench.launch(&format!("{name}: {how}"), &damaged);
        }
    }
}

fn every_field_of_a_squashfs_superblock_may_be_wrong(bed: &Bed) {
    let covered: usize = SQUASHFS_FIELDS.iter().map(|(_, _, length)| length).sum();
    assert_eq!(covered, 96, "no byte of the superblock is left out");
    let image = rich_image(bed);
    let mut bench = Bench::new(bed);
    damage_fields(&mut bench, &image, 0, &SQUASHFS_FIELDS);
    bench.finish(50, 5);
}

fn every_field_of_an_erofs_superblock_may_be_wrong(bed: &Bed) {
    let covered: usize = EROFS_FIELDS.iter().map(|(_, _, length)| length).sum();
    assert_eq!(covered, 128, "no byte of the superblock is left out");
    let image = erofs_image(bed);
    let mut bench = Bench::new(bed);
    bench.launch("whole", &image);
    damage_fields(&mut bench, &image, EROFS_SUPERBLOCK, &EROFS_FIELDS);
    bench.finish(20, 5);
}

/// Numbers that are the same in every run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

/// Behind the files' content are squashfs's tables; EROFS has its inodes and directories between
/// the blocks, so there it is anywhere.
fn bytes_flipped_at_random_in_the_tables_of_an_image_harm_its_worker_alone(bed: &Bed) {
    const ROUNDS: usize = 120;
    let squashfs = rich_image(bed);
    let tables = *table_starts(&squashfs).iter().min().unwrap()..squashfs.len();
    let erofs = erofs_image(bed);
    let metadata = EROFS_SUPERBLOCK + 128..erofs.len();
    let mut numbers = Numbers(0x05ee_d0f5_a11a_b1e5);
    let mut bench = Bench::new(bed);
    for round in 0..ROUNDS {
        for (format, image, range) in [("squashfs", &squashfs, &tables), ("EROFS", &erofs, &metadata)] {
            let mut damaged = image.clone();
            for _ in 0..1 << (round % 7) {
                let place = range.start + numbers.below(range.len());
                damaged[place] ^= 1 + u8::try_from(numbers.below(255)).unwrap();
            }
            bench.launch(&format!("{format}, round {round}"), &damaged);
        }
    }
    bench.finish(10, 100);
}

fn what_is_no_image_is_named_and_nothing_of_it_is_shown(bed: &Bed) {
    let make = |name: &str, kind: FileType, device: u64| {
        mknodat(CWD, bed.work().join(name), kind, 0o666.into(), device).unwrap();
        bed.file(name)
    };
    let socket = bed.file("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let sparse = bed.file("sparse");
    File::create(&sparse).unwrap().set_len(1 << 40).unwrap();
    let empty = bed.file("empty");
    File::create(&empty).unwrap();
    let directory = bed.file("directory");
    fs::create_dir(&directory).unwrap();
    let secret = bed.file("secret");
    std::os::unix::fs::symlink("/etc/shadow", &secret).unwrap();
    let dangling = bed.file("dangling");
    std::os::unix::fs::symlink("/not/there", &dangling).unwrap();
    let table = [
        (directory, "is a directory"),
        (make("fifo", FileType::Fifo, 0), "is a FIFO"),
        (socket, "is a socket"),
        (make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)), "is a character device"),
        (make("block", FileType::BlockDevice, rustix::fs::stat("/").unwrap().st_dev), "is a block device"),
        (secret, "neither squashfs nor EROFS"),
        (empty, "is empty"),
        (sparse, "neither squashfs nor EROFS"),
        (dangling, "does not exist"),
        ("/proc/self/mem".to_owned(), "'/proc/self/mem'"),
        ("/proc/kmsg".to_owned(), "'/proc/kmsg'"),
    ];
    let shadow = fs::read_to_string("/etc/shadow").unwrap();
    let secrets: Vec<&str> = shadow.lines().collect();
    assert!(!secrets.is_empty());
    for (path, reason) in table {
        let output = bed.run_layers(&[&path], &["--rm"], &["/bin/probe", "exit", "7"]).output();
        assert_eq!((output.code(), output.stderr.lines().count()), (125, 1), "{output}");
        assert!(output.stderr.starts_with("squall: request: "), "{output}");
        assert!(output.stderr.contains(&path) && output.stderr.contains(reason), "{output}");
        assert!(!secrets.iter().any(|line| output.stderr.contains(line)), "{path} is shown");
    }
    assert!(!bed.run_root().exists());
}

fn a_layer_that_the_caller_may_not_read_is_a_clear_error(bed: &Bed) {
    let closed = bed.file("closed");
    fs::copy(bed.probe(), &closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
    let caller = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let plan = |path: &str| {
        let parent = bed.cgroup();
        bed.squall(&["plan", "--cgroup-parent", &parent, "--layer", path, "--", "/bin/probe"]).under(&caller).output()
    };
    assert_eq!(plan(bed.probe()).code(), 0, "the same as a file that may be read");
    let refused = plan(&closed);
    assert_eq!((refused.code(), refused.stderr.lines().count()), (125, 1), "{refused}");
    assert!(refused.stderr.contains(&closed) && refused.stderr.contains("may not be read by user 65534"), "{refused}");
}

/// The worker waits until its layer's file has been emptied; only then does it read what has never
/// been read, by a call and by a mapping.
fn a_worker_whose_layer_is_cut_off_while_it_runs_ends_truly(bed: &Bed) {
    // Compressed: an older loop driver (seen with 6.1) reads zeros behind the end of a file, and
    // they are no compressed block. What is stored as it is would read as zeros there.
    let big: Vec<u8> = (0..1_000_000_u32).flat_map(|number| format!("{number:x} ").into_bytes()).collect();
    for what in ["read", "map"] {
        let base = bed.image(&format!("base-{what}"), |writer| bed::add_probe(writer, "bin/probe", 0o755));
        let compressed = Options { compression: Box::new(Zlib), ..Options::default() };
        let data = bed.image_with(compressed, &format!("data-{what}"), |writer| {
            writer.file("data", &Attributes::new(0o644), &big[..]).unwrap();
        });
        let flags = ["--name", what];
        let argv = ["/bin/probe", "held", "try", what, "/data"];
        let mut command = bed.run_layers(&[&base, &data], &flags, &argv).into_command();
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let worker = bed.worker(what);
        let running = || bed.squall(&["inspect", what]).output().code() == 0 && worker.phase() == "running";
        until("it runs", || running().then_some(()));
        File::options().write(true).open(&data).unwrap().set_len(0).unwrap();
        child.stdin.take().unwrap().flush().unwrap();
        let output = child.wait_with_output().unwrap();
        let exit = worker.inspect()["exit"]["exit"].clone();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if what == "read" {
            let begins: String = said.chars().take(200).collect();
            assert!(said.contains(&format!("\"errno\":{}", libc::EIO)), "{begins}");
            assert_eq!((output.status.code(), &exit["code"]), (Some(0), &0.into()), "{exit}");
        } else {
            let code = output.status.code().or(output.status.signal().map(|signal| 128 + signal));
            assert_eq!((code, &exit["signal"]), (Some(128 + libc::SIGBUS), &libc::SIGBUS.into()), "{output:?} {exit}");
        }
        let again = bed.run_layers(&[&base, &data], &["--rm"], &argv).output();
        assert_eq!(again.code(), 125, "{again}");
        bed.squall(&["rm", what]).ok();
        bed.squall(&["reap", "--keep", "0"]).ok();
        until("its layers are given up", || (!is_bound(&data) && !is_bound(&base)).then_some(()));
        assert!(host::cgroup_directories(&worker.cgroup()).is_empty());
    }
}
