//! A command line that cannot be understood. An option that the program does not have is said to be
//! unknown, with the nearest one.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, Error};
use squall::OneLine;

/// Most slips that still make a word the same word: a letter too many, too few, wrong, or two in
/// the wrong order.
const MAX_SLIPS: usize = 2;

/// Says what is wrong with the command line, or what `--help` and `--version` asked for.
pub fn say(error: &Error, command: &Command) {
    if !error.use_stderr() {
        return drop(error.print());
    }
    match unknown_option(error, command) {
        Some(text) => tell!("{text}"),
        None => without_odd_words(error.render().to_string()).lines().for_each(|line| eprintln!("{}", OneLine(line))),
    }
}

/// The text with what was typed as it may be shown: a line feed in a word is not one of the text's
/// own.
fn without_odd_words(text: String) -> String {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    words
        .filter(|word| word.contains(char::is_control))
        .fold(text, |text, word| text.replace(&word, &OneLine(&word).to_string()))
}

/// What to say of an unknown option; `None` where the error is another.
fn unknown_option(error: &Error, command: &Command) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else { return None };
    if !given.starts_with('-') {
        return None;
    }
    let word = given.split('=').next().unwrap_or(given);
    let command = subcommand(command);
    let hint = match nearest(word, options(command)) {
        Some(option) => format!("did you mean {option}?"),
        None => format!("`squall {} --help` lists all", command.get_name()).replace("squall squall", "squall"),
    };
    Some(format!("unknown option {given}: {hint}"))
}

/// The command that was typed: errors are about its options.
fn subcommand(command: &Command) -> &Command {
    let typed = std::env::args_os().find_map(|word| command.find_subcommand(&word));
    typed.unwrap_or(command)
}

fn options(command: &Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
    let names = shown.flat_map(|argument| argument.get_long_and_visible_aliases().unwrap_or_default());
    names.map(|name| format!("--{name}")).collect()
}

/// The option that the word is nearest to, if it can be meant.
fn nearest(word: &str, options: Vec<String>) -> Option<String> {
    let slips = |option: &String| slips(word.as_bytes(), option.as_bytes());
    let option = options.into_iter().min_by_key(slips)?;
    // A short word is not far from anything.
    let most = MAX_SLIPS.min(word.len().saturating_sub(2) / 2);
    (slips(&option) <= most).then_some(option)
}

/// Edits from one word to the other (Damerau's distance, with each pair of neighbours exchanged at
/// most once).
fn slips(one: &[u8], other: &[u8]) -> usize {
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in 0..=one.len() {
        for j in 0..=other.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
                    let exchanged = i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
                    let exchanged = if exchanged { rows[i - 2][j - 2] + 1 } else { usize::MAX };
                    replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(exchanged)
                }
            };
        }
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_option_is_named_where_one_is_near() {
        let options = || ["--memory", "--memory-swap", "--rm", "--name", "--network"].map(str::to_owned).to_vec();
        let table = [
            ("--memroy", Some("--memory")),
            ("--memory-swp", Some("--memory-swap")),
            ("--naem", Some("--name")),
            ("--netwrk", Some("--network")),
            ("--privileged", None),
            ("--gpus", None),
            ("-x", None),
        ];
        for (word, option) in table {
            assert_eq!(nearest(word, options()).as_deref(), option, "{word}");
        }
    }
}
