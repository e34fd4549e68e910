//! Limits of containers that name none.

use serde::{Deserialize, Serialize};

use crate::cgroup::{Controller, Layout, Limits};
use crate::error::Result;
use crate::request::LaunchSpec;

/// What a container is limited to whose spec does not say. For programs that launch for others. A
/// limit whose controller the machine lacks is left out; the record has the limits as they were
/// applied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultLimits {
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Memory in bytes; not for a spec that says how much memory and swap together.
    pub memory_bytes: Option<u64>,
}

impl DefaultLimits {
    /// The spec with what it does not say.
    pub(crate) fn complete(self, spec: &LaunchSpec, layout: &Layout) -> Result<LaunchSpec> {
        let limits = self.beside(&spec.limits, layout);
        if limits == spec.limits {
            return Ok(spec.clone());
        }
        let mut fields = spec.clone().into_fields();
        fields.limits = limits;
        LaunchSpec::try_from(fields)
    }

    fn beside(self, asked: &Limits, layout: &Layout) -> Limits {
        let offered = |controller| layout.holder(controller).is_some();
        let mut limits = asked.clone();
        if offered(Controller::Pids) {
            limits.pids = limits.pids.or(self.pids);
        }
        if offered(Controller::Memory) && limits.memory_swap_bytes.is_none() {
            limits.memory_bytes = limits.memory_bytes.or(self.memory_bytes);
        }
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::{Hierarchy, Kind, SwapLimit};

    fn layout(controllers: &[&str]) -> Layout {
        let controllers = controllers.iter().map(|name| (*name).to_owned()).collect();
        let kind = Kind::V2 { controllers };
        Layout::new(vec![Hierarchy { mount_point: "/m".into(), root: "/".into(), kind }], "/proc")
    }

    #[test]
    fn what_a_spec_names_stays_and_what_the_machine_lacks_is_left_out() {
        let defaults = DefaultLimits { pids: Some(10), memory_bytes: Some(1 << 30) };
        let both = layout(&["pids", "memory"]);
        let found = |asked: &Limits, layout: &Layout| {
            let limits = defaults.beside(asked, layout);
            (limits.pids, limits.memory_bytes)
        };
        assert_eq!(found(&Limits::none(), &both), (Some(10), Some(1 << 30)));
        assert_eq!(found(&Limits::none(), &layout(&["memory"])), (None, Some(1 << 30)));
        assert_eq!(found(&Limits::none(), &layout(&["pids"])), (Some(10), None));
        let named = Limits { pids: Some(3), memory_bytes: Some(1 << 20), ..Limits::none() };
        assert_eq!(found(&named, &both), (Some(3), Some(1 << 20)));
        let swap = Limits { memory_swap_bytes: Some(SwapLimit::Total(1 << 20)), ..Limits::none() };
        assert_eq!(found(&swap, &both), (Some(10), None));
    }
}
