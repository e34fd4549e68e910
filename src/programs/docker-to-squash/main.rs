//! `docker-to-squash`: the command line of Apache Storm's `docker-to-squash.py`, on Squall's image
//! store. It converts docker images to squashfs layers, manifests and configs in a store, and keeps
//! the tag file and the cleanup of that store.
//!
//! Needs neither root nor skopeo, tar, mksquashfs or Hadoop's programs. What it logs goes to standard
//! error as the script's does; what was asked for (`list-tags`, `query-tag`) goes to standard output.
//! Exit code 0 when everything was done, 1 otherwise, 2 for a wrong command line.

#[macro_use]
mod log;

mod args;
mod cleanup;
mod images;
mod magic;
mod places;
mod tags;

use clap::Parser;

use args::{Cli, Command};

fn main() {
    let cli = Cli::parse();
    log::set_level(cli.common.log);
    let done = match &cli.command {
        Command::PullBuildPushUpdate(images) => images::pull_build_push_update(&cli.common, &images.images),
        Command::PullBuild(images) => images::pull_build(&cli.common, &images.images),
        Command::PushUpdate(images) => images::push_update(&cli.common, &images.images),
        Command::CopyUpdate(copy) => images::copy_update(&cli.common, copy),
        Command::RemoveImage(images) => images::remove(&cli.common, &images.images),
        Command::AddTag(images) => tags::add(&cli.common, &images.images),
        Command::RemoveTag(tags) => tags::remove(&cli.common, &tags.tags),
        Command::QueryTag(tags) => tags::query(&cli.common, &tags.tags),
        Command::ListTags => tags::list(&cli.common),
        Command::Bootstrap => places::create(&cli.common, &cli.common.hdfs_root).map(drop),
        Command::Cleanup => cleanup::run(&cli.common),
    };
    if let Err(error) = done {
        error!("{error}");
        std::process::exit(1);
    }
}
