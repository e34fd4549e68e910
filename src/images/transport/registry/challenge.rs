//! What a registry wants for authorization: the header `WWW-Authenticate` (RFC 9110, 11.6.1).

/// The most challenges that are read, and parameters of one.
const CHALLENGES: usize = 16;

/// One way that the registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case: `basic`, `bearer`.
    pub(crate) scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// A parameter; names have no case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads one header. What cannot be read ends it.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = Rest(header);
    loop {
        rest.skip(|c| c == ',' || c.is_ascii_whitespace());
        let word = rest.token();
        if word.is_empty() || challenges.len() == CHALLENGES {
            return challenges;
        }
        rest.skip(|c| c == ' ' || c == '\t');
        // `name=` is a parameter of the challenge before, anything else a new one.
        if rest.take('=') {
            rest.skip(|c| c == ' ' || c == '\t');
            let Some(value) = rest.value() else { return challenges };
            match challenges.last_mut() {
                Some(challenge) if challenge.parameters.len() < CHALLENGES => {
                    challenge.parameters.push((word.to_owned(), value));
                }
                _ => return challenges,
            }
        } else {
            challenges.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
        }
    }
}

struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(what);
    }

    fn take(&mut self, what: char) -> bool {
        match self.0.strip_prefix(what) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn token(&mut self) -> &'a str {
        let fits = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let end = self.0.find(|c| !fits(c)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token
    }

    /// A token, or a text in quotes.
    fn value(&mut self) -> Option<String> {
        if !self.take('"') {
            // Realms without quotes are not unheard of.
            let end = self.0.find([',', ' ', '\t']).unwrap_or(self.0.len());
            let (value, rest) = self.0.split_at(end);
            self.0 = rest;
            return Some(value.to_owned());
        }
        let mut value = String::new();
        let mut characters = self.0.char_indices();
        while let Some((index, c)) = characters.next() {
            match c {
                '"' => {
                    self.0 = &self.0[index + 1..];
                    return Some(value);
                }
                '\\' => value.push(characters.next()?.1),
                c => value.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let challenges = parse(header);
        assert_eq!(challenges.len(), 1);
        assert_eq!(challenges[0].scheme, "bearer");
        assert_eq!(challenges[0].get("Realm"), Some("https://auth.docker.io/token"));
        assert_eq!(challenges[0].get("scope"), Some("repository:a/b:pull,push"));
        let two = parse(r#"BASIC realm="a \"b\", c" , Bearer realm=https://x/t?a=b, error = "invalid_token""#);
        assert_eq!((two[0].scheme.as_str(), two[0].get("realm")), ("basic", Some(r#"a "b", c"#)));
        assert_eq!((two[1].get("realm"), two[1].get("error")), (Some("https://x/t?a=b"), Some("invalid_token")));
        assert_eq!(
            parse("Negotiate, Basic").iter().map(|one| &one.scheme[..]).collect::<Vec<_>>(),
            ["negotiate", "basic"]
        );
    }

    #[test]
    fn what_cannot_be_read_ends_it() {
        for header in ["", ",", "=", "é", "realm=\"x\"", "\"", "=,=", " , ,"] {
            assert_eq!(parse(header), [], "{header}");
        }
        for header in ["Bearer realm=\"open", "Bearer realm=\"x\\", "Bearer é", "Bearer realm"] {
            assert!(parse(header)[0].get("realm").is_none(), "{header}");
        }
        assert!(parse(&"Basic ".repeat(10_000)).len() <= CHALLENGES);
        assert!(parse(&format!("Basic {}", "a=b,".repeat(10_000)))[0].parameters.len() <= CHALLENGES);
    }
}
