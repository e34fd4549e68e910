//! The capabilities that a launch needs. Owns their list and the check for them; runs in the
//! caller.

use caps::CapSet;
pub use caps::Capability;

use crate::error::{Error, ErrorKind, LackedCapability, Result};
use crate::request::Network;
use crate::stage::Stage;

/// The capabilities that every launch needs, each with what for.
pub const NEEDED: [(Capability, &str); 8] = [
    (Capability::CAP_SYS_ADMIN, "mounts and namespaces"),
    (Capability::CAP_SETUID, "the worker's user"),
    (Capability::CAP_SETGID, "the worker's groups"),
    (Capability::CAP_SETPCAP, "dropping capabilities"),
    (Capability::CAP_MKNOD, "the devices in /dev"),
    (Capability::CAP_CHOWN, "owners of files"),
    (Capability::CAP_DAC_OVERRIDE, "files of others"),
    (Capability::CAP_KILL, "signals to workers"),
];

/// The capability that a network of the container's own needs besides, and what for.
pub const LOOPBACK: (Capability, &str) = (Capability::CAP_NET_ADMIN, "the loopback device of a network of its own");

/// Checks that the calling thread may launch a container with this network.
///
/// # Errors
/// [`ErrorKind::Privilege`] names every capability that is missing. [`ErrorKind::System`] where the
/// kernel does not say.
pub fn check(network: Network) -> Result<()> {
    let object = "this process";
    let held = caps::read(None, CapSet::Effective)
        .map_err(|error| Error::found(ErrorKind::System, Stage::Request, object, "capget", error.to_string()))?;
    let missing: Vec<LackedCapability> = NEEDED
        .iter()
        .chain((network == Network::None).then_some(&LOOPBACK))
        .filter(|(capability, _)| !held.contains(capability))
        .map(|(capability, purpose)| LackedCapability::new(capability.to_string(), *purpose))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::lacking_capabilities(Stage::Request, object, "capget", missing))
}
