//! How a pull goes on: bars on a terminal, a line for each layer elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use squall_images::manifest::Blob;
use squall_images::pull::{Progress, PulledLayer};

use crate::print;

/// Who sees it.
pub struct Shown {
    to: To,
    bars: MultiProgress,
    layers: Mutex<Vec<ProgressBar>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Nobody,
    Terminal,
    Lines,
}

impl Shown {
    pub fn new(quiet: bool) -> Shown {
        let to = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => To::Nobody,
            (false, true) => To::Terminal,
            (false, false) => To::Lines,
        };
        let target = if to == To::Terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Shown { to, bars: MultiProgress::with_draw_target(target), layers: Mutex::default() }
    }

    /// Leaves the terminal as it is then.
    pub fn end(&self) {
        for bar in self.layers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            bar.abandon();
        }
    }

    fn bar(&self, layer: usize) -> Option<ProgressBar> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).get(layer).cloned()
    }
}

impl Progress for Shown {
    fn begin(&self, layers: &[Blob]) {
        let style =
            ProgressStyle::with_template("{prefix} {bar:24} {bytes:>11} / {total_bytes:<11} {bytes_per_sec:>12} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |blob: &Blob| {
            let bar = self.bars.add(ProgressBar::new(blob.size)).with_style(style.clone());
            bar.with_prefix(short(blob))
        };
        self.end();
        *self.layers.lock().unwrap_or_else(PoisonError::into_inner) = layers.iter().map(bar).collect();
    }

    fn bytes(&self, layer: usize, more: u64) {
        if let Some(bar) = self.bar(layer) {
            bar.inc(more);
        }
    }

    fn done(&self, layer: usize, pulled: &PulledLayer) {
        let what = match pulled.was_there {
            true => "is in the store".to_owned(),
            false => format!("{} of squashfs", print::bytes(pulled.squashfs_size)),
        };
        if let Some(bar) = self.bar(layer) {
            bar.finish_with_message(what.clone());
        }
        if self.to == To::Lines {
            tell!("layer {} of {}: {what}", pulled.digest, print::bytes(pulled.blob_size));
        }
        for note in pulled.notes.iter().filter(|_| self.to != To::Nobody) {
            self.bars.suspend(|| tell!("layer {}: {note}", pulled.digest));
        }
    }
}

/// What tells layers apart on a screen: docker's twelve digits.
fn short(blob: &Blob) -> String {
    blob.digest.hex().chars().take(12).collect()
}
