//! Registries that want to know who we are.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use squall_images::ErrorKind;
use squall_images::manifest::Platform;
use squall_images::transport::{Access, Transport};

use crate::image::{Image, copy_named, layers, nobody, source};
use crate::servers::{Asked, Listening, Registry, answer};
use crate::tools::{program, run, run_with};

const SECRET: &str = "sesame-1:2";

fn with(credentials: &str, place: &Path) -> Access {
    Access { credentials: Some(credentials.parse().unwrap()), ..nobody(place) }
}

fn authfile(place: &Path, content: &serde_json::Value) -> Access {
    let path = place.join("auth.json");
    fs::write(&path, content.to_string()).unwrap();
    Access { authfile: Some(path), ..nobody(place) }
}

/// Tries to read and to write; the errors, which never have the password.
fn denied(name: &str, access: &Access, spool: &Path) {
    let read = source(name, access, spool).unwrap().manifest(&Platform::host()).unwrap_err();
    let mut sink = name.parse::<Transport>().unwrap().sink(access).unwrap();
    let write = sink.has_blob(squall_images::digest::Digest::of(b"")).unwrap_err();
    for error in [read, write] {
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let text = format!("{error} {error:?} {access:?}");
        assert!(!text.contains("sesame") && !text.contains(&STANDARD.encode("me:sesame")[..8]), "{text}");
    }
}

#[test]
fn a_password_opens_a_registry() {
    let place = tempfile::tempdir().unwrap();
    let passwords = run(program("htpasswd").args(["-Bbn", "-C4", "me", SECRET]));
    fs::write(place.path().join("htpasswd"), passwords).unwrap();
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", place.path().join("htpasswd").display());
    let registry = Registry::start(place.path(), "", &auth);
    let image = Image::make(&place.path().join("layout"));
    let made = format!("oci:{}:made", place.path().join("layout").display());
    let name = registry.name("x:1");
    let good = with(&format!("me:{SECRET}"), place.path());
    copy_named(&made, &name, &good);
    let host = format!("127.0.0.1:{}", registry.port);
    let auth = STANDARD.encode(format!("me:{SECRET}"));
    let file = authfile(place.path(), &json!({ "auths": { host.clone(): { "auth": auth } } }));
    for access in [&good, &file] {
        assert_eq!(layers(&*source(&name, access, place.path()).unwrap()).unwrap().1[1], image.layers[1]);
    }
    denied(&name, &nobody(place.path()), place.path());
    denied(&name, &with("me:sesame-wrong", place.path()), place.path());
    denied(&name, &authfile(place.path(), &json!({ "auths": { host: { "identitytoken": "sesame" } } })), place.path());
}

/// A token server: `me` may do everything, anybody may pull.
struct Tokens {
    server: Listening,
    given: Arc<AtomicUsize>,
    certificate: PathBuf,
}

impl Tokens {
    fn start(place: &Path) -> Tokens {
        let (key, certificate) = (place.join("token.key"), place.join("token.crt"));
        let mut openssl = program("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tokens"]);
        run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
        let der = run_with(program("openssl").args(["x509", "-outform", "DER"]), &fs::read(&certificate).unwrap());
        let given = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&given);
        let server = Listening::start(move |connection| {
            let Some(asked) = Asked::read(&connection) else { return };
            let who = asked.header("authorization");
            let knows = who == Some(&format!("Basic {}", STANDARD.encode(format!("me:{SECRET}"))));
            let refreshes = asked.line.starts_with("POST") && asked.content.contains("refresh_token=sesame%2Bidentity");
            let is_anonymous = asked.line.starts_with("GET") && who.is_none();
            if !knows && !refreshes && !is_anonymous {
                return answer(connection, "401 Unauthorized", "", b"sesame");
            }
            let place = if refreshes { &asked.content } else { &asked.line };
            let scope = place.split(['?', '&', ' ']).find_map(|part| part.strip_prefix("scope=")).unwrap();
            let scope = scope.replace("%3A", ":").replace("%2C", ",").replace("%2F", "/");
            let [kind, repository, actions] = scope.splitn(3, ':').collect::<Vec<_>>().try_into().unwrap();
            let actions: Vec<&str> = actions.split(',').filter(|action| !is_anonymous || *action == "pull").collect();
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
            let claims = json!({
                "iss": "tests", "aud": "registry", "sub": "me", "jti": "1", "nbf": now - 10, "iat": now, "exp": now + 300,
                "access": [{ "type": kind, "name": repository, "actions": actions }],
            });
            let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [STANDARD.encode(&der)] });
            let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let signed = format!("{}.{}", part(&header), part(&claims));
            let mut sign = program("openssl");
            let signature = run_with(sign.args(["dgst", "-sha256", "-sign"]).arg(&key), signed.as_bytes());
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            counter.fetch_add(1, Ordering::SeqCst);
            let field = if refreshes { "access_token" } else { "token" };
            answer(connection, "200 OK", "", json!({ field: token }).to_string().as_bytes());
        });
        Tokens { server, given, certificate }
    }
}

