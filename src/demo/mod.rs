//! demo
/// The probe: a static program that tells what it finds in its container. Its subcommands stand in `probe.rs`.
pub const PROBE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/squall-probe"));
/// Report.
#[derive(Debug, serde::Serialize)]
pub struct Report {}
impl Report {
    /// x
    pub fn passed(&self) -> bool { true }
}
/// run
pub fn run() -> crate::Result<Report> { Ok(Report{}) }
