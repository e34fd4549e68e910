//! `squall image push`.

use clap::Args;
use serde_json::json;
use squall_images::transport::Transport;
use squall_images::{Error, Step};

use super::{AccessFlags, StoreFlag};
use crate::print;

#[derive(Debug, Args)]
#[command(
    after_help = "Layers go as they are, as squashfs (media type application/vnd.squashfs): whoever pulls the image with squall has the same \
                        files, without converting anything. docker and podman do not run such an image. DESTINATION is docker://NAME[:TAG] (also \
                        without docker://), oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG] or dir:DIRECTORY; without it, the registry \
                        that the image's name says."
)]
pub struct Push {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub access: AccessFlags,
    /// Image name
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Where it goes
    #[arg(value_name = "DESTINATION")]
    pub to: Option<String>,
}

pub fn run(flag: &StoreFlag, push: &Push) -> Result<i32, Error> {
    let store = flag.open()?;
    let digest = store.find(&push.image)?;
    let to = push.to.as_ref().unwrap_or(&push.image);
    let transport: Transport = to.parse().map_err(|reason: String| Error::invalid(Step::Request, to, reason))?;
    let mut sink = transport.sink(&push.access.access())?;
    let pushed = squall_images::push::push(&store, &digest, sink.as_mut())?;
    if push.json {
        let layers =
            pushed.layers.iter().map(|(blob, sent)| json!({ "digest": blob.digest, "size": blob.size, "sent": sent }));
        say!("{}", json!({ "digest": pushed.digest, "layers": layers.collect::<Vec<_>>() }));
        return Ok(0);
    }
    for (blob, sent) in &pushed.layers {
        let what = if *sent { "sent" } else { "is there already" };
        tell!("layer {} of {}: {what}", blob.digest, print::bytes(blob.size));
    }
    say!("{}", pushed.digest);
    Ok(0)
}
