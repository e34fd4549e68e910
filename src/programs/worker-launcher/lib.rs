//! What of the setuid program can be fed by itself: the parsers of text that reaches it.
//!
//! For the program and for the fuzz targets.

pub mod config_text;
pub mod docker_line;
