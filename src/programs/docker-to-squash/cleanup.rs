//! The cleanup: images that have had no tag for long go, in three steps that each take their time.
//!
//! | state | tag | marker | manifest's mode | when the marker is old enough |
//! |---|---|---|---|---|
//! | tagged | yes | | | the marker goes, the mode is 444 again, at once |
//! | untagged | no | no | | a marker is made, at once |
//! | stale | no | yes | another | the mode becomes that of the dead, the marker is new again |
//! | dead | no | yes | `--dead-perms` | the image goes, with layers that no other image uses |
//!
//! The marker is an empty file in `unreferenced`, and its time of modification is what counts. A
//! manifest with the mode of the dead cannot be read by workers' nodes any more, so that whoever
//! still uses the image notices while it can be tagged again.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use squall_images::digest::Digest;
use squall_images::store::layout::{self, UNREFERENCED};
use squall_images::store::new_file;
use squall_images::{Error, Result, Step};

use crate::args::Common;
use crate::places;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Tagged,
    Untagged,
    Stale { age: Duration },
    Dead { age: Duration },
}

/// What is done for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Revive,
    Mark,
    Bury,
    Remove,
    Wait,
}

impl State {
    fn act(self, transition: Duration) -> Act {
        match self {
            State::Tagged => Act::Revive,
            State::Untagged => Act::Mark,
            State::Stale { age } if age >= transition => Act::Bury,
            State::Dead { age } if age >= transition => Act::Remove,
            State::Stale { .. } | State::Dead { .. } => Act::Wait,
        }
    }
}

/// One step for each image of the store. Nobody changes tags or removes images meanwhile.
pub fn run(common: &Common) -> Result<()> {
    let store = places::open(common, &common.hdfs_root)?;
    let changing = store.change()?;
    let tags = store.tags()?.tags;
    for digest in store.digests()? {
        let is_tagged = tags.entries().contains_key(&digest.hex());
        let state = state(store.directory(), &digest, is_tagged, common.dead_perms)?;
        let act = state.act(common.untagged_transition_sec);
        debug!("{}: {state:?}, {act:?}", digest.hex());
        match act {
            Act::Revive => changing.revive(&digest)?,
            Act::Mark => {
                info!("Image {} has no tag: marking it", digest.hex());
                mark(store.directory(), &digest)?;
            }
            Act::Bury => {
                info!("Image {} has had no tag for long: closing it", digest.hex());
                set_mode(&layout::manifest(store.directory(), &digest), common.dead_perms)?;
                mark(store.directory(), &digest)?;
            }
            Act::Remove => {
                let removed = changing.remove(&digest)?;
                info!("Removed image {} and {} layers", digest.hex(), removed.layers.len());
            }
            Act::Wait => {}
        }
    }
    Ok(())
}

fn state(top: &Path, digest: &Digest, is_tagged: bool, dead_mode: u32) -> Result<State> {
    if is_tagged {
        return Ok(State::Tagged);
    }
    let Some(marker) = metadata(&layout::marker(top, digest))? else { return Ok(State::Untagged) };
    // One from the future is new.
    let age = marker.modified().ok().and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default();
    let mode = metadata(&layout::manifest(top, digest))?.map(|manifest| manifest.permissions().mode() & 0o7777);
    Ok(if mode == Some(dead_mode) { State::Dead { age } } else { State::Stale { age } })
}

/// A marker whose time is now.
fn mark(top: &Path, digest: &Digest) -> Result<()> {
    new_file::directory(&top.join(UNREFERENCED))?;
    new_file::NewFile::create(top)?.replace(&layout::marker(top, digest))
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    let set = fs::set_permissions(path, Permissions::from_mode(mode));
    set.map_err(|error| Error::system(Step::Store, path.display(), "chmod", error))
}

fn metadata(path: &Path) -> Result<Option<fs::Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::system(Step::Store, path.display(), "stat", error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_takes_its_time() {
        let (young, old, transition) = (Duration::from_secs(9), Duration::from_secs(10), Duration::from_secs(10));
        for (state, act) in [
            (State::Tagged, Act::Revive),
            (State::Untagged, Act::Mark),
            (State::Stale { age: young }, Act::Wait),
            (State::Stale { age: old }, Act::Bury),
            (State::Dead { age: young }, Act::Wait),
            (State::Dead { age: old }, Act::Remove),
        ] {
            assert_eq!(state.act(transition), act, "{state:?}");
        }
    }
}
