//! Layers: known by what they are, shared by all who use them, never pulled away, and given up in
//! the right order.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runtime_tests::call::wait_for_end;
use runtime_tests::{Bed, Call, Worker, cases, until};
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;
use squall::squashfs::Attributes;

cases![
    a_file_replaced_under_its_path_is_a_new_layer_and_the_running_keep_the_old_one,
    a_file_written_over_in_place_is_a_new_layer,
    a_file_written_over_with_size_and_time_of_writing_kept_is_a_new_layer,
    two_paths_to_one_file_are_one_layer,
    an_administrator_who_unmounts_every_pin_takes_nothing_from_anybody,
    a_cleaner_who_removes_the_whole_cache_takes_nothing_from_anybody,
    reaping_takes_nothing_from_the_running,
    a_launch_in_a_private_mount_namespace_shares_with_the_host,
    a_layer_stays_as_long_as_its_last_user,
    a_layer_that_somebody_else_has_mounted_stays_known_and_goes_with_that_mount,
    idle_pins_go_least_recently_used_first_and_deleted_files_before_all,
    a_launch_gives_up_the_pins_of_deleted_files,
    layers_are_listed_with_what_is_known_of_them,
    launches_of_a_layer_that_is_reaped_all_the_time_never_fail,
    nobody_waits_for_the_attaching_of_an_unrelated_layer,
    sixty_four_first_launches_of_one_image_of_120_layers_share_every_layer,
    sixty_four_first_launches_of_different_images_get_a_device_each,
];

/// How long many launches at once may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A layer with one file.
fn layer(bed: &Bed, name: &str, content: &str) -> String {
    bed.image(name, |writer| {
        writer.file("content", &Attributes::new(0o644), content.as_bytes()).unwrap();
    })
}

fn start(bed: &Bed, name: &str, layers: &[&str]) -> String {
    let layers = [&[bed.probe()], layers].concat();
    bed.run_layers(&layers, &["--detach", "--name", name], &["/bin/probe", "sleep", "600000"]).ok().text()
}

/// What a new worker reads.
fn reads(bed: &Bed, layers: &[&str]) -> Value {
    let layers = [&[bed.probe()], layers].concat();
    bed.run_layers(&layers, &["--rm"], &["/bin/probe", "try", "read", "/content"]).json()
}

/// What a running worker sees, by way of its own root.
fn seen_by(worker: &Worker<'_>) -> String {
    fs::read_to_string(format!("/proc/{}/root/content", worker.pid())).unwrap()
}

/// How many loop devices are bound to this file.
fn devices(file: &str) -> usize {
    let wanted = fs::metadata(file).unwrap();
    let bound = fs::read_dir("/sys/block").unwrap().flatten();
    let files = bound.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
    let same = |path: &String| {
        fs::metadata(path.trim_end()).is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()))
    };
    files.filter(same).count()
}

fn sources(bed: &Bed, id: &str) -> Vec<String> {
    let record = bed.worker(id).inspect();
    record["layers"].as_array().unwrap().iter().map(|layer| layer["source"].as_str().unwrap().to_owned()).collect()
}

fn pins(bed: &Bed) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let below = bed.run_root();
    mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(&below))
        .collect()
}

pub fn unmount_pins(bed: &Bed) {
    for pin in pins(bed) {
        unmount(&pin, UnmountFlags::empty()).unwrap_or_else(|error| panic!("{}: {error}", pin.display()));
    }
}

fn end(bed: &Bed, ids: &[&str]) {
    for id in ids {
        bed.squall(&["rm", "--force", id]).ok();
    }
}

fn a_file_replaced_under_its_path_is_a_new_layer_and_the_running_keep_the_old_one(bed: &Bed) {
    let path = layer(bed, "layer", "old");
    start(bed, "old", &[&path]);
    let new = layer(bed, "new", "new");
    fs::rename(new, &path).unwrap();
    assert_eq!(reads(bed, &[&path])["ok"], "new");
    assert_eq!(seen_by(&bed.worker("old")), "old");
    start(bed, "new", &[&path]);
    assert_eq!((seen_by(&bed.worker("old")), seen_by(&bed.worker("new"))), ("old".to_owned(), "new".to_owned()));
    end(bed, &["old", "new"]);
}

/// Nobody should do that to a layer in use; whoever launches next gets what is in the file, with
/// and without a cache.
fn a_file_written_over_in_place_is_a_new_layer(bed: &Bed) {
    let (path, other) = (layer(bed, "layer", "old"), layer(bed, "other", "new"));
    start(bed, "old", &[&path]);
    // From here on the old superblock has it in memory.
    assert_eq!(seen_by(&bed.worker("old")), "old");
    fs::write(&path, fs::read(other).unwrap()).unwrap();
    for cached in [true, false] {
        if !cached {
            unmount_pins(bed);
            fs::remove_dir_all(bed.run_root().join("layers")).unwrap();
        }
        assert_eq!(reads(bed, &[&path])["ok"], "new", "with a cache: {cached}");
    }
    end(bed, &["old"]);
}

