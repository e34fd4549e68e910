//! Files with credentials: docker's `config.json`, and podman's `auth.json`.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::{alphabet, engine::DecodePaddingMode};
use serde::Deserialize;

use super::login::Login;
use crate::reference::Reference;
use crate::transport::Credentials;

/// The largest file that is read, in bytes.
pub(crate) const AUTHFILE_LENGTH: u64 = 1 << 20;
/// Under which Docker's own registry stands in the files.
const DOCKER_SERVER: &str = "https://index.docker.io/v1/";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a file says.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct AuthFile {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// A credential helper, and what it is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HelperCall {
    /// The program is `docker-credential-` and this.
    pub(crate) name: String,
    /// The registry as helpers know it.
    pub(crate) server: String,
}

impl AuthFile {
    /// Reads a file. The error repeats nothing of it.
    pub(crate) fn parse(bytes: &[u8]) -> Result<AuthFile, String> {
        serde_json::from_slice(bytes)
            .map_err(|error| format!("not a file of credentials: line {}, column {}", error.line(), error.column()))
    }

    /// The helper that knows the registry.
    pub(crate) fn helper(&self, reference: &Reference) -> Option<HelperCall> {
        let registry = reference.registry();
        let own = self.cred_helpers.iter().find(|(key, _)| is_registry(key, registry));
        let name = own.map(|(_, name)| name).or(Some(&self.creds_store)).filter(|name| !name.is_empty())?;
        let server = if registry == "docker.io" { DOCKER_SERVER } else { registry };
        Some(HelperCall { name: name.clone(), server: server.to_owned() })
    }

    /// What the file itself has for a reference: podman's files may know a repository, or what is
    /// above it; the longest counts.
    pub(crate) fn login(&self, reference: &Reference) -> Result<Option<Login>, String> {
        let registry = reference.registry();
        let mut repository = reference.repository();
        loop {
            let key = format!("{registry}/{repository}");
            if let Some(entry) = self.auths.get(&key) {
                return entry.login();
            }
            match repository.rsplit_once('/') {
                Some((above, _)) => repository = above,
                None => break,
            }
        }
        // The plain name before other spellings of it.
        let exact = self.auths.get(registry);
        let entry =
            exact.or_else(|| self.auths.iter().find(|(key, _)| is_registry(key, registry)).map(|(_, entry)| entry));
        entry.map_or(Ok(None), Entry::login)
    }
}

/// Whether a key of a file means the registry: `quay.io`, `https://quay.io/v1/`.
fn is_registry(key: &str, registry: &str) -> bool {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let host = match bare {
        Some(url) => url.split('/').next().unwrap_or_default(),
        None => key.trim_end_matches('/'),
    };
    let docker = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    host == registry || docker(registry) && (docker(host) || host == "index.docker.io/v1")
}

impl Entry {
    fn login(&self) -> Result<Option<Login>, String> {
        if !self.registrytoken.is_empty() {
            return Ok(Some(Login::RegistryToken(self.registrytoken.clone())));
        }
        if !self.identitytoken.is_empty() {
            return Ok(Some(Login::IdentityToken(self.identitytoken.clone())));
        }
        if self.auth.is_empty() {
            let credentials = Credentials { user: self.username.clone(), password: self.password.clone() };
            return Ok((!self.username.is_empty()).then_some(Login::Password(credentials)));
        }
        let bad = || "\"auth\" is not base64 of USER:PASSWORD".to_owned();
        let decoded = BASE64.decode(self.auth.trim()).map_err(|_| bad())?;
        let text = String::from_utf8(decoded).map_err(|_| bad())?;
        let (user, password) = text.split_once(':').ok_or_else(bad)?;
        // Docker has written NUL characters after it.
        let password = password.trim_end_matches('\0');
        Ok(Some(Login::Password(Credentials { user: user.to_owned(), password: password.to_owned() })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(file: &str, reference: &str) -> Option<(String, String)> {
        let file = AuthFile::parse(file.as_bytes()).unwrap();
        match file.login(&reference.parse().unwrap()).unwrap() {
            Some(Login::Password(credentials)) => Some((credentials.user, credentials.password)),
            Some(Login::IdentityToken(token)) => Some(("identity".to_owned(), token)),
            Some(Login::RegistryToken(token)) => Some(("registry".to_owned(), token)),
            None => None,
        }
    }

    #[test]
    fn the_entry_of_a_registry_is_found() {
        // "me:sesame", "you:a:b", "nul:x\0\0"
        let file = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"bWU6c2VzYW1l"},
            "quay.io/org":{"auth":"eW91OmE6Yg"},
            "quay.io":{"auth":"bWU6c2VzYW1l"},
            "http://old:5000/v1/":{"username":"u","password":"p"},
            "nul.example":{"auth":"bnVsOngAAA=="},
            "id.example":{"auth":"bWU6c2VzYW1l","identitytoken":"it"},
            "token.example":{"registrytoken":"rt"},
            "empty.example":{}},"HttpHeaders":{"x":"y"}}"#;
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (reference, found) in [
            ("debian", pair("me", "sesame")),
            ("quay.io/org/app", pair("you", "a:b")),
            ("quay.io/org/deeper/app", pair("you", "a:b")),
            ("quay.io/organisation/app", pair("me", "sesame")),
            ("old:5000/x", pair("u", "p")),
            ("nul.example/x", pair("nul", "x")),
            ("id.example/x", pair("identity", "it")),
            ("token.example/x", pair("registry", "rt")),
            ("empty.example/x", None),
            ("other.example/x", None),
        ] {
            assert_eq!(user(file, reference), found, "{reference}");
        }
    }

    #[test]
    fn helpers_stand_for_registries() {
        let file = br#"{"credsStore":"store","credHelpers":{"quay.io":"own","docker.io":"hub"}}"#;
        let file = AuthFile::parse(file).unwrap();
        for (reference, name, server) in
            [("quay.io/a", "own", "quay.io"), ("debian", "hub", DOCKER_SERVER), ("x.example/a", "store", "x.example")]
        {
            let call = HelperCall { name: name.to_owned(), server: server.to_owned() };
            assert_eq!(file.helper(&reference.parse().unwrap()), Some(call));
        }
        assert_eq!(AuthFile::default().helper(&"debian".parse().unwrap()), None);
    }

    #[test]
    fn an_error_repeats_nothing_of_the_file() {
        for file in [r#"{"auths":"sesame"}"#, r#"{"auths":{"a":{"auth":["sesame"]}}}"#, "sesame", r#"{"credsStore":7"#]
        {
            let error = AuthFile::parse(file.as_bytes()).map(|_| ()).unwrap_err();
            assert!(error.contains("line 1") && !error.contains("sesame"), "{error}");
        }
        for auth in ["!", "c2VzYW1l", "/w=="] {
            let file = format!(r#"{{"auths":{{"a.b":{{"auth":"{auth}"}}}}}}"#);
            let error =
                AuthFile::parse(file.as_bytes()).unwrap().login(&"a.b/x".parse().unwrap()).map(|_| ()).unwrap_err();
            assert!(error.contains("base64") && !error.contains("sesame"), "{error}");
        }
    }
}
