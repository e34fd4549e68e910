//! `squall image`: images of the local store, where they come from and where they go.

mod build;
mod change;
mod launch;
mod list;
mod progress;
mod pull;
mod push;

use std::num::NonZero;
use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use squall_images::Error;
use squall_images::convert::{Compression, ConvertOptions};
use squall_images::manifest::Platform;
use squall_images::store::Store;
use squall_images::transport::{Access, Credentials};

pub use launch::{LaunchImage, with_user};
pub use pull::Policy;

/// Manage images
#[derive(Debug, Args)]
pub struct Image {
    #[command(flatten)]
    pub store: StoreFlag,

    #[command(subcommand)]
    pub command: ImageCommand,
}

/// The local store.
#[derive(Debug, Clone, Args)]
pub struct StoreFlag {
    /// Image store, as Apache Storm reads it [default: /var/lib/squall/images; of an unprivileged
    /// user $XDG_DATA_HOME/squall/images]
    #[arg(long, global = true, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Pull images from a registry or an archive, and convert their layers to squashfs
    Pull(pull::Pull),
    /// Push an image to a registry or an archive, with its squashfs layers as they are
    Push(push::Push),
    /// Make an image of directories and tar archives
    Build(build::Build),
    /// List images
    #[command(visible_alias = "list")]
    Ls(list::Ls),
    /// Display an image: manifest, config, layers, origin
    Inspect(list::Inspect),
    /// Give an image further names
    Tag(change::Tag),
    /// Take names from an image; all of them unless some are named
    Untag(change::Untag),
    /// Remove images with all their names, and layers that no other image uses
    Rm(change::Rm),
    /// Read images again and compare them with their digests
    Verify(change::Verify),
    /// Remove what belongs to no image: layers, configs, unfinished files
    Prune(change::Prune),
    /// Copy an image to another store
    Copy(change::Copy),
    /// Make an empty store
    Bootstrap,
}

/// How registries are reached, as podman has it.
#[derive(Debug, Clone, Default, Args)]
pub struct AccessFlags {
    /// File with credentials [default: those of podman and docker]
    #[arg(long, value_name = "FILE")]
    pub authfile: Option<PathBuf>,
    /// Credentials for the registry
    #[arg(long, value_name = "USER:PASSWORD")]
    pub creds: Option<Credentials>,
    /// Directory with the registry's CA (*.crt) and client certificates
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// Require TLS with a valid certificate; false also allows plain HTTP, which is otherwise for
    /// registries on this machine
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, default_value_t = true, default_missing_value = "true", require_equals = true)]
    pub tls_verify: bool,
}

impl AccessFlags {
    fn access(&self) -> Access {
        Access {
            authfile: self.authfile.clone(),
            credentials: self.creds.clone(),
            cert_dir: self.cert_dir.clone(),
            tls_verify: self.tls_verify,
            ..Access::default()
        }
    }
}

/// How layers are written.
#[derive(Debug, Clone, Default, Args)]
pub struct WriterFlags {
    /// Compression of layers: zstd[:LEVEL], gzip[:LEVEL], lz4, xz or none
    #[arg(long, value_name = "COMPRESSION", default_value = "zstd:3")]
    pub compression: Compression,
    /// Bytes of a block of squashfs: a power of two from 4096 to 1048576
    #[arg(long, value_name = "BYTES", default_value_t = 131_072)]
    pub block_size: u32,
    /// Threads that compress [default: one for each CPU]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZero<usize>>,
}

impl WriterFlags {
    fn options(&self) -> ConvertOptions {
        let mut options =
            ConvertOptions { compression: self.compression, block_size: self.block_size, ..ConvertOptions::default() };
        if let Some(threads) = self.threads {
            options.threads = threads;
        }
        options
    }
}

impl StoreFlag {
    fn directory(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(Store::default_directory)
    }

    fn open(&self) -> Result<Store, Error> {
        Store::open(self.directory())
    }

    fn create(&self) -> Result<Store, Error> {
        Store::create(self.directory())
    }
}

/// Runs the command; the answer is the exit code.
pub fn run(image: &Image) -> i32 {
    let done = match &image.command {
        ImageCommand::Pull(arguments) => pull::run(&image.store, arguments),
        ImageCommand::Push(arguments) => push::run(&image.store, arguments),
        ImageCommand::Build(arguments) => build::run(&image.store, arguments),
        ImageCommand::Ls(arguments) => list::ls(&image.store, arguments),
        ImageCommand::Inspect(arguments) => list::inspect(&image.store, arguments),
        ImageCommand::Tag(arguments) => change::tag(&image.store, arguments),
        ImageCommand::Untag(arguments) => change::untag(&image.store, arguments),
        ImageCommand::Rm(arguments) => change::rm(&image.store, arguments),
        ImageCommand::Verify(arguments) => change::verify(&image.store, arguments),
        ImageCommand::Prune(arguments) => change::prune(&image.store, arguments),
        ImageCommand::Copy(arguments) => change::copy(&image.store, arguments),
        ImageCommand::Bootstrap => image.store.create().map(|store| {
            say!("{}", store.directory().display());
            0
        }),
    };
    done.unwrap_or_else(|error| report(&error))
}

fn report(error: &Error) -> i32 {
    tell!("{error}");
    crate::OWN_ERROR
}

/// Does something with each name, whatever comes of the others; the exit code.
fn with_each(names: &[String], mut act: impl FnMut(&str) -> Result<(), Error>) -> i32 {
    names.iter().fold(0, |code, name| match act(name) {
        Ok(()) => code,
        Err(error) => report(&error),
    })
}

fn platform(text: Option<&Platform>) -> Platform {
    text.cloned().unwrap_or_else(Platform::host)
}
