//! Log lines on standard error, as Python's logging writes them: `INFO: text`.

use std::sync::atomic::{AtomicU8, Ordering};

use clap::ValueEnum;

/// How much is logged; one includes those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Level {
    /// What the program decides by
    Debug,
    /// What it does
    Info,
    /// What is not as it should be
    Warning,
    /// Why it fails
    Error,
    /// Nothing but that
    Critical,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// From now on lines below this level are left out.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// One line. Control characters, which names may have, are shown and not sent.
pub fn line(level: Level, name: &str, text: std::fmt::Arguments<'_>) {
    if level as u8 >= LEVEL.load(Ordering::Relaxed) {
        let text: String = text.to_string().chars().flat_map(shown).collect();
        eprintln!("{name}: {text}");
    }
}

fn shown(c: char) -> Vec<char> {
    if c.is_control() { c.escape_default().collect() } else { vec![c] }
}

macro_rules! debug {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Debug, "DEBUG", format_args!($($text)*)) };
}

macro_rules! info {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Info, "INFO", format_args!($($text)*)) };
}

macro_rules! warning {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Warning, "WARNING", format_args!($($text)*)) };
}

macro_rules! error {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Error, "ERROR", format_args!($($text)*)) };
}
