//! TLS with an authority of one's own.

use std::fs;

use squall_images::ErrorKind;
use squall_images::manifest::Platform;
use squall_images::transport::Access;

use crate::image::{Image, copy_named, layers, nobody, source};
use crate::servers::Registry;
use crate::tools::make_certificates;

#[test]
fn a_registry_is_trusted_by_its_own_authority_alone() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    make_certificates(place.path());
    let tls =
        format!("  tls:\n    certificate: {}\n    key: {}", at("server.crt").display(), at("server.key").display());
    let registry = Registry::start(place.path(), &tls, "");
    let image = Image::make(&at("layout"));
    let made = format!("oci:{}:made", at("layout").display());
    let trusted = at("trusted");
    fs::create_dir(&trusted).unwrap();
    fs::copy(at("ca.crt"), trusted.join("ca.crt")).unwrap();
    let access = Access { cert_dir: Some(trusted), ..nobody(place.path()) };
    let name = registry.name("x:1");
    copy_named(&made, &name, &access);
    assert_eq!(layers(&*source(&name, &access, place.path()).unwrap()).unwrap().1[1], image.layers[1]);
    // By nobody's word, it is not; and plain HTTP is not taken instead.
    let stranger = nobody(place.path());
    let manifest = |access: &Access| source(&name, access, place.path()).unwrap().manifest(&Platform::host());
    let error = manifest(&stranger).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.to_string().contains("not trusted (--cert-dir"), "{error}");
    // Where certificates are not to be checked, it does.
    let careless = Access { tls_verify: false, ..nobody(place.path()) };
    assert_eq!(manifest(&careless).unwrap().bytes, image.manifest);
    // The certificate is for these names only.
    let other = format!("docker://127.0.0.2:{}/x:1", registry.port);
    source(&other, &access, place.path()).unwrap().manifest(&Platform::host()).unwrap_err();
}

#[test]
fn a_client_shows_its_certificate() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    make_certificates(place.path());
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n    clientcas:\n      - {}",
        at("server.crt").display(),
        at("server.key").display(),
        at("ca.crt").display()
    );
    let registry = Registry::start(place.path(), &tls, "");
    Image::make(&at("layout"));
    let made = format!("oci:{}:made", at("layout").display());
    let own = at("own");
    fs::create_dir(&own).unwrap();
    fs::copy(at("ca.crt"), own.join("ca.crt")).unwrap();
    let access = Access { cert_dir: Some(own.clone()), attempts: 1, ..nobody(place.path()) };
    let name = registry.name("x:1");
    let ask = || source(&name, &access, place.path())?.manifest(&Platform::host());
    assert_eq!(ask().unwrap_err().kind(), ErrorKind::Network);
    fs::copy(at("client.cert"), own.join("client.cert")).unwrap();
    let error = ask().unwrap_err().to_string();
    assert!(error.contains("client.key"), "{error}");
    fs::copy(at("client.key"), own.join("client.key")).unwrap();
    assert_eq!(ask().unwrap_err().kind(), ErrorKind::NotFound);
    copy_named(&made, &name, &access);
    ask().unwrap();
    fs::write(own.join("client.key"), "sesame").unwrap();
    let error = ask().unwrap_err().to_string();
    assert!(error.contains("client.key") && !error.contains("sesame"), "{error}");
}
