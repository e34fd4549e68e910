//! Archives as `docker save` writes them, and podman, buildah and skopeo.
//!
//! The file `manifest.json` lists images, each with the paths of its config and its layers. The
//! archive has no manifest as registries have it: one is made, Docker's, whose layers are the
//! uncompressed tars by the digests in the config. Its bytes follow from the config and the
//! layers' sizes alone.

mod list;
mod read;
mod write;

#[cfg(fuzzing)]
pub(crate) use list::choose;
pub(crate) use read::Archive;
pub(crate) use write::ArchiveSink;

#[cfg(test)]
mod tests;
