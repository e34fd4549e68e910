//! The archive's `manifest.json`.

use serde::{Deserialize, Serialize};

use crate::error::{Cause, Error, Result, Step};
use crate::reference::Reference;
use crate::transport::ArchiveImage;

/// The most images of an archive.
const IMAGES: usize = 1024;

/// An image of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Item {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    #[serde(default)]
    pub(super) layers: Option<Vec<String>>,
}

impl Item {
    fn tags(&self) -> impl Iterator<Item = &str> {
        self.repo_tags.iter().flatten().map(String::as_str)
    }

    /// Its tags that are names of images.
    pub(super) fn familiar_tags(&self) -> Vec<String> {
        self.tags().filter_map(|tag| Some(tag.parse::<Reference>().ok()?.familiar())).collect()
    }
}

/// Reads the list and chooses an image.
pub(crate) fn choose(bytes: &[u8], image: &ArchiveImage, name: &str) -> Result<Item> {
    let mut items: Vec<Item> = serde_json::from_slice(bytes)
        .map_err(|error| Error::invalid(Step::Resolve, name, format!("manifest.json: {error}")))?;
    if items.len() > IMAGES {
        let cause = Cause::Limit { what: format!("manifest.json: {} images", items.len()), limit: IMAGES as u64 };
        return Err(Error::new(Step::Resolve, name, cause));
    }
    let missing = |what: String| Error::new(Step::Resolve, name, Cause::NotFound(what));
    let index = match image {
        ArchiveImage::Only if items.len() > 1 => {
            let reason = format!("the archive has {} images; name one of {}", items.len(), tags(&items));
            return Err(Error::invalid(Step::Resolve, name, reason));
        }
        ArchiveImage::Only => 0,
        ArchiveImage::At(index) => *index,
        ArchiveImage::Tagged(wanted) => {
            let is_it = |tag: &str| tag.parse::<Reference>().is_ok_and(|reference| reference == *wanted);
            let found = items.iter().position(|item| item.tags().any(is_it));
            found.ok_or_else(|| missing(format!("{}; the archive has {}", wanted.familiar(), tags(&items))))?
        }
    };
    match index < items.len() {
        true => Ok(items.swap_remove(index)),
        false => Err(missing(format!("image @{index}; the archive has {} images", items.len()))),
    }
}

/// Some of the tags, for an error.
fn tags(items: &[Item]) -> String {
    let tags: Vec<String> =
        items.iter().flat_map(Item::tags).take(8).map(|tag| tag.chars().take(256).collect::<String>()).collect();
    if tags.is_empty() { "@0 and so on: they have no tags".to_owned() } else { format!("{tags:?}") }
}

/// A list of one image.
pub(super) fn of_one(item: Item) -> Vec<u8> {
    serde_json::to_vec(&[item]).unwrap_or_else(|_| unreachable!("strings are written as JSON"))
}
