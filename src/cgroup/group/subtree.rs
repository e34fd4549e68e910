//! Handing controllers down to a v2 cgroup.
//!
//! In v2 a cgroup has the files of a controller only when each of its ancestors lists it in
//! `cgroup.subtree_control`. This owns those writes; they stay when the cgroup goes, as others
//! below the same parents may count on them. Used by the launch process.

use rustix::fs::{CWD, OFlags};

use crate::cgroup::explain::explained;
use crate::cgroup::file;
use crate::cgroup::limits::Field;
use crate::cgroup::machine::controller::Controller;
use crate::cgroup::machine::layout::Hierarchy;
use crate::cgroup::path::CgroupPath;
use crate::error::{Error, ErrorKind, Result};
use crate::stage::Stage;

/// Controllers that give numbers worth having even where nothing is limited. A machine that does
/// not hand them down loses those numbers only.
const COUNTING: [Controller; 4] = [Controller::Memory, Controller::Pids, Controller::Cpu, Controller::Io];

/// Makes the controllers that limits need, and those that count, work in the cgroup `path`.
pub(in crate::cgroup) fn enable(
    hierarchy: &Hierarchy,
    path: &CgroupPath,
    needed: &[(Controller, Field)],
) -> Result<()> {
    let needed: Vec<(Controller, Field)> =
        needed.iter().copied().filter(|(controller, _)| hierarchy.has(*controller)).collect();
    let counting: Vec<Controller> = COUNTING.into_iter().filter(|controller| hierarchy.has(*controller)).collect();
    if needed.is_empty() && counting.is_empty() {
        return Ok(());
    }
    // The usual case: the parent handed them down long ago.
    let available = format!("{}/cgroup.controllers", hierarchy.directory(path));
    let mut wanted = needed.iter().map(|(controller, _)| *controller).chain(counting.iter().copied());
    if file::read_short(CWD, &available).is_ok_and(|listed| contains(listed.as_str(), &mut wanted)) {
        return Ok(());
    }
    for ancestor in std::iter::once("").chain(path.ancestors()) {
        hand_down(hierarchy, ancestor, &needed, &counting)?;
    }
    Ok(())
}

fn contains(listed: &str, mut controllers: impl Iterator<Item = Controller>) -> bool {
    controllers.all(|controller| listed.split_ascii_whitespace().any(|word| Some(word) == controller.v2_name()))
}

fn hand_down(
    hierarchy: &Hierarchy,
    ancestor: &str,
    needed: &[(Controller, Field)],
    counting: &[Controller],
) -> Result<()> {
    let failed = |call: &str, errno| {
        let shown = if ancestor.is_empty() { "/" } else { ancestor };
        explained(Error::system(Stage::Cgroup, format!("cgroup '{shown}' cgroup.subtree_control"), call, errno))
    };
    let name = format!("{}/cgroup.subtree_control", hierarchy.below(ancestor));
    let file = match file::open(CWD, &name, OFlags::RDWR) {
        Ok(file) => file,
        Err(_) if needed.is_empty() => return Ok(()),
        Err(errno) => return Err(failed("open", errno)),
    };
    let listed = file::show(&file).map_err(|errno| failed("read", errno))?;
    let (needed, counting) = lacking(listed.as_str(), needed, counting);
    for (controller, field) in needed {
        file::write(&file, &format!("+{controller}")).map_err(|errno| {
            let error = failed(&format!("write(+{controller})"), errno);
            if errno == rustix::io::Errno::NOENT {
                let text = format!("the controller '{controller}', which {field} needs, is not available there");
                return error.with_kind(ErrorKind::Unsupported).explain(text);
            }
            error
        })?;
    }
    for controller in counting {
        let _ = file::write(&file, &format!("+{controller}"));
    }
    Ok(())
}

/// Of the controllers that have to be handed down and of those that should be, the ones that are
/// not yet.
fn lacking(
    listed: &str,
    needed: &[(Controller, Field)],
    counting: &[Controller],
) -> (Vec<(Controller, Field)>, Vec<Controller>) {
    let missing = |controller: Controller| !contains(listed, std::iter::once(controller));
    let needed: Vec<_> = needed.iter().copied().filter(|(controller, _)| missing(*controller)).collect();
    let asked = |controller: Controller| needed.iter().any(|(needed, _)| *needed == controller);
    let counting = counting.iter().copied().filter(|controller| missing(*controller) && !asked(*controller)).collect();
    (needed, counting)
}

/// The writes of [`enable`], file and value, as far as they can be known without making the cgroup.
pub(in crate::cgroup) fn preview(
    hierarchy: &Hierarchy,
    path: &CgroupPath,
    needed: &[(Controller, Field)],
) -> Vec<(String, String)> {
    let needed: Vec<_> = needed.iter().copied().filter(|(controller, _)| hierarchy.has(*controller)).collect();
    let counting: Vec<_> = COUNTING.into_iter().filter(|controller| hierarchy.has(*controller)).collect();
    let mut writes = Vec::new();
    for ancestor in std::iter::once("").chain(path.ancestors()) {
        let file = format!("{}/cgroup.subtree_control", hierarchy.below(ancestor));
        // One that is not there yet will list nothing.
        let listed = file::read_short(CWD, &file).map(|listed| listed.as_str().to_owned()).unwrap_or_default();
        let (needed, counting) = lacking(&listed, &needed, &counting);
        let controllers = needed.into_iter().map(|(controller, _)| controller).chain(counting);
        writes.extend(controllers.map(|controller| (file.clone(), format!("+{controller}"))));
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::fake::FakeTree;

    fn enabled(tree: &FakeTree, limits: &[(Controller, Field)]) -> Result<()> {
        enable(tree.layout().unified().unwrap(), &CgroupPath::new("/a/b").unwrap(), limits)
    }

    fn tree() -> FakeTree {
        let tree = FakeTree::v2("cpuset memory");
        tree.add("/a");
        tree.add("/a/b");
        tree
    }

    #[test]
    fn every_ancestor_and_not_the_group_itself_hands_the_controllers_down() {
        let tree = tree();
        enabled(&tree, &[(Controller::Cpuset, Field::CpusetCpus), (Controller::Pids, Field::Pids)]).unwrap();
        // A plain file keeps the last write over the earlier ones; each is as long as `+memory` at
        // most.
        for (group, text) in [("", "+memory"), ("/a", "+memory"), ("/a/b", "")] {
            assert_eq!(tree.read(group, "cgroup.subtree_control"), text, "{group}");
        }
    }

    #[test]
    fn nothing_is_written_where_the_group_has_them_already() {
        let tree = tree();
        tree.put("/a/b", "cgroup.controllers", "cpuset cpu memory\n");
        enabled(&tree, &[(Controller::Cpuset, Field::CpusetCpus)]).unwrap();
        assert_eq!(tree.read("", "cgroup.subtree_control"), "");
    }

    #[test]
    fn a_refused_controller_is_an_error_only_where_a_limit_needs_it() {
        let tree = tree();
        tree.break_file("", "cgroup.subtree_control");
        enabled(&tree, &[]).unwrap();
        let error = enabled(&tree, &[(Controller::Memory, Field::MemoryBytes)]).unwrap_err();
        assert_eq!((error.object(), error.call()), ("cgroup '/' cgroup.subtree_control", "write(+memory)"));
    }
}
