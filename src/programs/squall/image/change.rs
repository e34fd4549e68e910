//! Commands that change the store, or see whether it is sound.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use squall_images::digest::Digest;
use squall_images::store::{Store, Verified, tags};
use squall_images::{Error, Step};

use super::StoreFlag;
use crate::print;

#[derive(Debug, Args)]
pub struct Tag {
    /// Image name
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Further names; one that another image has is taken from it
    #[arg(value_name = "TAG", required = true)]
    pub tags: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Untag {
    /// Image name
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The names to take
    #[arg(value_name = "TAG")]
    pub tags: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Rm {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Image names
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Verify {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Image names [default: all]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Prune {
    /// Remove images without a tag as well
    #[arg(short, long)]
    pub all: bool,
    /// Show what would be removed
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Copy {
    /// Name for the image there, in place of the one given here. Repeatable
    #[arg(short, long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Copy layers that are there already
    #[arg(short, long)]
    pub force: bool,
    /// Image name
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// The other store, made if it is not there
    #[arg(value_name = "STORE")]
    pub to: PathBuf,
}

pub fn tag(flag: &StoreFlag, tag: &Tag) -> Result<i32, Error> {
    for name in &tag.tags {
        tags::check(name).map_err(|reason| Error::invalid(Step::Request, "TAG", reason))?;
    }
    let store = flag.open()?;
    let changing = store.change()?;
    // Under the lock: nobody removes it meanwhile.
    let digest = store.find(&tag.image)?;
    let hash = digest.hex();
    changing.revive(&digest)?;
    changing.tags(|tags| {
        tag.tags.iter().for_each(|name| drop(tags.assign(name, &hash)));
        Ok(())
    })?;
    Ok(0)
}

pub fn untag(flag: &StoreFlag, untag: &Untag) -> Result<i32, Error> {
    let store = flag.open()?;
    let changing = store.change()?;
    let hash = store.find(&untag.image)?.hex();
    changing.tags(|tags| {
        if untag.tags.is_empty() {
            tags.remove_image(&hash);
            return Ok(());
        }
        for name in &untag.tags {
            if tags.hash_of(name) != Some(&hash) {
                return Err(Error::invalid(Step::Tag, name, format!("{} does not have this name", untag.image)));
            }
            tags.remove(name);
        }
        Ok(())
    })?;
    Ok(0)
}

pub fn rm(flag: &StoreFlag, rm: &Rm) -> Result<i32, Error> {
    let store = flag.open()?;
    Ok(super::with_each(&rm.images, |name| {
        let changing = store.change()?;
        let digest = store.find(name)?;
        let removed = changing.remove(&digest)?;
        if rm.json {
            say!("{}", json!({ "digest": digest, "tags": removed.tags, "layers": removed.layers }));
        } else {
            removed.tags.iter().for_each(|tag| say!("untagged {tag}"));
            removed.layers.iter().for_each(|layer| say!("removed layer {layer}"));
            say!("removed {digest}");
        }
        Ok(())
    }))
}

/// What is damaged makes the exit code 1.
pub fn verify(flag: &StoreFlag, verify: &Verify) -> Result<i32, Error> {
    let store = flag.open()?;
    let all: Vec<String> = store.digests()?.iter().map(Digest::to_string).collect();
    let names = if verify.images.is_empty() { &all } else { &verify.images };
    let mut damaged = false;
    let code = super::with_each(names, |name| {
        let verified = verify_one(&store, name, verify.json)?;
        damaged |= !verified.damage.is_empty();
        Ok(())
    });
    Ok(if code == 0 && damaged { 1 } else { code })
}

fn verify_one(store: &Store, name: &str, json: bool) -> Result<Verified, Error> {
    let digest = store.find(name)?;
    let verified = store.verify(&digest)?;
    if json {
        let damage = verified.damage.iter().map(|damage| json!({ "path": damage.path, "reason": damage.reason }));
        say!(
            "{}",
            json!({
                "digest": digest,
                "files": verified.files,
                "bytes": verified.bytes,
                "undescribed": verified.undescribed,
                "damage": damage.collect::<Vec<_>>(),
            })
        );
        return Ok(verified);
    }
    for damage in &verified.damage {
        say!("{}: {}", damage.path.display(), damage.reason);
    }
    for layer in &verified.undescribed {
        tell!("warning: layer {layer}: nothing is on record about it, so it was not compared");
    }
    let result = if verified.damage.is_empty() { "sound" } else { "damaged" };
    say!("{name}: {result}, {} files, {}", verified.files, print::bytes(verified.bytes));
    Ok(verified)
}

pub fn prune(flag: &StoreFlag, prune: &Prune) -> Result<i32, Error> {
    let store = flag.open()?;
    let pruned = store.change()?.prune(prune.all, prune.dry_run)?;
    if prune.json {
        let images = &pruned.images;
        say!("{}", json!({ "images": images, "files": pruned.files, "bytes": pruned.bytes, "dry_run": prune.dry_run }));
        return Ok(0);
    }
    let verb = if prune.dry_run { "would remove" } else { "removed" };
    pruned.images.iter().for_each(|image| say!("{verb} image {image}"));
    pruned.files.iter().for_each(|file| say!("{verb} {}", file.display()));
    say!("{verb} {}", print::bytes(pruned.bytes));
    Ok(0)
}

pub fn copy(flag: &StoreFlag, copy: &Copy) -> Result<i32, Error> {
    let store = flag.open()?;
    let digest = store.find(&copy.image)?;
    let to = Store::create(&copy.to)?;
    let same = vec![copy.image.clone()];
    let tags = if copy.tags.is_empty() { &same } else { &copy.tags };
    let copied = squall_images::copy::copy(&store, &digest, &to, tags, copy.force)?;
    tell!("copied {} layers, {}", copied.layers, print::bytes(copied.bytes));
    say!("{digest}");
    Ok(0)
}
