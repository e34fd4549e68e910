//! How many layers, and how near they are.

use std::fs;
use std::path::PathBuf;

use runtime_tests::host;
use rustix::mount::{UnmountFlags, unmount};
use squall::Running;

use super::Bench;
use crate::floor::Floor;
use crate::ground::{Ground, pin, remove, remove_running};
use crate::report::{Section, Unit};
use crate::rounds::{Candidate, Value, interleave};
use crate::{Outcome, container, images};

/// How many.
const COUNTS: [usize; 3] = [1, 7, 40];

/// Before the names of the stage alone.
const STAGE: &str = "stage ";

/// Where a launch finds its layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nearness {
    /// Pinned below the run root: cloned.
    Pinned,
    /// Mounted by another container alone: the loop device is mounted once more.
    Mounted,
    /// Nowhere: each is attached to a loop device.
    Cold,
}

impl Nearness {
    fn name(self) -> &'static str {
        match self {
            Nearness::Pinned => "pinned",
            Nearness::Mounted => "mounted, not pinned",
            Nearness::Cold => "to be attached",
        }
    }
}

/// An image that only its own candidate uses.
struct Image {
    nearness: Nearness,
    id: String,
    layers: Vec<String>,
    pins: Vec<PathBuf>,
    /// What keeps its layers mounted.
    holder: Option<Running>,
}

pub fn measure(bench: &mut Bench<'_>) -> Outcome<Vec<Section>> {
    let ground = bench.ground;
    let all = [Nearness::Pinned, Nearness::Mounted, Nearness::Cold].into_iter();
    let pairs = all.flat_map(|nearness| COUNTS.iter().map(move |count| (nearness, *count)));
    let images = pairs.map(|(nearness, count)| Image::make(ground, nearness, count)).collect::<Outcome<Vec<_>>>()?;
    let mut candidates = Vec::new();
    let mut order = Vec::new();
    for count in COUNTS {
        let pinned = images.iter().find(|image| image.nearness == Nearness::Pinned && image.layers.len() == count);
        let pins = &pinned.ok_or("there is a pinned image of each size")?.pins;
        let name = floor_name(count);
        let floor = Floor::new(ground, &format!("layers-floor-{count}"), pins, container::EXIT)?;
        order.push(name.clone());
        candidates.push(Candidate::new(name, move || floor.to_exec()));
    }
    for image in &images {
        order.push(image.name());
        candidates.push(Candidate { name: image.name(), run: Box::new(|| image.launch(ground)) });
    }
    let mut series = interleave(candidates, bench.paced(20), &mut bench.shuffle);
    let stages = series.split_off(STAGE);
    let store = fs::read_dir(ground.bed.run_root().join("layers"))?.count();
    images.into_iter().try_for_each(Image::remove)?;
    let title = "Library call to exec, by layers, paced";
    let floor_of = |row: &str| row.split(' ').next().and_then(|count| count.parse().ok()).map(floor_name);
    let section = Section::new("layers", title, Unit::Microseconds, series, floor_of).in_order_of(&order);
    let title = "The stage 'layers' alone";
    let stages = Section::new("layers-stage", title, Unit::Microseconds, stages, |_| None).in_order_of(&order);
    let store = format!("the store held {store} layers, which attaching one looks through for too many pins");
    Ok(vec![section.note("every ratio is to the floor of as many pinned layers"), stages.note(store)])
}

fn floor_name(count: usize) -> String {
    format!("{count} layers, floor, pinned")
}

impl Image {
    fn make(ground: &Ground, nearness: Nearness, count: usize) -> Outcome<Image> {
        let id = format!("layers-{}-{count}", format!("{nearness:?}").to_lowercase());
        let layers = images::write(&ground.bed, &id, count);
        let argv = if nearness == Nearness::Mounted { container::STAY } else { container::EXIT };
        let running = ground.launch(&format!("{id}-holder"), &layers, argv)?;
        let pins = running.record().layers.iter().map(|layer| pin(&ground.bed.run_root(), &layer.layer_id)).collect();
        let mut image = Image { nearness, id, layers, pins, holder: None };
        match nearness {
            Nearness::Mounted => image.holder = Some(running),
            _ => remove(running)?,
        }
        if nearness != Nearness::Pinned {
            image.unpin()?;
        }
        Ok(image)
    }

    fn name(&self) -> String {
        format!("{} layers, squall, {}", self.layers.len(), self.nearness.name())
    }

    fn launch(&self, ground: &Ground) -> Outcome<Vec<Value>> {
        if self.nearness == Nearness::Cold {
            self.wait_until_detached();
        }
        let running = ground.launch(&self.id, &self.layers, container::EXIT)?;
        let record = running.record();
        let stage = record.stages.iter().find(|time| time.stage == squall::Stage::Layers);
        let values = vec![
            Value { of: self.name(), amount: record.launch_microseconds as f64 },
            Value { of: format!("{STAGE}{}", self.name()), amount: stage.map_or(0.0, |time| time.microseconds as f64) },
        ];
        remove(running)?;
        if self.nearness == Nearness::Cold {
            self.unpin()?;
        }
        Ok(values)
    }

    /// Anybody may take a pin away at any time.
    fn unpin(&self) -> Outcome<()> {
        let unpin =
            |pin: &PathBuf| unmount(pin, UnmountFlags::DETACH).map_err(|errno| format!("{}: {errno}", pin.display()));
        Ok(self.pins.iter().try_for_each(unpin)?)
    }

    /// The kernel frees a loop device some time after its last user.
    fn wait_until_detached(&self) {
        host::until("the cold image's loop devices are free", || {
            let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
            let mut files =
                devices.filter_map(|device| fs::read_to_string(device.path().join("loop/backing_file")).ok());
            (!files.any(|file| self.layers.iter().any(|layer| file.trim_end() == layer))).then_some(())
        });
    }

    fn remove(self) -> Outcome<()> {
        self.holder.map_or(Ok(()), remove_running)?;
        images::remove(&self.layers);
        for pin in self.pins {
            let _ = unmount(&pin, UnmountFlags::DETACH);
        }
        Ok(())
    }
}
