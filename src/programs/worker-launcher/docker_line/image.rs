//! Names of images.

/// Whether this is the name of an image, by Storm's own rule:
/// `^(([a-zA-Z0-9.-]+)(:[0-9]+)?/)?([a-z0-9_./-]+)(:[a-zA-Z0-9_.-]+)?$`.
#[must_use]
pub fn is_image(text: &str) -> bool {
    // What precedes the first slash may be a registry, or belong to the name already.
    is_name_and_tag(text) || text.split_once('/').is_some_and(|(host, rest)| is_host(host) && is_name_and_tag(rest))
}

fn is_host(text: &str) -> bool {
    let (name, port) = split_at_colon(text);
    consists_of(name, |byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        && port.is_none_or(|port| consists_of(port, |byte| byte.is_ascii_digit()))
}

fn is_name_and_tag(text: &str) -> bool {
    let (name, tag) = split_at_colon(text);
    consists_of(name, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_./-".contains(&byte))
        && tag.is_none_or(|tag| consists_of(tag, |byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)))
}

fn split_at_colon(text: &str) -> (&str, Option<&str>) {
    text.split_once(':').map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Of at least one such byte, and no other.
fn consists_of(text: &str, byte: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(byte)
}