/// As `cp -p` does it with an image that was built reproducibly.
fn a_file_written_over_with_size_and_time_of_writing_kept_is_a_new_layer(bed: &Bed) {
    let (path, other) = (layer(bed, "layer", "old"), layer(bed, "other", "new"));
    let before = fs::metadata(&path).unwrap();
    assert_eq!(reads(bed, &[&path])["ok"], "old");
    fs::write(&path, fs::read(other).unwrap()).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.len(), after.modified().unwrap()), (before.len(), before.modified().unwrap()));
    assert_eq!(reads(bed, &[&path])["ok"], "new");
}

fn two_paths_to_one_file_are_one_layer(bed: &Bed) {
    let path = layer(bed, "layer", "x");
    let (link, hard) = (bed.file("symbolic.sqsh"), bed.file("hard.sqsh"));
    symlink(&path, &link).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    start(bed, "a", &[&path]);
    start(bed, "b", &[&link]);
    start(bed, "c", &[&hard]);
    assert_eq!(devices(&path), 1);
    let layers = ["a", "b", "c"].map(|id| bed.worker(id).inspect()["layers"][1]["layer_id"].clone());
    assert!(layers[0] == layers[1] && layers[1] == layers[2], "{layers:?}");
    end(bed, &["a", "b", "c"]);
}

/// The old worker still reads, and the new one shares every superblock.
fn check_shared(bed: &Bed, path: &str, expected: &str) {
    assert_eq!(seen_by(&bed.worker("before")), "x");
    start(bed, "after", &[path]);
    assert_eq!(sources(bed, "after"), [expected, expected]);
    assert_eq!((devices(path), devices(bed.probe())), (1, 1));
    assert_eq!(seen_by(&bed.worker("after")), "x");
    end(bed, &["before", "after"]);
}

fn an_administrator_who_unmounts_every_pin_takes_nothing_from_anybody(bed: &Bed) {
    let path = layer(bed, "layer", "x");
    start(bed, "before", &[&path]);
    assert_eq!(pins(bed).len(), 2);
    unmount_pins(bed);
    check_shared(bed, &path, "loop-device");
}

/// systemd-tmpfiles does this to a run root that is not excluded from its cleaning.
fn a_cleaner_who_removes_the_whole_cache_takes_nothing_from_anybody(bed: &Bed) {
    let path = layer(bed, "layer", "x");
    start(bed, "before", &[&path]);
    unmount_pins(bed);
    fs::remove_dir_all(bed.run_root().join("layers")).unwrap();
    check_shared(bed, &path, "loop-device");
}

fn reaping_takes_nothing_from_the_running(bed: &Bed) {
    let path = layer(bed, "layer", "x");
    start(bed, "before", &[&path]);
    // Not even its pin, which is not idle.
    let idle = layer(bed, "idle", "y");
    reads(bed, &[&idle]);
    let reaped = bed.squall(&["reap", "--keep", "0"]).ok().text();
    let mut left = pinned_files(bed);
    left.sort();
    assert_eq!(left, ["layer", "probe"], "{reaped}");
    assert_eq!(reaped.matches("in use by before").count(), 2, "{reaped}");
    check_shared(bed, &path, "pin");
}

/// As systemd makes one for a service with PrivateMounts=: the host's mounts come in, its own stay
/// there.
fn a_launch_in_a_private_mount_namespace_shares_with_the_host(bed: &Bed) {
    let path = layer(bed, "layer", "x");
    let private = ["unshare", "--mount", "--propagation", "slave"];
    let argv = ["/bin/probe", "sleep", "600000"];
    bed.run_layers(&[bed.probe(), &path], &["--detach", "--name", "before"], &argv).under(&private).ok();
    assert!(pins(bed).is_empty(), "its pins are its own");
    check_shared(bed, &path, "loop-device");
}

fn a_layer_stays_as_long_as_its_last_user(bed: &Bed) {
    let path = layer(bed, "layer", "x");
    start(bed, "first", &[&path]);
    unmount_pins(bed);
    start(bed, "second", &[&path]);
    end(bed, &["first"]);
    bed.squall(&["reap"]).ok();
    unmount_pins(bed);
    start(bed, "third", &[&path]);
    assert_eq!(sources(bed, "third"), ["loop-device", "loop-device"]);
    end(bed, &["second", "third"]);
    bed.squall(&["reap"]).ok();
    until("the device is free", || (devices(&path) == 0).then_some(()));
}

