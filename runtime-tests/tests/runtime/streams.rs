//! Standard streams: the caller's bytes, as they are.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use runtime_tests::{Bed, cases};

cases![
    ten_megabytes_of_any_bytes_pass_through_unchanged,
    output_and_error_output_stay_apart,
    output_files_are_written_by_the_worker_and_belong_to_it,
    an_output_file_has_its_mode_whatever_the_callers_umask,
    an_output_file_that_is_a_link_or_no_file_is_refused,
];

fn ten_megabytes_of_any_bytes_pass_through_unchanged(bed: &Bed) {
    // xorshift64 (Marsaglia 2003): bytes of all kinds, the same each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let bytes: Vec<u8> = std::iter::repeat_with(&mut next).take((10 << 20) / 8).flatten().collect();
    for size in [0, 1, 4096, bytes.len()] {
        let output = bed.run(&["--rm"], &["copy"]).stdin(&bytes[..size]).ok();
        assert!(output.stdout == bytes[..size], "{} of {size} bytes came back", output.stdout.len());
    }
}

fn output_and_error_output_stay_apart(bed: &Bed) {
    let output = bed.run(&["--rm"], &["say", "to", "both"]).ok();
    assert_eq!((output.text().as_str(), output.stderr.as_str()), ("to both", "to both\n"));
}

fn output_files_are_written_by_the_worker_and_belong_to_it(bed: &Bed) {
    let (out, err) = (bed.file("out"), bed.file("err"));
    fs::write(&err, "what was there before").unwrap();
    fs::set_permissions(&err, fs::Permissions::from_mode(0o600)).unwrap();
    let worker = bed.start(&["--stdout", &out, "--stderr", &err, "--user", "4711:4712"], &["say", "hello"]);
    assert_eq!(worker.wait(), 0);
    for file in [&out, &err] {
        assert_eq!(fs::read_to_string(file).unwrap(), "hello\n", "{file}");
    }
    let made = fs::metadata(&out).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (4711, 4712, 0o640));
    assert_eq!(fs::metadata(&err).unwrap().uid(), 0, "a file that was there keeps its owner");
}

fn an_output_file_has_its_mode_whatever_the_callers_umask(bed: &Bed) {
    for umask in ["0", "077", "0777"] {
        let out = bed.file(&format!("out-{umask}"));
        let caller = ["sh", "-c", &format!("umask {umask} && exec \"$@\""), "sh"];
        bed.run(&["--rm", "--stdout", &out], &["say", "hello"]).under(&caller).ok();
        let mode = fs::metadata(&out).unwrap().mode() & 0o7777;
        assert_eq!(mode, 0o640, "umask {umask}: {mode:o}");
    }
}

fn an_output_file_that_is_a_link_or_no_file_is_refused(bed: &Bed) {
    let victim = bed.file("victim");
    fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, bed.work().join("link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, bed.work().join("fifo"), rustix::fs::FileType::Fifo, 0o666.into(), 0).unwrap();
    for name in ["link", "fifo", ".", "missing/file"] {
        let output = bed.run(&["--rm", "--stdout", &bed.file(name)], &["say", "hello"]).output();
        assert_eq!(output.code(), 125, "{output}");
        assert_eq!(output.stderr.lines().count(), 1, "{output}");
        assert!(output.stderr.contains(&bed.file(name)), "the file is not named: {output}");
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}
