//! A mount table as facts.
//!
//! The kernel lists mounts by the instant of their making, and binds are made before the container
//! in one way and within it in the other. What counts of the order is which mount lies on which,
//! and that is in the table: each has its parent.

use std::collections::BTreeMap;

use super::facts::Facts;

struct Line<'a> {
    id: &'a str,
    parent: &'a str,
    root: &'a str,
    point: &'a str,
    options: &'a str,
    propagation: Vec<&'a str>,
    kind: &'a str,
    source: &'a str,
    superblock: &'a str,
}

/// One fact for each mount: on which it lies, what is mounted and how. Of two at one place the
/// upper one has a `^` behind its name.
pub fn facts(mountinfo: &[String]) -> Facts {
    let lines: Vec<Line<'_>> = mountinfo.iter().map(|line| parse(line)).collect();
    let places: BTreeMap<&str, &str> = lines.iter().map(|line| (line.id, line.point)).collect();
    let mut facts = Facts::new();
    for line in &lines {
        let mut name = format!("mount{}", line.point);
        if line.point != "/" && places.get(line.parent) == Some(&line.point) {
            name.push('^');
        }
        let under = places.get(line.parent).unwrap_or(&"nothing");
        assert!(facts.insert(name.clone(), format!("on {under}: {}", what(line))).is_none(), "three mounts at {name}");
    }
    facts
}

fn what(line: &Line<'_>) -> String {
    let propagation = if line.propagation.is_empty() { "private".to_owned() } else { line.propagation.join(" ") };
    // Where an overlay's parts lie is the business of who made it.
    let own = |option: &&str| !["lowerdir", "upperdir", "workdir"].iter().any(|part| option.starts_with(part));
    let superblock: Vec<&str> = line.superblock.split(',').filter(own).collect();
    format!("{} {}[{}] {} {} {}", line.kind, line.source, line.root, line.options, propagation, superblock.join(","))
}

/// A line of `/proc/<pid>/mountinfo`, as proc(5) has it.
fn parse(line: &str) -> Line<'_> {
    let (mount, superblock) = line.split_once(" - ").unwrap_or_else(|| panic!("not a line of mountinfo: {line}"));
    let fields: Vec<&str> = mount.split(' ').collect();
    let [id, parent, _, root, point, options, propagation @ ..] = fields.as_slice() else {
        panic!("a short line: {line}")
    };
    let mut last = superblock.split(' ');
    let mut next = || last.next().unwrap_or_default();
    let (kind, source, superblock) = (next(), next(), next());
    Line { id, parent, root, point, options, propagation: propagation.to_vec(), kind, source, superblock }
}