fn a_layer_that_somebody_else_has_mounted_stays_known_and_goes_with_that_mount(bed: &Bed) {
    let path = layer(bed, "layer", "x");
    reads(bed, &[&path]);
    let device = bed.squall(&["layers", "--json"]).json();
    let device =
        device.as_array().unwrap().iter().find(|layer| layer["file"] == path.as_str()).unwrap()["loop_device"].clone();
    let mounted = bed.file("elsewhere");
    fs::create_dir(&mounted).unwrap();
    let mount =
        Command::new("mount").args(["-t", "squashfs", "-o", "ro", &format!("/dev/loop{device}"), &mounted]).status();
    assert!(mount.unwrap().success());
    for _ in 0..2 {
        bed.squall(&["reap"]).ok();
        let layers = bed.squall(&["layers", "--json"]).json();
        assert_eq!((layers.as_array().unwrap().len(), &layers[0]["loop_device"]), (1, &device), "{layers}");
    }
    unmount(mounted.as_str(), UnmountFlags::empty()).unwrap();
    until("it is forgotten", || {
        bed.squall(&["reap"]).ok();
        (bed.squall(&["layers", "--json"]).json() == Value::Array(Vec::new())).then_some(())
    });
}

fn pinned_files(bed: &Bed) -> Vec<String> {
    let layers = bed.squall(&["layers", "--json"]).json();
    let pinned = layers.as_array().unwrap().iter().filter(|layer| layer["pinned"] == true);
    let name =
        |layer: &Value| Path::new(layer["file"].as_str().unwrap()).file_stem().unwrap().to_str().unwrap().to_owned();
    pinned.map(name).collect()
}

fn idle_pins_go_least_recently_used_first_and_deleted_files_before_all(bed: &Bed) {
    let paths = ["a", "b", "c", "d"].map(|name| layer(bed, name, name));
    // The order of their last use: b, c, d, a.
    for path in [&paths[0], &paths[1], &paths[2], &paths[3], &paths[0]] {
        reads(bed, &[path]);
    }
    let planned = bed.squall(&["reap", "--keep", "3", "--dry-run"]).ok().text();
    let goes: Vec<&str> = planned.lines().filter(|line| line.starts_with("goes") && line.contains(" layer ")).collect();
    assert!(
        goes.len() == 2 && goes.iter().all(|line| line.contains("/b.sqsh") || line.contains("/c.sqsh")),
        "{planned}"
    );
    assert_eq!(pinned_files(bed).len(), 5, "it only said so");
    fs::remove_file(&paths[3]).unwrap();
    bed.squall(&["reap", "--keep", "3"]).ok();
    let mut left = pinned_files(bed);
    left.sort();
    assert_eq!(left, ["a", "c", "probe"], "the deleted one went first, then the least recently used");
}

fn a_launch_gives_up_the_pins_of_deleted_files(bed: &Bed) {
    let (old, new) = (layer(bed, "old", "old"), layer(bed, "new", "new"));
    reads(bed, &[&old]);
    fs::remove_file(&old).unwrap();
    reads(bed, &[&new]);
    let mut left = pinned_files(bed);
    left.sort();
    assert_eq!(left, ["new", "probe"], "it would hold the file's room on the disk");
}

fn layers_are_listed_with_what_is_known_of_them(bed: &Bed) {
    let digest = "0123456789abcdef".repeat(4);
    let named = layer(bed, &digest, "x");
    start(bed, "user", &[&named]);
    let layers = bed.squall(&["layers", "--json"]).json();
    let of = |file: &str| layers.as_array().unwrap().iter().find(|layer| layer["file"] == file).unwrap().clone();
    let listed = of(&named);
    assert_eq!(listed["digest"], format!("sha256:{digest}"));
    assert_eq!((&listed["users"][0], &listed["pinned"]), (&"user".into(), &true.into()));
    assert_eq!(listed["size_bytes"], fs::metadata(&named).unwrap().len());
    let device = listed["loop_device"].as_u64().unwrap();
    let backing = fs::read_to_string(format!("/sys/block/loop{device}/loop/backing_file")).unwrap();
    assert_eq!(backing.trim_end(), named);
    assert!(of(bed.probe())["digest"].is_null());
    let page = bed.squall(&["layers"]).ok().text();
    assert!(page.lines().any(|line| line.contains(&named) && line.contains(" user ")), "{page}");
    // What the cache has forgotten is listed by its users.
    unmount_pins(bed);
    fs::remove_file(&named).unwrap();
    let layers = bed.squall(&["layers", "--json"]).json();
    let listed = layers.as_array().unwrap().iter().find(|layer| layer["file"] == named.as_str()).unwrap().clone();
    assert_eq!(
        (&listed["deleted"], &listed["pinned"], &listed["users"][0]),
        (&true.into(), &false.into(), &"user".into())
    );
    end(bed, &["user"]);
    bed.squall(&["reap"]).ok();
    assert_eq!(bed.squall(&["layers", "--json"]).json(), Value::Array(Vec::new()));
}

