//! What runs inside a cgroup: this program again, in a role.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use squall::cgroup::*;
use squall::testing::cgroup::*;

use crate::cost::measure;
use crate::ground::{GROUP, LAYOUT, ROLE};

#[test]
#[ignore = "started by the other tests"]
fn the_program_inside() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = CgroupPath::new(std::env::var(GROUP).unwrap()).unwrap();
    let layout: Layout = serde_json::from_str(&std::env::var(LAYOUT).unwrap()).unwrap();
    match role.as_str() {
        "monitor" => return enter_monitors_against_a_remover(&layout, &path),
        "cost" => return measure(&layout, &path),
        _ => {}
    }
    enter(&Cgroup::open(&layout, &path).unwrap());
    match role.as_str() {
        "show" => {
            let memory = vec![1u8; 8 << 20];
            let sum: u64 = (0..20).map(|_| memory.iter().map(|byte| u64::from(*byte)).sum::<u64>()).sum();
            assert_eq!(sum, 20 * (8 << 20));
            print!("\n{}", fs::read_to_string("/proc/self/cgroup").unwrap());
        }
        "wait" => {
            println!("\njoined");
            std::io::stdout().flush().unwrap();
            loop {
                std::thread::park();
            }
        }
        "fork" => {
            let forked = || Command::new("sleep").arg("600").stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let error = (0..100).find_map(|_| forked().err()).expect("the limit was never reached");
            println!("\nrefused {error}");
        }
        "eat" => {
            let memory = vec![1u8; 128 << 20];
            println!("{}", memory.iter().map(|byte| u64::from(*byte)).sum::<u64>());
        }
        "devices" => {
            let open = |path: &str| match fs::File::open(path) {
                Ok(_) => "ok".to_owned(),
                Err(error) => error.raw_os_error().unwrap_or(0).to_string(),
            };
            println!("\nnull={} kmsg={}", open("/dev/null"), open("/dev/kmsg"));
        }
        other => panic!("no role {other}"),
    }
}

pub fn enter(cgroup: &Cgroup) {
    let fds = cgroup.procs_fds(Joining::Everywhere).unwrap();
    if let Err(failure) = place(&fds, 0) {
        panic!("{}", cgroup.join_error(Joining::Everywhere, failure));
    }
}

fn enter_monitors_against_a_remover(layout: &Layout, path: &CgroupPath) {
    let home = path.parent().unwrap().child("home").unwrap();
    let (home, _) = Cgroup::create(layout, &home, &Limits::none()).unwrap();
    for _ in 0..30 {
        enter(&home);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for hierarchy in std::iter::repeat_n(layout.hierarchies(), 3).flatten() {
                    let _ = fs::remove_dir(hierarchy.directory(path));
                }
            });
            join_monitors(layout, path).unwrap_or_else(|error| panic!("{error}"));
        });
    }
    // Where the process is already, nothing is opened or written.
    join_monitors(layout, path).unwrap();
    print!("\n{}", fs::read_to_string("/proc/self/cgroup").unwrap());
}
