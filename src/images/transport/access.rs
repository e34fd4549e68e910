//! How to reach registries: who the caller is there, and whom it trusts.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How registries are reached. The default is what docker and skopeo do without flags.
#[derive(Debug, Clone)]
pub struct Access {
    /// The file with credentials (`--authfile`). `None`: `$REGISTRY_AUTH_FILE`, else the first of
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `$XDG_CONFIG_HOME/containers/auth.json`,
    /// `$DOCKER_CONFIG/config.json` and `~/.docker/config.json` that knows the registry.
    pub authfile: Option<PathBuf>,
    /// Credentials for the registry itself (`--creds`): no file is read then.
    pub credentials: Option<Credentials>,
    /// Where the registry's own CA (`*.crt`) and client certificates (`*.cert` with `*.key`) are
    /// (`--cert-dir`). `None`: the directories of the registry's name in `/etc/containers/certs.d`
    /// and `/etc/docker/certs.d`.
    pub cert_dir: Option<PathBuf>,
    /// `false`: certificates are not checked, and plain HTTP is tried where TLS is not spoken.
    /// Plain HTTP is also tried for a registry on this machine, as docker does.
    pub tls_verify: bool,
    /// The most that a connection may take to come up, TLS included.
    pub connect_timeout: Duration,
    /// The most that may pass without a byte.
    pub idle_timeout: Duration,
    /// How often a request is made in all, where the registry or the network fails. A blob counts
    /// anew after each byte that came.
    pub attempts: u32,
    /// The pause before the second attempt. It doubles with each one after that.
    pub first_pause: Duration,
}

impl Default for Access {
    fn default() -> Access {
        Access {
            authfile: None,
            credentials: None,
            cert_dir: None,
            tls_verify: true,
            connect_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            attempts: 5,
            first_pause: Duration::from_millis(500),
        }
    }
}

/// A user and a password. Neither error nor log shows the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub user: String,
    /// The password, or a token that stands for it.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl FromStr for Credentials {
    type Err = String;

    /// `USER:PASSWORD`; the password may have colons.
    fn from_str(text: &str) -> Result<Credentials, String> {
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() => {
                Ok(Credentials { user: user.to_owned(), password: password.to_owned() })
            }
            // The text is not repeated: it may be a password.
            _ => Err("credentials: USER:PASSWORD is wanted".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let credentials: Credentials = "me:sesame:1".parse().unwrap();
        assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("me", "sesame:1"));
        let access = Access { credentials: Some(credentials), ..Access::default() };
        assert!(!format!("{access:?}").contains("sesame"));
        for text in ["", "sesame", ":sesame"] {
            assert!(!text.parse::<Credentials>().unwrap_err().contains("sesame"), "{text}");
        }
    }
}