fn launches_of_a_layer_that_is_reaped_all_the_time_never_fail(bed: &Bed) {
    let path = layer(bed, "layer", "x");
    // Until its standard input ends; as an administrator it unmounts as well.
    let script = "while read -t 0.001 line; [ $? -gt 128 ]; do \"$@\" >/dev/null || exit 1; umount \"$0\"/*/mnt 2>/dev/null; done; exit 0";
    let reap = bed.squall(&["reap", "--keep", "0"]).into_command();
    let mut reaper = Command::new("bash");
    reaper.args(["-c", script]).arg(bed.run_root().join("layers")).arg(reap.get_program()).args(reap.get_args());
    let log = File::create_new(bed.file("reaper.log")).unwrap();
    let mut reaper = reaper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    for _ in 0..60 {
        assert_eq!(reads(bed, &[&path])["ok"], "x");
    }
    drop(reaper.stdin.take());
    let status = wait_for_end(&mut reaper, PATIENCE).unwrap();
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}: {}",
        fs::read_to_string(bed.file("reaper.log")).unwrap()
    );
}

fn nobody_waits_for_the_attaching_of_an_unrelated_layer(bed: &Bed) {
    let (held, free) = (layer(bed, "held", "held"), layer(bed, "free", "free"));
    // Its directory comes with a first launch; whoever attaches it next waits for the lock.
    reads(bed, &[&held]);
    unmount_pins(bed);
    until("the device is free", || (devices(&held) == 0).then_some(()));
    let metadata = fs::metadata(&held).unwrap();
    let slot = fs::read_dir(bed.run_root().join("layers")).unwrap().flatten();
    let inode = format!("-{:x}-", metadata.ino());
    let slot = slot.map(|entry| entry.path()).find(|path| path.to_str().unwrap().contains(&inode)).unwrap();
    let lock = File::open(slot.join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let mut waiting = launch(bed, "waiting", &[bed.probe(), &held]);
    assert_eq!(reads(bed, &[&free])["ok"], "free");
    assert!(waiting.try_wait().unwrap().is_none(), "it waits for the layer's lock");
    drop(lock);
    assert!(wait_for_end(&mut waiting, PATIENCE).unwrap().is_some_and(|status| status.success()));
}

/// A launch whose worker returns 0 at once.
fn launch(bed: &Bed, name: &str, layers: &[&str]) -> Child {
    logged(bed, bed.run_layers(layers, &["--name", name, "--rm"], &["/bin/probe", "exit", "0"]))
}

fn logged(bed: &Bed, call: Call) -> Child {
    let log = File::options().append(true).create(true).open(bed.file("log")).unwrap();
    call.into_command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

fn all_succeed(bed: &Bed, launches: Vec<Child>) {
    for mut launch in launches {
        let status = wait_for_end(&mut launch, PATIENCE).unwrap();
        let said = fs::read_to_string(bed.file("log")).unwrap();
        assert!(status.is_some_and(|status| status.success()), "{status:?}: {said}");
    }
}

fn sixty_four_first_launches_of_one_image_of_120_layers_share_every_layer(bed: &Bed) {
    let layers: Vec<String> = (0..119).map(|number| layer(bed, &format!("l{number:03}"), "x")).collect();
    let layers: Vec<&str> = std::iter::once(bed.probe()).chain(layers.iter().map(String::as_str)).collect();
    let launches = (0..64).map(|number| {
        let (name, argv) = (format!("c{number}"), ["/bin/probe", "sleep", "600000"]);
        logged(bed, bed.run_layers(&layers, &["--detach", "--name", &name], &argv))
    });
    all_succeed(bed, launches.collect());
    for layer in &layers {
        assert_eq!(devices(layer), 1, "{layer}");
    }
    let ids: Vec<String> = (0..64).map(|number| format!("c{number}")).collect();
    let attached = |id: &String| sources(bed, id).iter().filter(|source| *source == "attached").count();
    assert_eq!(ids.iter().map(attached).sum::<usize>(), 120, "each layer was attached once");
    bed.squall(&[&["rm", "--force"], ids.iter().map(String::as_str).collect::<Vec<_>>().as_slice()].concat()).ok();
}

fn sixty_four_first_launches_of_different_images_get_a_device_each(bed: &Bed) {
    let layers: Vec<[String; 2]> =
        (0..64).map(|number| ["x", "y"].map(|part| layer(bed, &format!("{part}{number}"), part))).collect();
    let images: Vec<[&str; 3]> = layers.iter().map(|[x, y]| [bed.probe(), x.as_str(), y.as_str()]).collect();
    let launches = images.iter().enumerate().map(|(number, image)| launch(bed, &format!("c{number}"), image));
    all_succeed(bed, launches.collect());
}
