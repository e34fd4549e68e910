//! Paths of a tar, normalised.

/// The components of a path, from the top: without `/` at its ends, empty components and `.`.
///
/// Fails for `..`, which could lead out of the image, for NUL, and for more than `depth` components.
pub(super) fn components(path: &[u8], depth: usize) -> Result<Vec<&[u8]>, String> {
    let mut names = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err("the path has the component '..'".to_owned()),
            _ if name.contains(&0) => return Err("a NUL byte in the path".to_owned()),
            _ if names.len() == depth => return Err(format!("a path of more than {depth} components")),
            _ => names.push(name),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_normalised() {
        for (path, expected) in [
            ("a/b", vec!["a", "b"]),
            ("./a//b/./", vec!["a", "b"]),
            ("/a", vec!["a"]),
            ("./", vec![]),
            ("", vec![]),
            ("...", vec!["..."]),
        ] {
            let expected: Vec<&[u8]> = expected.into_iter().map(str::as_bytes).collect();
            assert_eq!(components(path.as_bytes(), 2), Ok(expected), "{path:?}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_or_too_deep_are_refused() {
        for (path, reason) in [
            ("..", "the path has the component '..'"),
            ("a/../b", "the path has the component '..'"),
            ("a\0b", "a NUL byte in the path"),
            ("a/b/c", "a path of more than 2 components"),
        ] {
            assert_eq!(components(path.as_bytes(), 2), Err(reason.to_owned()), "{path:?}");
        }
        assert!(components(&b"a/".repeat(100_000), 512).is_err());
    }
}
