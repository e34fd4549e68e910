//! `squall image build`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use squall_images::assemble::{BuildOptions, BuiltLayer};
use squall_images::manifest::Platform;
use squall_images::{Error, Step};

use super::{StoreFlag, WriterFlags};
use crate::print;

/// The largest file of `--config` that is read.
const MAX_CONFIG: u64 = 1 << 20;

#[derive(Debug, Args)]
#[command(
    after_help = "The layer of a directory has its files as they are: owners, modes, times, hard links and extended attributes. A \
                        squashfs file is taken as it is. The same content gives the same image, with the same digest."
)]
pub struct Build {
    /// Directory, tar archive (plain, gzip or zstd) or squashfs file of a layer, base first.
    /// Repeatable
    #[arg(short, long = "layer", value_name = "DIR|TAR|SQSH", required = true)]
    pub layers: Vec<PathBuf>,
    /// Name for the image. Repeatable
    #[arg(short, long = "tag", value_name = "TAG", required = true)]
    pub tags: Vec<String>,
    /// JSON file with the image's config, in OCI's words: {"Entrypoint": ["/bin/app"], "User": "app"}
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Word of the command that the image runs. Repeatable
    #[arg(long, value_name = "WORD")]
    pub entrypoint: Vec<String>,
    /// Argument of it where the caller gives none. Repeatable
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub cmd: Vec<String>,
    /// Environment variable. Repeatable
    #[arg(short, long, value_name = "K=V")]
    pub env: Vec<String>,
    /// User: name or uid, and group
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Signal that asks it to end
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// What the image runs on [default: this machine's platform]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub platform: Option<Platform>,
    #[command(flatten)]
    pub writer: WriterFlags,
    /// Print only the digest
    #[arg(short, long)]
    pub quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

pub fn run(flag: &StoreFlag, build: &Build) -> Result<i32, Error> {
    let config = config(build)?;
    let store = flag.create()?;
    let options = BuildOptions {
        layers: build.layers.clone(),
        config,
        platform: super::platform(build.platform.as_ref()),
        convert: build.writer.options(),
        tags: build.tags.clone(),
    };
    let (digest, layers) = squall_images::assemble::build(&store, &options)?;
    if build.json {
        let layer = |layer: &BuiltLayer| {
            json!({
                "path": layer.path,
                "digest": layer.digest,
                "squashfs_size": layer.squashfs_size,
                "notes": layer.notes,
            })
        };
        say!("{}", json!({ "digest": digest, "layers": layers.iter().map(layer).collect::<Vec<_>>() }));
        return Ok(0);
    }
    for layer in layers.iter().filter(|_| !build.quiet) {
        tell!("layer {} of {}: {}", layer.digest, layer.path.display(), print::bytes(layer.squashfs_size));
        layer.notes.iter().for_each(|note| tell!("layer {}: {note}", layer.digest));
    }
    say!("{digest}");
    Ok(0)
}

/// What the file says, and the flags over it.
fn config(build: &Build) -> Result<Value, Error> {
    let mut config = match &build.config {
        Some(path) => read(path)?,
        None => Map::new(),
    };
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            config.insert(name.to_owned(), value);
        }
    };
    let words = |words: &[String]| (!words.is_empty()).then(|| json!(words));
    set("Entrypoint", words(&build.entrypoint));
    set("Cmd", words(&build.cmd));
    set("Env", words(&build.env));
    set("User", build.user.as_ref().map(|user| json!(user)));
    set("WorkingDir", build.workdir.as_ref().map(|path| json!(path)));
    set("StopSignal", build.stop_signal.as_ref().map(|signal| json!(signal)));
    let config = Value::Object(config);
    // What could not be run is refused while somebody can mend it.
    let text = json!({ "config": config }).to_string();
    squall_images::run_config::RunConfig::parse(text.as_bytes(), "--config")?;
    Ok(config)
}

fn read(path: &PathBuf) -> Result<Map<String, Value>, Error> {
    use std::io::Read;
    let failed = |call| move |error| Error::system(Step::Request, path.display(), call, error);
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(failed("open"))?;
    file.take(MAX_CONFIG).read_to_end(&mut text).map_err(failed("read"))?;
    serde_json::from_slice(&text).map_err(|error| Error::invalid(Step::Request, path.display(), error.to_string()))
}
