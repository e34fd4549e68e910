//! What comes from the environment, which a test cannot change for itself alone: these tests run
//! again as processes of their own.

use std::env;
use std::fs;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use squall_images::manifest::Platform;
use squall_images::transport::Access;

use crate::image::{Image, copy_named, nobody, source};
use crate::servers::{Asked, Listening, Registry, pass};
use crate::tools::{make_certificates, output, program, run_with};

/// Which image the process of its own is to look for.
const IMAGE: &str = "SQUALL_TEST_IMAGE";

/// Runs the test `look` in a process of its own.
fn look_with(image: &str, variables: &[(&str, &str)]) -> Result<String, String> {
    let mut again = program(env::current_exe().unwrap().to_str().unwrap());
    again.args(["--exact", "proxied::look", "--ignored", "--nocapture"]).env(IMAGE, image);
    // Not the command itself, which shows its variables.
    output(again.envs(variables.iter().copied()))
        .map_err(|error| error.split_once('\n').map_or(String::new(), |(_, said)| said.to_owned()))
}

#[test]
fn an_archive_comes_from_standard_input() {
    let place = tempfile::tempdir().unwrap();
    Image::make(&place.path().join("layout"));
    let archive = place.path().join("o.tar");
    let made = format!("oci:{}:made", place.path().join("layout").display());
    copy_named(&made, &format!("oci-archive:{}", archive.display()), &nobody(place.path()));
    let again = || {
        let mut again = program(env::current_exe().unwrap().to_str().unwrap());
        again.args(["--exact", "proxied::look", "--ignored", "--nocapture"]).env(IMAGE, "oci-archive:-");
        again
    };
    // A pipe, then the file itself, then nothing.
    run_with(&mut again(), &fs::read(&archive).unwrap());
    output(again().stdin(fs::File::open(&archive).unwrap())).unwrap();
    let error = output(again().stdin(std::process::Stdio::null())).unwrap_err();
    assert!(error.contains("index.json"), "{error}");
}

#[test]
#[ignore = "run by the other tests, with an environment of their own"]
fn look() {
    let place = tempfile::tempdir().unwrap();
    let access = Access { tls_verify: env::var_os("CARELESS").is_none(), attempts: 1, ..nobody(place.path()) };
    let access = Access { authfile: env::var_os("AUTHFILE").is_none().then_some(access.authfile).flatten(), ..access };
    let name = env::var(IMAGE).unwrap();
    source(&name, &access, place.path()).unwrap().manifest(&Platform::host()).unwrap();
}

#[test]
fn a_proxy_is_used_but_for_hosts_without() {
    let place = tempfile::tempdir().unwrap();
    let registry = Registry::plain(place.path());
    Image::make(&place.path().join("layout"));
    let made = format!("oci:{}:made", place.path().join("layout").display());
    copy_named(&made, &registry.name("x:1"), &nobody(place.path()));
    let used = Arc::new(AtomicUsize::new(0));
    let (counter, port) = (Arc::clone(&used), registry.port);
    // It knows a host that does not exist.
    let proxy = Listening::start(move |mut client| {
        let Some(asked) = Asked::read(&client) else { return };
        assert!(asked.line.starts_with("CONNECT registry.invalid:5000 "), "{}", asked.line);
        counter.fetch_add(1, Ordering::SeqCst);
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        pass(client, port, usize::MAX, || {});
    });
    let url = format!("http://me:sesame@127.0.0.1:{}", proxy.port);
    let name = "docker://registry.invalid:5000/x:1";
    let both = [("HTTP_PROXY", url.as_str()), ("https_proxy", url.as_str()), ("CARELESS", "1")];
    look_with(name, &both).unwrap();
    assert!(used.swap(0, Ordering::SeqCst) >= 1);
    for variables in [&[("NO_PROXY", "x,.invalid")], &[("no_proxy", "*")]] {
        let error = look_with(name, &[&both[..], variables].concat()).unwrap_err();
        assert!(error.contains("failed to lookup address") && !error.contains("sesame"), "{error}");
    }
    // This machine is never asked for through a proxy.
    look_with(&registry.name("x:1"), &both).unwrap();
    assert_eq!(used.load(Ordering::SeqCst), 0);
    let error = look_with(name, &[("HTTPS_PROXY", "socks5://me:sesame@127.0.0.1:1")]).unwrap_err();
    assert!(error.contains("SOCKS") && !error.contains("sesame"), "{error}");
    assert!(TcpStream::connect(("127.0.0.1", registry.port)).is_ok());
}

#[test]
fn the_environment_names_authorities_and_credentials() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).display().to_string();
    make_certificates(place.path());
    let passwords = crate::tools::run(program("htpasswd").args(["-Bbn", "-C4", "me", "sesame"]));
    fs::write(at("htpasswd"), passwords).unwrap();
    let tls = format!("  tls: {{certificate: {}, key: {}}}", at("server.crt"), at("server.key"));
    let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", at("htpasswd"));
    let registry = Registry::start(place.path(), &tls, &auth);
    Image::make(&place.path().join("layout"));
    let credentials = Some("me:sesame".parse().unwrap());
    let access = Access { credentials, tls_verify: false, ..nobody(place.path()) };
    copy_named(&format!("oci:{}:made", at("layout")), &registry.name("x:1"), &access);
    // docker's file names a helper, podman's of another directory has another registry.
    let helpers = at("helpers");
    fs::create_dir(&helpers).unwrap();
    let helper = format!("{helpers}/docker-credential-tests");
    fs::write(&helper, "#!/bin/sh\necho '{\"Username\":\"me\",\"Secret\":\"sesame\"}'\n").unwrap();
    fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir_all(at("run/containers")).unwrap();
    fs::write(at("run/containers/auth.json"), r#"{"auths":{"quay.io":{"auth":"bWU6eA=="}}}"#).unwrap();
    fs::create_dir(at("docker")).unwrap();
    fs::write(at("docker/config.json"), r#"{"credsStore":"tests"}"#).unwrap();
    let path = format!("{helpers}:{}", env::var("PATH").unwrap());
    let (authority, docker, runtime) = (at("ca.crt"), at("docker"), at("run"));
    let all = [
        ("AUTHFILE", "usual"),
        ("SSL_CERT_FILE", authority.as_str()),
        ("DOCKER_CONFIG", docker.as_str()),
        ("XDG_RUNTIME_DIR", runtime.as_str()),
        ("PATH", path.as_str()),
    ];
    look_with(&registry.name("x:1"), &all).unwrap();
    let error = look_with(&registry.name("x:1"), &all[..2]).unwrap_err();
    assert!(error.contains("there are none for it"), "{error}");
    let error = look_with(&registry.name("x:1"), &all[2..]).unwrap_err();
    assert!(error.contains("not trusted"), "{error}");
}
