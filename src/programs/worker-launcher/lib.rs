//! What of the setuid program can be fed by itself: the parser of the text that reaches docker.
//!
//! For the program and for the fuzz targets.

pub mod docker_line;
