//! Image names, as docker has them.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry that is meant where none is named.
const DEFAULT_REGISTRY: &str = "docker.io";
/// Official images of Docker's registry are below this.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// distribution's reference grammar: a name without the registry has up to 255 characters,
const NAME_LENGTH: usize = 255;
/// a tag up to 128.
const TAG_LENGTH: usize = 128;

/// An image in a registry: `[registry/]repository[:tag][@sha256:…]`, complete.
///
/// `debian` is `docker.io/library/debian:latest`. What stands before the first `/` is the registry
/// if it has a `.` or a `:`, or is `localhost`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl Reference {
    /// Host and port of the registry: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in it: `library/debian`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `None` where a digest alone is named.
    #[must_use]
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The manifest's digest, where it is named. It is what counts then, not the tag.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// As people write it: without the default registry, `library/` and `:latest` left out where
    /// docker leaves them out (`debian:12`, `debian:latest`).
    #[must_use]
    pub fn familiar(&self) -> String {
        let name = match self.registry.as_str() {
            DEFAULT_REGISTRY => self.repository.strip_prefix(OFFICIAL).unwrap_or(&self.repository).to_owned(),
            registry => format!("{registry}/{}", self.repository),
        };
        self.with_suffix(name)
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name = format!("{name}:{tag}");
        }
        if let Some(digest) = &self.digest {
            name = format!("{name}@{digest}");
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(format!("{}/{}", self.registry, self.repository)))
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Reference, String> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            // The port of a registry is no tag.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.parse()?)),
            _ => (name, None),
        };
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_owned()),
            Some(_) => (DEFAULT_REGISTRY, name.to_owned()),
            None => (DEFAULT_REGISTRY, format!("{OFFICIAL}{name}")),
        };
        check_registry(registry)?;
        // Docker's registry has had this name as well.
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        check_repository(&repository)?;
        let tag = match (tag, digest) {
            (None, None) => Some(Tag(DEFAULT_TAG.to_owned())),
            (tag, _) => tag,
        };
        Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
    }
}

/// A tag as registries take it: letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`,
/// 128 characters at most.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Tag {
    type Err = String;

    fn from_str(text: &str) -> Result<Tag, String> {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let fits = text.starts_with(word) && text.chars().all(|c| word(c) || c == '.' || c == '-');
        if !fits || text.len() > TAG_LENGTH {
            return Err(format!("tag {text:?}: letters, digits, '_', '.' and '-' are wanted, at most {TAG_LENGTH}"));
        }
        Ok(Tag(text.to_owned()))
    }
}

fn check_registry(registry: &str) -> Result<(), String> {
    let bad = || format!("registry {registry:?}: a host name or address is wanted, with a port or without");
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(bad)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            ("v6", rest.strip_prefix(':').or(rest.is_empty().then_some("0")).ok_or_else(bad)?)
        }
        None => registry.split_once(':').unwrap_or((registry, "0")),
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if host.split('.').all(label) && is_port { Ok(()) } else { Err(bad()) }
}

/// Components of lower-case letters and digits, separated inside by one `.`, one or two `_`, or any
/// number of `-`.
fn check_repository(repository: &str) -> Result<(), String> {
    let bad = |why: &str| Err(format!("image name {repository:?}: {why}"));
    if repository.len() > NAME_LENGTH {
        return bad("longer than 255 characters");
    }
    if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return bad("upper-case letters are not allowed");
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    for component in repository.split('/') {
        let separators = component.split(|c: char| c.is_ascii() && allowed(c as u8)).filter(|part| !part.is_empty());
        let ends = component.bytes().next().is_some_and(allowed) && component.bytes().last().is_some_and(allowed);
        let separated = separators
            .into_iter()
            .all(|part| matches!(part, "." | "_" | "__") || part.bytes().all(|byte| byte == b'-'));
        if !ends || !separated {
            return bad("components of lower-case letters and digits are wanted, separated by '.', '_', '__' or '-'");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_name_is_completed_as_docker_does() {
        for (given, complete, familiar) in [
            ("debian", "docker.io/library/debian:latest", "debian:latest"),
            ("debian:12", "docker.io/library/debian:12", "debian:12"),
            ("docker.io/debian", "docker.io/debian:latest", "debian:latest"),
            ("index.docker.io/library/debian", "docker.io/library/debian:latest", "debian:latest"),
            ("me/app:1.0_x-y", "docker.io/me/app:1.0_x-y", "me/app:1.0_x-y"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/a/b__c/d--e:t", "localhost:5000/a/b__c/d--e:t", "localhost:5000/a/b__c/d--e:t"),
            ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
            ("quay.io/a.b", "quay.io/a.b:latest", "quay.io/a.b:latest"),
        ] {
            let reference: Reference = given.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (complete, familiar));
            assert_eq!(complete.parse::<Reference>().unwrap().to_string(), complete);
        }
    }

    #[test]
    fn a_digest_stands_alone_or_beside_a_tag() {
        let alone: Reference = format!("a/b@sha256:{HEX}").parse().unwrap();
        assert_eq!((alone.tag(), alone.digest()), (None, Digest::from_hex(HEX)));
        let both: Reference = format!("quay.io/a/b:1@sha256:{HEX}").parse().unwrap();
        assert_eq!(both.tag().unwrap().as_str(), "1");
        assert_eq!(both.to_string(), format!("quay.io/a/b:1@sha256:{HEX}"));
    }

    #[test]
    fn other_texts_are_refused_with_the_part_that_is_wrong() {
        let long = "a".repeat(256);
        for (text, part) in [
            ("", "image name"),
            ("Debian", "upper-case"),
            ("a//b", "components"),
            ("a/../b", "components"),
            ("a/b_", "components"),
            ("a/b___c", "components"),
            ("a/b..c", "components"),
            ("a b", "components"),
            ("a\u{1}", "components"),
            ("é", "components"),
            (&long, "255"),
            ("debian:", "tag"),
            ("debian:.x", "tag"),
            ("debian:a/b:é", "tag"),
            ("-x.y/a", "registry"),
            ("host:99999/a", "registry"),
            ("host:x/a", "registry"),
            ("[::g]:1/a", "registry"),
            ("a@sha256:0", "sha256"),
        ] {
            let error = text.parse::<Reference>().unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }
}
