//! Who the caller is at a registry.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::authfile::{AUTHFILE_LENGTH, AuthFile};
use super::helper;
use crate::error::{Cause, Error, Result, Step};
use crate::reference::Reference;
use crate::transport::{Access, Credentials};

/// What proves it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// User and password.
    Password(Credentials),
    /// A token that the registry's token server takes instead.
    IdentityToken(String),
    /// A token that the registry itself takes.
    RegistryToken(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Login::Password(_) => "Password",
            Login::IdentityToken(_) => "IdentityToken",
            Login::RegistryToken(_) => "RegistryToken",
        })
    }
}

/// What the caller named, or what the first file that knows the registry has.
pub(super) fn find(reference: &Reference, access: &Access) -> Result<Option<Login>> {
    if let Some(credentials) = &access.credentials {
        return Ok(Some(Login::Password(credentials.clone())));
    }
    let named = access.authfile.clone().or_else(|| variable("REGISTRY_AUTH_FILE"));
    if let Some(path) = named {
        let missing =
            || Error::new(Step::Request, path.display(), Cause::NotFound("the file of credentials".to_owned()));
        let file = read(&path)?.ok_or_else(missing)?;
        return of_file(&file, &path, reference);
    }
    for path in usual_files() {
        if let Some(file) = read(&path)?
            && let Some(login) = of_file(&file, &path, reference)?
        {
            return Ok(Some(login));
        }
    }
    Ok(None)
}

fn of_file(file: &AuthFile, path: &Path, reference: &Reference) -> Result<Option<Login>> {
    if let Some(call) = file.helper(reference)
        && let Some(login) = helper::get(&call)?
    {
        return Ok(Some(login));
    }
    file.login(reference).map_err(|reason| Error::invalid(Step::Request, path.display(), reason))
}

/// `None` where there is no such file, or none that the caller may read.
fn read(path: &Path) -> Result<Option<AuthFile>> {
    let system = |call| move |error| Error::system(Step::Request, path.display(), call, error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(system("open")(error)),
    };
    let mut bytes = Vec::new();
    file.take(AUTHFILE_LENGTH + 1).read_to_end(&mut bytes).map_err(system("read"))?;
    if bytes.len() as u64 > AUTHFILE_LENGTH {
        let cause = Cause::Limit { what: "file of credentials: bytes".to_owned(), limit: AUTHFILE_LENGTH };
        return Err(Error::new(Step::Request, path.display(), cause));
    }
    AuthFile::parse(&bytes).map(Some).map_err(|reason| Error::invalid(Step::Request, path.display(), reason))
}

fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// podman's, then docker's.
fn usual_files() -> Vec<PathBuf> {
    let home = variable("HOME");
    let below_home = |path: &str| home.as_ref().map(|home| home.join(path));
    let user = rustix::process::geteuid().as_raw();
    let runtime = variable("XDG_RUNTIME_DIR").unwrap_or_else(|| format!("/run/user/{user}").into());
    let config = variable("XDG_CONFIG_HOME").or_else(|| below_home(".config"));
    let docker = variable("DOCKER_CONFIG").or_else(|| below_home(".docker"));
    let files = [
        Some(runtime.join("containers/auth.json")),
        // Where podman has it without XDG_RUNTIME_DIR.
        Some(format!("/run/containers/{user}/auth.json").into()),
        config.map(|config| config.join("containers/auth.json")),
        docker.map(|docker| docker.join("config.json")),
    ];
    files.into_iter().flatten().collect()
}
