//! The image of `squall run`: what it says about the launch where the flags say nothing.

use std::path::{Path, PathBuf};

use squall::request::{BadValue, Identity, LaunchSpec};
use squall::{Error, Problem, Result, Squall};
use squall_images::manifest::parse_config;
use squall_images::run_config::RunConfig;
use squall_images::store::Store;
use squall_images::{ErrorKind, user};

use super::StoreFlag;
use super::pull::{self, Policy};
use crate::args::Run;
use crate::request::AUTO;

/// What files of one layer are called. Other names are those of images, unless they are paths.
const FILE_SUFFIXES: [&str; 5] = [".sqsh", ".squashfs", ".sfs", ".erofs", ".img"];

/// An image of the store, as far as a launch has to know it.
#[derive(Debug, Clone)]
pub struct LaunchImage {
    /// Its layers, base first.
    pub layers: Vec<PathBuf>,
    /// How it runs.
    pub config: RunConfig,
}

impl LaunchImage {
    /// The image that the command line names; `None` where it names files.
    ///
    /// # Errors
    /// What the store or the pull says.
    pub fn of(run: &Run) -> Result<Option<LaunchImage>> {
        LaunchImage::by(run, run.pull)
    }

    /// The same, without pulling anything.
    ///
    /// # Errors
    /// What the store says.
    pub fn in_store(run: &Run) -> Result<Option<LaunchImage>> {
        LaunchImage::by(run, Policy::Never)
    }

    fn by(run: &Run, policy: Policy) -> Result<Option<LaunchImage>> {
        let Some(name) = named(run) else { return Ok(None) };
        let failed = |error: squall_images::Error| {
            Error::invalid("command line", vec![Problem { field: "IMAGE".to_owned(), reason: error.to_string() }])
        };
        match load(&run.store, name, policy) {
            Err(error) if error.kind() == ErrorKind::NotFound && Path::new(name).is_file() => Ok(None),
            image => image.map(Some).map_err(failed),
        }
    }

    /// One that stands in for what is not there yet, so that everything else can be checked first.
    pub fn stand_in(run: &Run) -> Option<LaunchImage> {
        named(run)?;
        let config = RunConfig { cmd: Some(vec!["/".to_owned()]), ..RunConfig::default() };
        Some(LaunchImage { layers: vec![PathBuf::from("/image")], config })
    }

    /// The program and its arguments, where the caller gives these.
    pub fn arguments(&self, entrypoint: Option<&[String]>, given: Vec<String>) -> Vec<String> {
        let config = &self.config;
        let mut words = entrypoint.or(config.entrypoint.as_deref()).unwrap_or_default().to_vec();
        match given.is_empty() {
            false => words.extend(given),
            // Another entrypoint has other arguments.
            true if entrypoint.is_none() => words.extend(config.cmd.iter().flatten().cloned()),
            true => {}
        }
        words
    }

    /// The user that flags or image name, to be found in the image's own files, with the field that
    /// names it; `None` where neither does, or where the container is to have one of its own.
    pub fn user_to_find<'a>(&'a self, run: &'a Run) -> Option<(&'a str, &'static str)> {
        let of_image = || Some((self.config.user.as_deref()?, "IMAGE: User"));
        let named = run.user.as_deref().map(|user| (user, "--user")).or_else(of_image);
        named.filter(|(user, _)| !user.is_empty() && *user != AUTO)
    }
}

/// The first word, where it may name an image.
fn named(run: &Run) -> Option<&str> {
    if !run.layers.is_empty() || run.spec.is_some() {
        return None;
    }
    let name = run.rest.first()?.to_str()?;
    let is_path = name.starts_with(['/', '.']) || FILE_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    (!is_path && !name.is_empty()).then_some(name)
}

fn load(flag: &StoreFlag, name: &str, policy: Policy) -> std::result::Result<LaunchImage, squall_images::Error> {
    let found = |store: Store| {
        let digest = store.find(name)?;
        image_of(&store, &digest)
    };
    if policy != Policy::Always {
        match flag.open().and_then(found) {
            Err(error) if error.kind() == ErrorKind::NotFound && policy == Policy::Missing => {}
            known => return known,
        }
        // A file may be called anything.
        if Path::new(name).is_file() {
            return Err(pull::not_asked(name));
        }
    }
    let (store, digest) = pull::by_child(flag, name)?;
    image_of(&store, &digest)
}

fn image_of(
    store: &Store,
    digest: &squall_images::digest::Digest,
) -> std::result::Result<LaunchImage, squall_images::Error> {
    let manifest = store.manifest(digest)?;
    let config = store.config(&manifest.config.digest)?;
    let name = manifest.config.digest.to_string();
    parse_config(&config, &name)?;
    let layers = manifest.layers.iter().map(|layer| store.layer_path(&layer.digest)).collect();
    Ok(LaunchImage { layers, config: RunConfig::parse(&config, &name)? })
}

/// The spec with the user of this name, by the image's own files.
///
/// # Errors
/// `Invalid` where the image has no such user, else as [`Squall::image_files`].
pub fn with_user(squall: &Squall, spec: LaunchSpec, name: &str, field: &str) -> Result<LaunchSpec> {
    let invalid = |reason: String| Error::invalid("command line", vec![BadValue::new(reason).at(field)]);
    let found = match user::by_numbers(name) {
        Some(found) => found,
        None => {
            let files = squall.image_files(&spec, &["/etc/passwd", "/etc/group"])?;
            let mut files = files.into_iter().map(Option::unwrap_or_default);
            let (passwd, group) = (files.next().unwrap_or_default(), files.next().unwrap_or_default());
            user::find(name, &passwd, &group).map_err(invalid)?
        }
    };
    let identity = Identity::new(found.uid, found.gid, found.groups).map_err(|bad| invalid(bad.to_string()))?;
    let mut fields = spec.into_fields();
    fields.user = identity;
    LaunchSpec::try_from(fields)
}
