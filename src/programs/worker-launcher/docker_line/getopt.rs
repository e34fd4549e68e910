//! Words into options and operands, as getopt_long(3) of the GNU library does it.

use super::{Given, KnownOption, OPTIONS, Refused, Takes};

/// Options and operands, each in their order.
pub(super) fn sort<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<(Vec<Given>, Vec<String>), Refused> {
    let (mut options, mut operands) = (Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        if word == "--" {
            operands.extend(words.map(str::to_owned));
            break;
        } else if let Some(long) = word.strip_prefix("--") {
            options.push(long_option(long, &mut words)?);
        } else if let Some(short) = word.strip_prefix('-').filter(|short| !short.is_empty()) {
            short_options(short, &mut words, &mut options)?;
        } else {
            operands.push(word.to_owned());
        }
    }
    Ok((options, operands))
}

fn long_option<'a>(text: &str, words: &mut impl Iterator<Item = &'a str>) -> Result<Given, Refused> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let option = named(name)?;
    match (option.takes, value) {
        (Takes::Nothing, Some(_)) => Err(Refused::line(format!("'{}' takes no value", option.name))),
        (Takes::Value, None) => {
            let value = Some(next_value(option, words)?.to_owned());
            Ok(Given { option, value, joined: false })
        }
        (_, value) => Ok(Given { option, value: value.map(str::to_owned), joined: value.is_some() }),
    }
}

/// The option of this name, or the only one that begins with it.
fn named(name: &str) -> Result<&'static KnownOption, Refused> {
    let long = || OPTIONS.iter().filter_map(|option| Some((option, option.name.strip_prefix("--")?)));
    if let Some((option, _)) = long().find(|(_, known)| *known == name) {
        return Ok(option);
    }
    let mut candidates = long().filter(|(_, known)| known.starts_with(name));
    match (candidates.next(), candidates.next()) {
        (Some((option, _)), None) => Ok(option),
        (None, _) => Err(Refused::line(format!("'--{name}' is no allowed option"))),
        (Some((first, _)), Some((second, _))) => {
            Err(Refused::line(format!("'--{name}' could be '{}' or '{}'", first.name, second.name)))
        }
    }
}

/// One or more options of one letter each; what follows one that takes a value is its value.
fn short_options<'a>(
    letters: &str,
    words: &mut impl Iterator<Item = &'a str>,
    options: &mut Vec<Given>,
) -> Result<(), Refused> {
    for (at, letter) in letters.char_indices() {
        let known =
            OPTIONS.iter().find(|option| option.name.strip_prefix('-') == Some(letter.encode_utf8(&mut [0; 4])));
        let option = known.ok_or_else(|| Refused::line(format!("'-{letter}' is no allowed option")))?;
        if option.takes == Takes::Nothing {
            options.push(Given { option, value: None, joined: false });
            continue;
        }
        let value = match letters.get(at + letter.len_utf8()..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => next_value(option, words)?,
        };
        options.push(Given { option, value: Some(value.to_owned()), joined: false });
        break;
    }
    Ok(())
}

/// The word after an option as its value. One that looks like an option itself is none of Storm's.
fn next_value<'a>(option: &KnownOption, words: &mut impl Iterator<Item = &'a str>) -> Result<&'a str, Refused> {
    let value = words.next().filter(|value| !value.starts_with('-'));
    value.ok_or_else(|| Refused::line(format!("'{}' has no value", option.name)))
}
