//! What all containers of a run root use, by one look at each.

use crate::cgroup::Layout;
use crate::container::ContainerUsage;
use crate::error::Result;
use crate::runtime::Listing;

impl Listing {
    /// What each living container of the listing uses now, in its order: those that are created,
    /// running or paused. The layout of the machine's cgroups is that of the listing, and each file
    /// of a cgroup is read once. One that has ended since, or ends while it is read, is left out.
    ///
    /// ```no_run
    /// # fn main() -> squall::Result<()> {
    /// let squall = squall::Squall::builder().build()?;
    /// for reading in squall.containers()?.usages()? {
    ///     println!("{}: {:?} bytes", reading.id, reading.usage.memory_current_bytes);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`System`](crate::ErrorKind::System) where `/proc` cannot be read or a cgroup cannot be
    /// opened.
    pub fn usages(&self) -> Result<Vec<ContainerUsage>> {
        let detected;
        let layout = match &self.layout {
            Some(layout) => layout,
            None => {
                detected = Layout::detect()?;
                &detected
            }
        };
        let readings = self.containers.iter().map(|container| container.usage_in(layout).transpose());
        readings.flatten().collect()
    }
}
