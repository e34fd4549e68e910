//! Man pages and shell completions, from the command line's own definition: they cannot say anything
//! else than `--help`.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use squall::{Context, Result, Stage};

use crate::args::Cli;

/// Writes a man page for the program and each of its commands, and completions for three shells.
pub fn write(directory: &Path) -> Result<()> {
    let failed =
        |call: &'static str| move |error: std::io::Error| squall::Error::system(Stage::Request, "pages", call, error);
    std::fs::create_dir_all(directory).at(Stage::Request, directory.display(), "mkdir")?;
    clap_mangen::generate_to(Cli::command(), directory).map_err(failed("write(man pages)"))?;
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let completions = clap_complete::generate_to(shell, &mut Cli::command(), "squall", directory);
        completions.map(drop).map_err(failed("write(completions)"))?;
    }
    Ok(())
}
