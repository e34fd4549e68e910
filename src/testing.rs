//! The machinery behind the library, for the project's own tests: no promise is made for any of it.
//!
//! Only there with the feature `testing`. The tests drive the monitor without a launch, make
//! cgroups without a container, and compare the OCI document with what another runtime makes of it.

/// The monitor's program, what is handed over to it, and what it is asked and answers.
pub mod monitor {
    pub use crate::monitor::{PROGRAM, handover, list, protocol, step};
}

/// Making, entering, ending and removing cgroups.
pub mod cgroup {
    pub use crate::cgroup::machinery::*;
}

/// A seccomp program as the kernel would run it.
pub mod seccomp {
    pub use crate::seccomp::machinery::*;
}

/// The OCI document of a launch.
pub mod oci {
    pub use crate::oci::document;
}
