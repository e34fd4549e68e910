//! What keeper and embedder both know: where everything is, and what is drawn.

use std::process::Command;
use std::time::Duration;

use runtime_tests::bed::add_probe;
use runtime_tests::{Bed, roles};
use serde_json::json;
use squall::cgroup::{Limits, SwapLimit};
use squall::request::{Identity, LaunchSpec, Seccomp};
use squall::squashfs::Attributes;
use squall::{Spawner, Squall};

use crate::Outcome;
use crate::plan::{FORBIDDEN, FOREIGN, Fate, Plan};

/// The role of the embedder.
pub const EMBEDDER: &str = "embedder";

/// The limit that [`Fate::OutOfMemory`] exceeds.
const MEMORY_BYTES: u64 = 32 << 20;

/// The user, and its group.
const USER: u32 = 65534;

/// Passed from the keeper to each embedder on its command line.
#[derive(Debug, Clone)]
pub struct Ground {
    pub run_root: String,
    pub cgroup: String,
    pub monitors: String,
    /// Base first.
    pub layers: Vec<String>,
    pub seed: u64,
    pub workers: u64,
    pub alive: usize,
}

impl Ground {
    /// Writes the image into the bed.
    pub fn make(bed: &Bed, seed: u64, workers: u64, alive: u16) -> Ground {
        let base = bed.image("base", |writer| add_probe(writer, "bin/probe", 0o755));
        // An ELF file of another machine: only the kernel's exec tells.
        let top = bed.image("top", |writer| {
            let file = writer.file(&FOREIGN[1..], &Attributes::new(0o755), &b"\x7fELF\x02\x01\x01 of nowhere"[..]);
            file.expect("an image in memory");
        });
        Ground {
            run_root: runtime_tests::bed::text(&bed.run_root()),
            cgroup: bed.cgroup(),
            monitors: bed.monitors(),
            layers: vec![base, top],
            seed,
            workers,
            alive: alive.into(),
        }
    }

    /// A call of the embedder.
    pub fn embedder(&self, refused: &[u64]) -> Command {
        let refused: Vec<String> = refused.iter().map(u64::to_string).collect();
        let numbers = [self.seed, self.workers, self.alive as u64].map(|number| number.to_string());
        let mut command = roles::command(EMBEDDER);
        command.args([&self.run_root, &self.cgroup, &self.monitors]).args(numbers).arg(refused.join(","));
        command.args(&self.layers);
        command
    }

    /// What such a call was given, and whose launch was refused before.
    pub fn from_args(args: &[String]) -> Outcome<(Ground, Vec<u64>)> {
        let [run_root, cgroup, monitors, seed, workers, alive, refused, layers @ ..] = args else {
            return Err("an embedder is started by its keeper".into());
        };
        let refused = refused.split(',').filter(|number| !number.is_empty()).map(str::parse).collect::<Result<_, _>>();
        let ground = Ground {
            run_root: run_root.clone(),
            cgroup: cgroup.clone(),
            monitors: monitors.clone(),
            layers: layers.to_vec(),
            seed: seed.parse()?,
            workers: workers.parse()?,
            alive: alive.parse()?,
        };
        Ok((ground, refused?))
    }

    /// The library on this ground.
    pub fn library(&self, spawner: Option<Spawner>) -> Outcome<Squall> {
        let builder = Squall::builder().run_root(&self.run_root).monitors(&self.monitors);
        Ok(spawner.into_iter().fold(builder, |builder, spawner| builder.spawner(spawner)).build()?)
    }

    /// The plan of a worker.
    pub fn plan(&self, number: u64) -> Plan {
        Plan::draw(self.seed, number)
    }

    /// The plans of all.
    pub fn plans(&self) -> impl Iterator<Item = Plan> {
        (0..self.workers).map(|number| self.plan(number))
    }

    /// A plan as a request.
    pub fn spec(&self, plan: &Plan) -> Outcome<LaunchSpec> {
        let id = plan.id();
        let builder = LaunchSpec::builder(&id).layers(&self.layers).args(plan.argv());
        let builder = builder.user(Identity::new(USER, USER, [])?).cgroup(format!("{}/{id}", self.cgroup));
        let builder = match plan.fate {
            Fate::OutOfMemory => builder.limits(Limits {
                memory_bytes: Some(MEMORY_BYTES),
                memory_swap_bytes: Some(SwapLimit::Total(MEMORY_BYTES)),
                ..Limits::default()
            }),
            Fate::Deadline { after_ms } => builder.timeout(Duration::from_millis(after_ms)),
            Fate::Filtered => {
                let rules = json!([{ "names": [FORBIDDEN], "action": "SCMP_ACT_KILL_PROCESS" }]);
                let profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
                builder.seccomp(Seccomp::Profile(profile.into()))
            }
            _ => builder,
        };
        Ok(builder.build()?)
    }
}
