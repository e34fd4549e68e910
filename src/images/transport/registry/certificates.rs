//! Whom we trust, and how we show who we are: certificates.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::error::{Error, Result, Step};
use crate::transport::Access;

/// Where docker and podman have what belongs to a registry, in a directory of its name.
const USUAL: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];
/// The largest file of certificates, in bytes.
const FILE_LENGTH: u64 = 4 << 20;

/// The configuration for a registry, by its name with its port.
pub(super) fn tls(registry: &str, access: &Access) -> Result<TlsConfig> {
    let own = match &access.cert_dir {
        Some(path) => read_directory(path)?,
        None => {
            let mut own = Own::default();
            for path in USUAL.iter().map(|usual| Path::new(usual).join(registry)) {
                match read_directory(&path) {
                    Ok(found) => own = own.with(found),
                    Err(error) if is_missing(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            own
        }
    };
    let mut roots = own.roots;
    // The machine's, or those of SSL_CERT_FILE and SSL_CERT_DIR. Single ones that cannot be read
    // are for whoever runs the machine.
    let native = rustls_native_certs::load_native_certs();
    roots.extend(native.certs.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()));
    let client = own.client.map(|(chain, key)| ClientCert::new_with_certs(&chain, key));
    Ok(TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&roots))
        .client_cert(client)
        .disable_verification(!access.tls_verify)
        .build())
}

/// What a directory has.
#[derive(Default)]
struct Own {
    roots: Vec<Certificate<'static>>,
    client: Option<(Vec<Certificate<'static>>, PrivateKey<'static>)>,
}

impl Own {
    fn with(mut self, other: Own) -> Own {
        self.roots.extend(other.roots);
        Own { roots: self.roots, client: self.client.or(other.client) }
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error.cause(), crate::Cause::System { source, .. }
        if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied))
}

/// `*.crt` are authorities, `NAME.cert` with `NAME.key` is the client's certificate.
fn read_directory(path: &Path) -> Result<Own> {
    let system = |call| move |error| Error::system(Step::Request, path.display(), call, error);
    let mut files: Vec<PathBuf> = fs::read_dir(path)
        .map_err(system("open"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()
        .map_err(system("readdir"))?;
    files.sort();
    let mut own = Own::default();
    for file in &files {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => own.roots.extend(certificates(file)?),
            Some("cert") if own.client.is_none() => {
                let key = file.with_extension("key");
                own.client = Some((certificates(file)?, private_key(&key)?));
            }
            _ => {}
        }
    }
    Ok(own)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let system = |call| move |error| Error::system(Step::Request, path.display(), call, error);
    if fs::metadata(path).map_err(system("stat"))?.len() > FILE_LENGTH {
        return Err(Error::invalid(Step::Request, path.display(), "too large for certificates"));
    }
    fs::read(path).map_err(system("read"))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for item in parse_pem(&read(path)?) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(Error::invalid(Step::Request, path.display(), "not certificates in PEM")),
        }
    }
    match found.is_empty() {
        true => Err(Error::invalid(Step::Request, path.display(), "no certificate in PEM")),
        false => Ok(found),
    }
}

fn private_key(path: &Path) -> Result<PrivateKey<'static>> {
    // The error does not repeat what is in it.
    PrivateKey::from_pem(&read(path)?)
        .map_err(|_| Error::invalid(Step::Request, path.display(), "no private key in PEM"))
}
