//! `squall image ls` and `inspect`.

use std::collections::BTreeSet;

use clap::Args;
use serde_json::{Value, json};
use squall_images::digest::Digest;
use squall_images::store::{Image, Layer, Store};
use squall_images::{Error, Step};

use super::StoreFlag;
use crate::print;

#[derive(Debug, Args)]
pub struct Ls {
    /// Print only the digests
    #[arg(short, long)]
    pub quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Inspect {
    /// Print JSON (always so: for scripts that say it)
    #[arg(long)]
    pub json: bool,
    /// Image names
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
}

/// Images that cannot be read are named, and are the exit code.
pub fn ls(flag: &StoreFlag, ls: &Ls) -> Result<i32, Error> {
    let store = flag.open()?;
    warn_unread(&store)?;
    let digests = store.digests()?;
    if ls.quiet {
        digests.iter().for_each(|digest| say!("{digest}"));
        return Ok(0);
    }
    let mut code = 0;
    let mut images = Vec::new();
    for digest in &digests {
        match store.image(digest) {
            Ok(image) => images.push(image),
            Err(error) => code = super::report(&error),
        }
    }
    if ls.json {
        say!("{}", Value::Array(images.iter().map(summary).collect()));
        return Ok(code);
    }
    let mut rows: Vec<[String; 4]> = images.iter().flat_map(rows).collect();
    rows.sort();
    print::table(["TAG", "DIGEST", "LAYERS", "SIZE"], &rows);
    Ok(code)
}

/// Lines of the tag file that say nothing are worth a word.
fn warn_unread(store: &Store) -> Result<(), Error> {
    for line in store.tags()?.unread {
        tell!("warning: line {line} of the store's tag file is no entry");
    }
    Ok(())
}

/// A line for each name.
fn rows(image: &Image) -> Vec<[String; 4]> {
    let tags = match image.tags.is_empty() {
        true => BTreeSet::from(["<none>".to_owned()]),
        false => image.tags.clone(),
    };
    let digest: String = image.digest.hex().chars().take(12).collect();
    let row = |tag: String| [tag, digest.clone(), image.layers.len().to_string(), print::bytes(image.size())];
    tags.into_iter().map(row).collect()
}

fn summary(image: &Image) -> Value {
    json!({ "digest": image.digest, "tags": image.tags, "layers": image.layers.len(), "size_bytes": image.size() })
}

pub fn inspect(flag: &StoreFlag, inspect: &Inspect) -> Result<i32, Error> {
    let store = flag.open()?;
    let mut found = Vec::new();
    let code = super::with_each(&inspect.images, |name| {
        found.push(described(&store, &store.find(name)?)?);
        Ok(())
    });
    print::lines(format_args!("{:#}", Value::Array(found)));
    Ok(code)
}

fn described(store: &Store, digest: &Digest) -> Result<Value, Error> {
    let image = store.image(digest)?;
    let parse = |bytes: &[u8]| -> Result<Value, Error> {
        serde_json::from_slice(bytes).map_err(|error| Error::invalid(Step::Store, digest, error.to_string()))
    };
    let layer = |layer: &Layer| -> Result<Value, Error> {
        Ok(json!({
            "digest": layer.blob.digest,
            "path": layer.path,
            "size_bytes": layer.size,
            "description": store.layer_description(&layer.blob.digest)?,
        }))
    };
    let layers = image.layers.iter().map(layer).collect::<Result<Vec<_>, _>>()?;
    Ok(json!({
        "digest": image.digest,
        "tags": image.tags,
        "size_bytes": image.size(),
        "origin": image.origin,
        "manifest": parse(&image.manifest.bytes)?,
        "config": parse(&store.config(&image.manifest.config.digest)?)?,
        "layers": layers,
    }))
}
