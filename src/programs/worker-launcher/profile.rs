//! What the commands that profile a worker have in common: the profiler and its arguments.

use std::path::Path;

use crate::Launcher;
use crate::exit::{Code, Failure, Result};
use crate::first_line::{self, Reader};

/// The key of the only program that is ever run for profiling.
pub const KEY: &str = "worker.profiler.script.path";

/// The words of the profiler's command, for an exec without a shell: its path as configured, which
/// leads to it inside the container, and the words of the first line of a file, which is read as
/// the user.
///
/// The line has passed through a file that the user can write to (`worker.pid`), so it gives no
/// options and nothing that a shell script could trip over.
///
/// # Errors
/// `Other` without a profiler or with a word that is refused, `OpenFile`, `ReadFile`.
pub fn profile_arguments(launcher: &Launcher, file: &Path) -> Result<Vec<String>> {
    let profiler = launcher.config.path(KEY).map_err(|failure| Failure { code: Code::Other, ..failure })?;
    let profiler =
        profiler.ok_or_else(|| Failure { code: Code::Other, ..launcher.config.wrong(KEY, "it is missing") })?;
    let line = first_line::read(&Reader { identity: &launcher.user.identity, code: Code::Other }, file, |_| Ok(()))?;
    let words =
        words(&line).map_err(|problem| Failure::new(Code::Other, format!("'{}': {problem}", file.display())))?;
    let own = profiler.to_string_lossy().into_owned();
    Ok(std::iter::once(own).chain(words.into_iter().map(str::to_owned)).collect())
}

/// The words between blanks.
fn words(line: &str) -> std::result::Result<Vec<&str>, String> {
    let words: Vec<&str> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    match words.iter().find(|word| !is_harmless(word)) {
        None => Ok(words),
        Some(word) => {
            Err(format!("'{word}' is refused: letters, digits and /._-+%:@=, make a word, and no '-' begins it"))
        }
    }
}

fn is_harmless(word: &str) -> bool {
    !word.starts_with('-') && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+%:@=,".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_storm_writes_are_the_words() {
        let line = " 24 jstack /a/workers-artifacts/topo%20x-1-1700000000/6700";
        assert_eq!(words(line).unwrap(), ["24", "jstack", "/a/workers-artifacts/topo%20x-1-1700000000/6700"]);
        assert_eq!(words("\t 1 \t kill ").unwrap(), ["1", "kill"]);
        assert!(words("").unwrap().is_empty());
    }

    #[test]
    fn what_a_shell_would_act_on_is_refused() {
        for word in [
            "1;id", "$(id)", "`id`", "a|b", "a&b", "a>b", "*", "?", "~root", "'a'", "\"a\"", "a\\b", "#", "ä", "a\rb",
            "-x",
        ] {
            assert!(words(&format!("24 {word} /a")).is_err(), "{word:?}");
        }
    }
}
