//! `squall doctor`: what the library of this program finds, printed.

use std::path::{Path, PathBuf};

use serde_json::json;
use squall::Result;
use squall_cli::doctor::{Question, examine, storm};

use crate::args::Doctor;
use crate::commands::absolute;
use crate::print;

/// Examines the machine; the exit code is the verdict's.
pub fn run(run_root: &Path, arguments: &Doctor) -> Result<i32> {
    let program = std::env::current_exe().unwrap_or_else(|_| "squall".into());
    let file = |flag, path: &Option<PathBuf>| path.as_deref().map(|path| absolute(flag, path)).transpose();
    let storm = storm::Asked {
        config: file("--config", &arguments.config)?,
        launcher: file("--launcher", &arguments.launcher)?,
        user: arguments.user.clone(),
    };
    let question = Question {
        run_root: &absolute("--root", run_root)?,
        program: &program,
        storm: arguments.storm.then_some(&storm),
    };
    let report = examine(&question, |finding| {
        if !arguments.json {
            print::examined(finding);
        }
    });
    if arguments.json {
        say!("{}", json!(report));
    } else {
        say!("");
        say!("{}", print::verdict(report.verdict));
    }
    Ok(report.verdict.exit_code())
}