#[test]
fn a_token_opens_a_registry() {
    let place = tempfile::tempdir().unwrap();
    let tokens = Tokens::start(place.path());
    let auth = format!(
        "auth:\n  token:\n    realm: http://127.0.0.1:{}/token?x=1\n    service: registry\n    issuer: tests\n    rootcertbundle: {}",
        tokens.server.port,
        tokens.certificate.display()
    );
    let registry = Registry::start(place.path(), "", &auth);
    let image = Image::make(&place.path().join("layout"));
    let made = format!("oci:{}:made", place.path().join("layout").display());
    let name = registry.name("group/x:1");
    let good = with(&format!("me:{SECRET}"), place.path());
    copy_named(&made, &name, &good);
    // One for all of it.
    assert_eq!(tokens.given.load(Ordering::SeqCst), 1);
    let host = format!("127.0.0.1:{}", registry.port);
    let identity = authfile(place.path(), &json!({ "auths": { host: { "identitytoken": "sesame+identity" } } }));
    for access in [&good, &identity, &nobody(place.path())] {
        assert_eq!(layers(&*source(&name, access, place.path()).unwrap()).unwrap().1[1], image.layers[1]);
    }
    copy_named(&made, &name, &identity);
    denied(&name, &with("me:sesame-wrong", place.path()), place.path());
    // Anybody may pull, but not push.
    let mut sink = name.parse::<Transport>().unwrap().sink(&nobody(place.path())).unwrap();
    let content = b"sesame";
    let blob = squall_images::manifest::Blob {
        digest: squall_images::digest::Digest::of(content),
        size: content.len() as u64,
        media_type: String::new(),
    };
    assert_eq!(sink.put_blob(&blob, &mut content.as_slice()).unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn a_redirect_gets_no_authorization() {
    let place = tempfile::tempdir().unwrap();
    let image = Image::make(&place.path().join("layout"));
    let manifest = image.manifest.clone();
    // Where the registry has its files. Whoever comes with a password is refused.
    let files = Listening::start(move |connection| {
        let Some(asked) = Asked::read(&connection) else { return };
        match asked.header("authorization") {
            None => answer(connection, "200 OK", "", &manifest),
            Some(_) => answer(connection, "400 Bad Request", "", b""),
        }
    });
    let target = files.port;
    let registry = Listening::start(move |connection| {
        let Some(asked) = Asked::read(&connection) else { return };
        match asked.header("authorization") {
            None => answer(connection, "401 Unauthorized", "www-authenticate: Basic realm=\"x\"\r\n", b""),
            Some(_) => {
                let location = format!("location: http://127.0.0.1:{target}/a?signature=sesame\r\n");
                answer(connection, "307 Temporary Redirect", &location, b"");
            }
        }
    });
    let name = format!("docker://127.0.0.1:{}/x:1", registry.port);
    let access = with(&format!("me:{SECRET}"), place.path());
    let ask = || source(&name, &access, place.path()).unwrap().manifest(&Platform::host());
    assert_eq!(ask().unwrap().bytes, image.manifest);
    drop(files);
    let error = ask().unwrap_err().to_string();
    assert!(!error.contains("sesame"), "{error}");
}
