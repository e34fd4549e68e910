//! `ps --resources`: who has which processors and memory, and what is free.

use serde_json::json;
use squall::cgroup::CpuList;
use squall::{Held, Resources, Result, Squall};

use crate::print;

/// Prints it, for a person or as JSON.
pub fn list(squall: &Squall, as_json: bool) -> Result<i32> {
    let resources = squall.resources()?;
    if as_json {
        say!("{}", json!(resources));
        return Ok(0);
    }
    let rows: Vec<_> = resources.containers.iter().map(row).collect();
    print::table(["ID", "CPUS", "FOR ITSELF", "NODES", "MEMORY PROMISED"], &rows);
    free(&resources);
    Ok(0)
}

fn row(held: &Held) -> [String; 5] {
    [
        held.id.clone(),
        known(held.cpus.as_ref()),
        if held.exclusive { "yes" } else { "no" }.to_owned(),
        known(held.nodes.as_ref()),
        if held.promised_bytes == 0 { "-".to_owned() } else { print::bytes(held.promised_bytes) },
    ]
}

fn free(resources: &Resources) {
    for node in &resources.nodes {
        say!("free of node {}: CPUs {} of {}", node.node, known(node.free_cpus.as_ref()), known(node.cpus.as_ref()));
    }
    let (free, all) = (resources.free_memory_bytes, resources.memory_capacity_bytes);
    say!("free to promise: {} of {}", print::bytes(free), print::bytes(all));
}

fn known(list: Option<&CpuList>) -> String {
    list.map_or("-".to_owned(), CpuList::to_string)
}
