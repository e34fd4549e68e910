//! `squall image pull`, and the pull of `squall run`.

use std::num::NonZero;
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};
use serde_json::json;
use squall_images::digest::Digest;
use squall_images::pull::{PullOptions, Pulled, PulledLayer};
use squall_images::reference::Reference;
use squall_images::store::{Store, layout};
use squall_images::transport::{Access, Transport};
use squall_images::{Cause, Error, Step};

use super::progress::Shown;
use super::{AccessFlags, StoreFlag, WriterFlags};

#[derive(Debug, Args)]
#[command(
    after_help = "SOURCE is docker://NAME[:TAG|@DIGEST] (also without docker://), docker-archive:FILE[:NAME], oci:DIRECTORY[:TAG], \
                        oci-archive:FILE[:TAG] or dir:DIRECTORY; FILE may be - for standard input. The image gets the name that it has there, unless \
                        --tag gives others. Nothing is unpacked: layers go from the source to squashfs in one pass, without root, and come \
                        out as the same bytes wherever that is done."
)]
pub struct Pull {
    /// Name for the image, in place of the one that it has. Repeatable
    #[arg(short, long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Platform to choose from an image of several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<squall_images::manifest::Platform>,
    #[command(flatten)]
    pub writer: WriterFlags,
    /// Layers that are fetched at a time
    #[arg(short, long, value_name = "N", default_value = "3")]
    pub jobs: NonZero<usize>,
    /// Fetch and convert layers that are in the store already
    #[arg(short, long)]
    pub force: bool,
    /// Print only the digests
    #[arg(short, long)]
    pub quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub access: AccessFlags,
    /// Where the image is. Repeatable
    #[arg(value_name = "SOURCE", required = true)]
    pub sources: Vec<String>,
}

/// When `run` pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// If the store does not have it
    Missing,
    /// Always
    Always,
    /// Never
    Never,
}

pub fn run(flag: &StoreFlag, pull: &Pull) -> Result<i32, Error> {
    let store = flag.create()?;
    let options = PullOptions {
        platform: super::platform(pull.platform.as_ref()),
        convert: pull.writer.options(),
        tags: pull.tags.clone(),
        force: pull.force,
        at_a_time: pull.jobs,
        ..PullOptions::default()
    };
    if pull.sources.len() > 1 && !pull.tags.is_empty() {
        return Err(Error::invalid(Step::Request, "--tag", "one image can have it: name one SOURCE"));
    }
    Ok(super::with_each(&pull.sources, |source| {
        let transport = transport(source)?;
        let pulled = from(&transport, &pull.access.access(), &store, options.clone(), pull.quiet)?;
        if pull.json {
            say!("{}", to_json(&pulled));
        } else {
            say!("{}", pulled.digest);
        }
        Ok(())
    }))
}

fn transport(text: &str) -> Result<Transport, Error> {
    text.parse().map_err(|reason: String| Error::invalid(Step::Request, text, reason))
}

fn from(
    transport: &Transport,
    access: &Access,
    store: &Store,
    mut options: PullOptions,
    quiet: bool,
) -> Result<Pulled, Error> {
    let source = transport.source(access, &store.directory().join(layout::WORKING))?;
    if options.tags.is_empty() {
        options.tags = source.tags();
    }
    let shown = Shown::new(quiet);
    let pulled = squall_images::pull::pull(source.as_ref(), store, &options, &shown);
    shown.end();
    pulled
}

/// The error of an image that the store does not have, and that is not pulled.
pub fn not_asked(name: &str) -> Error {
    Error::new(Step::Resolve, name, Cause::NotFound("in the store".to_owned()))
}

/// Pulls an image by its name in a program of its own: what launches must have one thread.
///
/// # Errors
/// `Network` where that program has failed; it has said why.
pub fn by_child(flag: &StoreFlag, name: &str) -> Result<(Store, Digest), Error> {
    let reference: Reference = name.parse().map_err(|reason: String| Error::invalid(Step::Request, name, reason))?;
    let source = Transport::Registry(reference).to_string();
    let failed = |call| move |error: std::io::Error| Error::system(Step::Fetch, name, call, error);
    let mut program = Command::new("/proc/self/exe");
    program.args(["image", "pull", "--json", "--store"]).arg(flag.directory()).args(["--", &source]);
    let output = program.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(failed("spawn"))?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    match said["digest"].as_str().and_then(|digest| digest.parse().ok()) {
        Some(digest) if output.status.success() => Ok((flag.open()?, digest)),
        _ => Err(Error::new(Step::Fetch, name, Cause::Network(format!("the pull has failed ({})", output.status)))),
    }
}

fn to_json(pulled: &Pulled) -> serde_json::Value {
    let layer = |layer: &PulledLayer| {
        json!({
            "digest": layer.digest,
            "blob_size": layer.blob_size,
            "squashfs_size": layer.squashfs_size,
            "was_there": layer.was_there,
            "notes": layer.notes,
        })
    };
    json!({
        "digest": pulled.digest,
        "source_digest": pulled.source_digest,
        "layers": pulled.layers.iter().map(layer).collect::<Vec<_>>(),
    })
}
