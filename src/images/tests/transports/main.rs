//! Transports against real programs: skopeo, podman, buildah and docker's registry, and against
//! servers that break.

mod archives;
mod image;
mod logins;
mod proxied;
mod registry;
mod servers;
mod tls;
mod tools;
mod unreliable;
