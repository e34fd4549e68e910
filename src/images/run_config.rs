//! What an image's config says about how it runs.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, Result, Step};

/// The part `config` of an image's config, as OCI and Docker write it. `null` is as good as absent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`, each by name or number; see [`crate::user`].
    pub user: Option<String>,
    /// `NAME=value`.
    pub env: Option<Vec<String>>,
    /// The program with its first arguments.
    pub entrypoint: Option<Vec<String>>,
    /// Further arguments, unless the caller gives some; the program where there is no entrypoint.
    pub cmd: Option<Vec<String>>,
    /// Where it starts.
    pub working_dir: Option<String>,
    /// What asks it to end: `SIGTERM`, `15`, `SIGRTMIN+3`.
    pub stop_signal: Option<String>,
    /// Directories that are to be written to.
    pub volumes: Option<BTreeMap<String, IgnoredAny>>,
    /// Ports that it listens on: not used.
    pub exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    /// How it is seen to be well: not used.
    pub healthcheck: Option<IgnoredAny>,
}

impl RunConfig {
    /// Reads it out of an image's config. `name` is what an error calls that.
    ///
    /// # Errors
    /// `Invalid` for what is no such document.
    pub fn parse(config: &[u8], name: &str) -> Result<RunConfig> {
        #[derive(Deserialize)]
        struct Document {
            config: Option<RunConfig>,
        }
        let document: Document = serde_json::from_slice(config)
            .map_err(|error| Error::invalid(Step::Resolve, name, format!("not an image config: {error}")))?;
        Ok(document.config.unwrap_or_default())
    }

    /// Directories that are to be written to.
    pub fn volumes(&self) -> impl Iterator<Item = &str> {
        self.volumes.iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// What it says that has no effect here, in words.
    #[must_use]
    pub fn not_used(&self) -> Vec<String> {
        let ports: Vec<&str> = self.exposed_ports.iter().flat_map(BTreeMap::keys).map(String::as_str).collect();
        let ports = (!ports.is_empty()).then(|| format!("the image's ports ({}) are not published", ports.join(", ")));
        let check = self.healthcheck.map(|_| "the image's health check is not run".to_owned());
        ports.into_iter().chain(check).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_is_read_as_docker_writes_it() {
        let text = br#"{"architecture":"amd64","config":{"User":"app","Env":["A=1"],"Entrypoint":null,"Cmd":["sh"],
            "WorkingDir":"/srv","StopSignal":"SIGQUIT","Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{}},
            "Healthcheck":{"Test":["NONE"]},"Labels":null,"OnBuild":null},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = RunConfig::parse(text, "x").unwrap();
        assert_eq!((config.user.as_deref(), config.entrypoint.as_ref()), (Some("app"), None));
        assert_eq!(config.cmd, Some(vec!["sh".to_owned()]));
        assert_eq!(config.volumes().collect::<Vec<_>>(), ["/data"]);
        let said = ["the image's ports (80/tcp) are not published", "the image's health check is not run"];
        assert_eq!(config.not_used(), said);
    }

    #[test]
    fn what_says_nothing_is_empty() {
        for text in [r#"{"config":null}"#, "{}", r#"{"config":{"Volumes":null,"ExposedPorts":{}}}"#] {
            let config = RunConfig::parse(text.as_bytes(), "x").unwrap();
            assert_eq!((config.volumes().count(), config.not_used().len(), config.env), (0, 0, None), "{text}");
        }
        assert!(RunConfig::parse(br#"{"config":{"Env":"A=1"}}"#, "x").is_err());
    }
}
