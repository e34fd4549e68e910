//! The command line, as Storm's script has it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::log::Level;

/// Convert docker images to squashfs layers, manifests and configs, as Apache Storm's workers use
/// them.
#[derive(Debug, Parser)]
#[command(name = "docker-to-squash", version, about, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,

    #[command(subcommand)]
    pub command: Command,
}

/// Options of every sub-command. They may stand before it and after it.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Directory in which pull-build leaves images for push-update; if it exists, a child
    /// docker-to-squash of it
    #[arg(long, global = true, value_name = "DIR", default_value = "dts-work-dir")]
    pub working_dir: PathBuf,
    /// Accepted for the script's sake: nothing is copied by skopeo
    #[arg(long, global = true, value_name = "FORMAT", default_value = "dir")]
    pub skopeo_format: String,
    /// Where images are pulled from, in skopeo's words: docker, docker-archive, oci, oci-archive, dir
    #[arg(long, global = true, value_name = "FORMAT", default_value = "docker")]
    pub pull_format: String,
    /// Logging level
    #[arg(short, long, global = true, value_enum, value_name = "LEVEL", default_value = "info", ignore_case = true)]
    pub log: Level,
    /// Store: file:///DIRECTORY
    #[arg(long, global = true, value_name = "URL", default_value = "/runc-root")]
    pub hdfs_root: String,
    /// Name of the tag file in the store
    #[arg(long, global = true, value_name = "NAME", default_value = "image-tag-to-hash", value_parser = file_name)]
    pub image_tag_to_hash: String,
    /// Replication of uploaded files; without effect in a local directory
    #[arg(short, long, global = true, value_name = "N", default_value_t = 3)]
    pub replication: u16,
    /// Accepted for the script's sake: no program of Hadoop's is needed
    #[arg(long, global = true, value_name = "DIR", env = "HADOOP_PREFIX")]
    pub hadoop_prefix: Option<PathBuf>,
    /// Pull, convert and upload what is in the store already
    #[arg(short, long, global = true)]
    pub force: bool,
    /// Refuse images none of whose layers has the magic file
    #[arg(long, global = true)]
    pub check_magic_file: bool,
    /// The magic file
    #[arg(long, global = true, value_name = "PATH", default_value = "etc/dockerfile-version")]
    pub magic_file: String,
    /// Maximum number of layers of an image
    #[arg(long, global = true, value_name = "N", default_value_t = 37)]
    pub max_layers: usize,
    /// Maximum size of an image's layers, compressed as they are in the registry, in bytes
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 10 << 30)]
    pub max_size: u64,
    /// How long each state of the cleanup lasts
    #[arg(long, global = true, value_name = "SECONDS", default_value = "604800", value_parser = seconds)]
    pub untagged_transition_sec: Duration,
    /// Mode of the manifest of an image that the cleanup is about to remove
    #[arg(long, global = true, value_name = "MODE", default_value = "400", value_parser = mode)]
    pub dead_perms: u32,
    /// Make the store's directories and tag file first
    #[arg(short, long, global = true)]
    pub bootstrap: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Pull images, build their squashfs layers, put them into the store and update the tag file
    PullBuildPushUpdate(Images),
    /// Pull images and build their squashfs layers, in the working directory
    PullBuild(Images),
    /// Put what pull-build has made into the store, and update the tag file
    PushUpdate(Images),
    /// Remove images (manifest, config, layers that no other image uses) by tag or hash
    RemoveImage(ImagesOrTags),
    /// Take tags from the tag file
    RemoveTag(Tags),
    /// Give images further tags
    AddTag(Images),
    /// Copy images from one store to another, and update the tag file there
    CopyUpdate(Copy),
    /// Print the paths of manifest, config and layers of tags
    QueryTag(Tags),
    /// Print the tag file
    ListTags,
    /// Make the store's directories and tag file
    Bootstrap,
    /// Remove, step by step, images that have had no tag for long
    Cleanup,
}

#[derive(Debug, Args)]
pub struct Images {
    /// Image, or its tag or hash for add-tag, and its tags
    #[arg(value_name = "IMAGE,TAG[,TAG…]", required = true)]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ImagesOrTags {
    /// Tags, or hashes of manifests
    #[arg(value_name = "TAG|HASH[,…]", required = true)]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Tags {
    /// Tags
    #[arg(value_name = "TAG[,TAG…]", required = true)]
    pub tags: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Copy {
    /// Store to copy from
    pub src_root: String,
    /// Store to copy to
    pub dest_root: String,
    /// Tag of the image there, and its tags here [default: the same]
    #[arg(value_name = "IMAGE[,TAG…]", required = true)]
    pub images: Vec<String>,
}

fn file_name(text: &str) -> Result<String, String> {
    match text {
        "" | "." | ".." => Err("a file name is wanted".to_owned()),
        text if text.contains('/') => Err("a file name is wanted, without '/'".to_owned()),
        text => Ok(text.to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_secs).map_err(|_| "a number of seconds is wanted".to_owned())
}

fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| "an octal mode is wanted, as 400".to_owned())
}
