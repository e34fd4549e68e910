//! Layers that lie where they should not, or that the worker could change while the kernel reads
//! them.

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use runtime_tests::bed::text;
use runtime_tests::{Bed, cases};
use rustix::fs::{XattrFlags, setxattr};
use squall::ErrorKind;
use squall::OpenedSpec;
use squall::request::{Identity, LaunchSpec};

cases![
    a_layer_outside_the_image_roots_is_refused_by_whichever_path,
    a_layer_that_the_worker_could_change_is_refused,
    an_access_control_list_that_lets_the_worker_write_is_seen,
    a_layer_of_a_third_user_is_refused_unless_that_is_an_owner_of_images,
    a_layer_that_somebody_has_open_for_writing_is_refused,
    a_layer_without_a_name_is_refused,
    an_image_root_that_is_none_is_a_clear_error,
    the_library_checks_layers_that_were_opened_before,
];

/// The worker: its user, its group.
const WORKER: (u32, u32) = (4711, 4712);

/// `squall run` and `squall plan` of a layer below an image root: the code of the worker, or the
/// refusal that both have.
fn launch(bed: &Bed, roots: &[&Path], layer: &Path) -> Result<i32, String> {
    launch_owned(bed, roots, &[], layer)
}

/// The same, of images that may belong to these users.
fn launch_owned(bed: &Bed, roots: &[&Path], owners: &[&str], layer: &Path) -> Result<i32, String> {
    let user = format!("{}:{}", WORKER.0, WORKER.1);
    let call = |command: &str, more: &[&str]| {
        let roots = roots.iter().flat_map(|root| ["--image-root".to_owned(), text(root)]);
        let owners = owners.iter().flat_map(|owner| ["--image-owner", owner]);
        let call = bed.squall(&[command, "--cgroup-parent", &bed.cgroup(), "--user", &user]).args(roots).args(owners);
        let call = call.args(more);
        call.args(["--layer", &text(layer), "--", "/bin/probe", "exit", "7"]).output()
    };
    let (run, plan) = (call("run", &["--rm"]), call("plan", &[]));
    if run.code() == 7 {
        assert_eq!(plan.code(), 0, "{plan}");
        return Ok(7);
    }
    assert_eq!((run.code(), run.stderr.lines().count()), (125, 1), "{run}");
    assert_eq!((plan.code(), &plan.stderr), (125, &run.stderr), "{plan}");
    Err(run.stderr)
}

fn assert_refused(bed: &Bed, roots: &[&Path], layer: &Path, words: &[&str]) {
    let refusal = launch(bed, roots, layer).expect_err(&format!("{} is mounted", layer.display()));
    let start = format!("squall: request: command line: check: --layer[0]: '{}' ", layer.display());
    assert!(refusal.starts_with(&start), "{refusal}");
    assert!(words.iter().all(|word| refusal.contains(word)), "not all of {words:?}: {refusal}");
}

