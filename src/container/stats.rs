//! What a running container uses.

use super::Running;
use crate::cgroup::{Layout, Usage};
use crate::error::Result;

impl Running {
    /// What it uses now.
    pub fn usage(&self) -> Result<Usage> {
        Ok(Usage::read(&Layout::detect()?, &self.cgroup()?))
    }
}