/// A directory with a copy of the probe's image, which all may read and root alone may write.
fn image_in(bed: &Bed, directory: &str) -> PathBuf {
    let directory = bed.images().join(directory);
    fs::create_dir_all(&directory).unwrap();
    let mut above: &Path = &directory;
    while above != bed.images() {
        mode(above, 0o755);
        above = above.parent().unwrap();
    }
    let layer = directory.join("layer");
    fs::copy(bed.probe(), &layer).unwrap();
    mode(&layer, 0o644);
    layer
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn a_layer_outside_the_image_roots_is_refused_by_whichever_path(bed: &Bed) {
    let (inside, beside) = (image_in(bed, "img"), image_in(bed, "img2"));
    let (root, other) = (inside.parent().unwrap(), beside.parent().unwrap());
    assert_eq!(launch(bed, &[root], &inside), Ok(7));
    assert_eq!(launch(bed, &[other, root], &inside), Ok(7), "one of several roots is enough");
    let outside = "which lies outside the image roots";
    assert_refused(bed, &[root], &beside, &[outside, &text(&beside)]);
    // A link that lies in the root, and one that leads into it.
    let (leads_out, leads_in) = (root.join("leads-out"), other.join("leads-in"));
    symlink(&beside, &leads_out).unwrap();
    symlink(&inside, &leads_in).unwrap();
    assert_refused(bed, &[root], &leads_out, &[outside, &text(&beside)]);
    assert_eq!(launch(bed, &[root], &leads_in), Ok(7), "what counts is where the file lies");
    // A directory in between that is a link.
    symlink(other, root.join("way-out")).unwrap();
    assert_refused(bed, &[root], &root.join("way-out/layer"), &[outside]);
    // A further name of a file of the root is a name outside of it.
    let second_name = other.join("second-name");
    fs::hard_link(&inside, &second_name).unwrap();
    assert_refused(bed, &[root], &second_name, &[outside]);
    // The root may be named by a link itself, and never is a layer.
    let alias = bed.images().join("alias");
    symlink(root, &alias).unwrap();
    assert_eq!(launch(bed, &[&alias], &inside), Ok(7));
    assert_refused(bed, &[&inside], &inside, &[outside]);
}

fn a_layer_that_the_worker_could_change_is_refused(bed: &Bed) {
    let root = bed.images();
    let (uid, gid) = WORKER;
    let owned = format!("belongs to the worker's user {uid}");
    let grouped = format!("can be written by the worker's group {gid}");
    let by_all = "can be written by everybody".to_owned();
    let owned_by_worker = |path: &Path| chown(path, Some(uid), None).unwrap();
    let owned_and_closed = |path: &Path| {
        owned_by_worker(path);
        mode(path, 0o444);
    };
    let open_to_group = |path: &Path| {
        chown(path, None, Some(gid)).unwrap();
        mode(path, 0o775);
    };
    let open_to_all = |path: &Path| mode(path, 0o777);
    // What is made worse: 0 is the file, 1 its directory, 2 the one above.
    type MakeWorse<'a> = &'a dyn Fn(&Path);
    let table: [(&str, usize, MakeWorse<'_>, &str); 9] = [
        ("file-owned", 0, &owned_by_worker, &owned),
        ("file-owned-and-closed", 0, &owned_and_closed, &owned),
        ("parent-owned", 1, &owned_by_worker, &owned),
        ("above-owned", 2, &owned_by_worker, &owned),
        ("file-by-group", 0, &open_to_group, &grouped),
        ("above-by-group", 2, &open_to_group, &grouped),
        ("file-by-all", 0, &open_to_all, &by_all),
        ("parent-by-all", 1, &open_to_all, &by_all),
        ("above-by-all", 2, &open_to_all, &by_all),
    ];
    let good = |name: &str| {
        let layer = image_in(bed, &format!("{name}/below"));
        assert_eq!(launch(bed, &[&root], &layer), Ok(7), "{name}: as it was made, it is good");
        layer
    };
    for (name, level, make_worse, why) in table {
        let layer = good(name);
        let culprit = layer.ancestors().nth(level).unwrap();
        make_worse(culprit);
        assert_refused(bed, &[&root], &layer, &[&format!("'{}' {why}", culprit.display())]);
    }
    // A group that may only read, and a sticky directory of root's, are no harm.
    let foreign = good("foreign-group");
    chown(&foreign, None, Some(gid + 1)).unwrap();
    assert_eq!(launch(bed, &[&root], &foreign), Ok(7));
    mode(&foreign, 0o664);
    assert_refused(bed, &[&root], &foreign, &[&format!("can be written by group {}", gid + 1)]);
    mode(&foreign, 0o644);
    let sticky = good("sticky");
    mode(sticky.parent().unwrap(), 0o1777);
    assert_eq!(launch(bed, &[&root], &sticky), Ok(7));
    chown(&sticky, Some(uid), None).unwrap();
    assert_refused(bed, &[&root], &sticky, &[&owned]);
    // A name in the root for a file that the worker has kept.
    let kept = bed.images().join("kept");
    fs::copy(bed.probe(), &kept).unwrap();
    chown(&kept, Some(uid), Some(gid)).unwrap();
    let named = foreign.with_file_name("hard-link");
    fs::hard_link(&kept, &named).unwrap();
    assert_refused(bed, &[&root], &named, &[&owned]);
    // Without image roots nobody asks.
    assert_eq!(launch(bed, &[], &named), Ok(7));
}

/// Whom nobody is named by.
const UNNAMED: u32 = u32::MAX;

/// Entries of tag, permissions and id, as the kernel takes them (<linux/posix_acl_xattr.h>).
fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

/// A list for the file's owner, one further entry, the group, a mask and all others, in the
/// kernel's order.
fn acl(tag: u16, permissions: u16, id: u32, mask: u16) -> Vec<u8> {
    let mut entries = [(1, 6, UNNAMED), (4, 4, UNNAMED), (tag, permissions, id), (16, mask, UNNAMED), (32, 4, UNNAMED)];
    entries.sort_by_key(|entry| entry.0);
    list(&entries)
}

fn an_access_control_list_that_lets_the_worker_write_is_seen(bed: &Bed) {
    const USER: u16 = 2;
    const GROUP: u16 = 8;
    let root = bed.images();
    let set = |path: &Path, list: &str, value: &[u8]| {
        setxattr(path, list, value, XattrFlags::empty())
            .unwrap_or_else(|errno| panic!("the images' file system takes access control lists: {errno}"));
    };
    let (uid, gid) = WORKER;
    let access = "system.posix_acl_access";
    let layer = image_in(bed, "acl/below");
    let parent = layer.parent().unwrap();
    let by_user = format!("can be written by the worker's user {uid} by its access control list");
    let by_group = format!("can be written by the worker's group {gid} by its access control list");
    set(&layer, access, &acl(USER, 6, uid, 6));
    assert_refused(bed, &[&root], &layer, &[&format!("'{}' {by_user}", layer.display())]);
    set(&layer, access, &acl(GROUP, 6, gid, 6));
    assert_refused(bed, &[&root], &layer, &[&by_group]);
    // Bounded by the mask; to read; for root, when the mode's bits for the group are the mask and
    // mean nobody.
    for harmless in [acl(USER, 6, uid, 4), acl(USER, 4, uid, 6), acl(USER, 6, 0, 6)] {
        set(&layer, access, &harmless);
        assert_eq!(launch(bed, &[&root], &layer), Ok(7));
    }
    set(&layer, access, &acl(USER, 6, uid + 1, 6));
    assert_refused(bed, &[&root], &layer, &[&format!("can be written by user {} by its access control list", uid + 1)]);
    set(&layer, access, &acl(GROUP, 6, gid + 1, 6));
    assert_refused(bed, &[&root], &layer, &[&format!("can be written by group {}", gid + 1)]);
    // A list of very many, of whom the worker is the last.
    let users = (uid - 999..=uid).map(|user| (USER, 6, user));
    let around = [(4, 6, UNNAMED), (16, 6, UNNAMED), (32, 4, UNNAMED)];
    let long: Vec<_> = [(1, 6, UNNAMED)].into_iter().chain(users).chain(around).collect();
    set(&layer, access, &list(&long));
    assert_refused(bed, &[&root], &layer, &[&by_user]);
    rustix::fs::removexattr(&layer, access).unwrap();
    mode(&layer, 0o644);
    set(parent, access, &acl(USER, 7, uid, 7));
    assert_refused(bed, &[&root], &layer, &[&format!("'{}' {by_user}", parent.display())]);
    rustix::fs::removexattr(parent, access).unwrap();
    mode(parent, 0o755);
    // What new files would get is not what this one has.
    set(parent, "system.posix_acl_default", &acl(USER, 7, uid, 7));
    assert_eq!(launch(bed, &[&root], &layer), Ok(7));
}

/// Somebody else than the worker could change it for the worker, who is a friend.
fn a_layer_of_a_third_user_is_refused_unless_that_is_an_owner_of_images(bed: &Bed) {
    const BUILDER: u32 = 4800;
    let (root, owners) = (bed.images(), [BUILDER.to_string()]);
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    let why = format!("belongs to user {BUILDER}, who is neither root nor an owner of images");
    for level in 0..2 {
        let layer = image_in(bed, &format!("third-{level}/below"));
        let culprit = layer.ancestors().nth(level).unwrap();
        chown(culprit, Some(BUILDER), None).unwrap();
        assert_refused(bed, &[&root], &layer, &[&format!("'{}' {why}", culprit.display())]);
        assert_eq!(launch_owned(bed, &[&root], &owners, &layer), Ok(7));
        assert!(launch_owned(bed, &[&root], &["4801"], &layer).is_err());
        mode(culprit, 0o775);
        chown(culprit, None, Some(BUILDER)).unwrap();
        let refusal = launch_owned(bed, &[&root], &owners, &layer).unwrap_err();
        assert!(refusal.contains(&format!("can be written by group {BUILDER}")), "{refusal}");
    }
    // An owner of images that is the worker is a worker all the same.
    let layer = image_in(bed, "own/below");
    chown(&layer, Some(WORKER.0), None).unwrap();
    let refusal = launch_owned(bed, &[&root], &[&WORKER.0.to_string()], &layer).unwrap_err();
    assert!(refusal.contains("belongs to the worker's user"), "{refusal}");
}

/// From when it still could be opened so: mode and owner tell nothing of it.
fn a_layer_that_somebody_has_open_for_writing_is_refused(bed: &Bed) {
    let layer = image_in(bed, "img");
    assert_eq!(launch(bed, &[&bed.images()], &layer), Ok(7));
    let writer = File::options().append(true).open(&layer).unwrap();
    assert_refused(bed, &[&bed.images()], &layer, &["is open for writing"]);
    drop(writer);
    let reader = File::open(&layer).unwrap();
    assert_eq!(launch(bed, &[&bed.images()], &layer), Ok(7), "readers are no harm");
    drop(reader);
    // Who may not ask the kernel is told so.
    chown(&layer, Some(4800), None).unwrap();
    let root = text(&bed.images());
    let flags = ["--detach", "--name", "worker", "--image-root", &root, "--image-owner", "4800"];
    let call = bed.run_layers(&[text(&layer)], &flags, &["/bin/probe", "exit", "0"]);
    call.under(&["setpriv", "--bounding-set", "-lease"]).ok();
    let notes = bed.worker("worker").inspect()["notes"].to_string();
    assert!(notes.contains("is open for writing: fcntl(F_SETLEASE)"), "{notes}");
    assert_eq!(bed.worker("worker").wait(), 0);
}

/// By the descriptor of a process that has it open still. Another name, outside, is none that the
/// path tells of.
fn a_layer_without_a_name_is_refused(bed: &Bed) {
    let layer = image_in(bed, "img");
    let file = File::open(&layer).unwrap();
    let link = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
    assert_eq!(launch(bed, &[&bed.images()], &link), Ok(7), "a descriptor is as good as the name");
    let second_name = layer.parent().unwrap().join("second-name");
    fs::hard_link(&layer, &second_name).unwrap();
    fs::remove_file(&layer).unwrap();
    assert_refused(bed, &[&bed.images()], &link, &["deleted"]);
    // Another file of the very name that the kernel shows for the deleted one.
    fs::copy(&second_name, layer.with_file_name("layer (deleted)")).unwrap();
    assert_refused(bed, &[&bed.images()], &link, &["another file than the one that was opened"]);
    fs::remove_file(&second_name).unwrap();
    assert_refused(bed, &[&bed.images()], &link, &["another file than the one that was opened"]);
}

fn an_image_root_that_is_none_is_a_clear_error(bed: &Bed) {
    let layer = image_in(bed, "img");
    let missing = bed.images().join("missing");
    let refusal = launch(bed, &[&bed.images(), &missing], &layer).unwrap_err();
    assert!(refusal.contains(&format!("image root '{}'", missing.display())), "{refusal}");
    let dotted = bed.images().join("img/../img");
    assert!(launch(bed, &[&dotted], &layer).unwrap_err().contains("image roots"));
}

/// The program that opened them may have done so as the user, and long ago.
fn the_library_checks_layers_that_were_opened_before(bed: &Bed) {
    let (inside, beside) = (image_in(bed, "img"), image_in(bed, "img2"));
    let user = Identity::new(WORKER.0, WORKER.1, []).unwrap();
    let builder = LaunchSpec::builder("worker").layers([&inside, &beside]).args(["/bin/probe"]).user(user);
    let spec = builder.cgroup(format!("{}/worker", bed.cgroup())).build().unwrap();
    let opened = OpenedSpec::open_as(&spec, &spec.user).unwrap();
    let squall = bed.library().image_roots([inside.parent().unwrap()]).build().unwrap();
    let error = squall.launch_opened(opened, squall::Stdio::null().unwrap()).unwrap_err();
    assert_eq!((error.kind(), error.problems().len()), (ErrorKind::Invalid, 1), "{error}");
    assert_eq!(error.problems()[0].field, "layers[1]");
    assert!(!bed.run_root().exists());
    let none = bed.library().image_roots(Vec::<PathBuf>::new()).build().unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Invalid, "an empty list is none that allows everything: {none}");
}
