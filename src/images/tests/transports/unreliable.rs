//! Registries and networks that fail in the middle.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use squall_images::ErrorKind;
use squall_images::manifest::Platform;
use squall_images::transport::Access;

use crate::image::{Image, LARGE, copy_named, layers, nobody, source};
use crate::servers::{Asked, Listening, Registry, answer, pass};

/// A registry with the image of the tests as `x:1`.
fn filled(place: &std::path::Path) -> (Registry, Image) {
    let registry = Registry::plain(place);
    let image = Image::make(&place.join("layout"));
    let made = format!("oci:{}:made", place.join("layout").display());
    copy_named(&made, &registry.name("x:1"), &nobody(place));
    (registry, image)
}

#[test]
fn a_blob_goes_on_where_its_connection_broke() {
    const LIMIT: usize = 1 << 20;
    let place = tempfile::tempdir().unwrap();
    let (registry, image) = filled(place.path());
    let (broken, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counter, total, port) = (Arc::clone(&broken), Arc::clone(&bytes), registry.port);
    let proxy = Listening::start(move |client| {
        let passed = pass(client, port, LIMIT, || {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        total.fetch_add(passed, Ordering::SeqCst);
    });
    let name = format!("docker://127.0.0.1:{}/x:1", proxy.port);
    // Fewer attempts than breaks: what counts is whether bytes came.
    let access = Access { attempts: 3, ..nobody(place.path()) };
    let (_, found) = layers(&*source(&name, &access, place.path()).unwrap()).unwrap();
    assert_eq!(found[1], image.layers[1]);
    drop(proxy);
    let (broken, bytes) = (broken.load(Ordering::SeqCst), bytes.load(Ordering::SeqCst));
    assert!(broken >= LARGE / LIMIT - 1, "{broken} breaks");
    assert!(bytes < 2 * LARGE, "{bytes} bytes for {LARGE}");
}

#[test]
fn a_connection_that_breaks_without_a_byte_is_given_up() {
    let place = tempfile::tempdir().unwrap();
    let (registry, _) = filled(place.path());
    let port = registry.port;
    // The headers of an answer, and a little of a large one.
    let proxy = Listening::start(move |client| {
        pass(client, port, 900, || {});
    });
    let name = format!("docker://127.0.0.1:{}/x:1", proxy.port);
    let access = Access { attempts: 3, ..nobody(place.path()) };
    let source = source(&name, &access, place.path()).unwrap();
    let error = source.manifest(&Platform::host()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
}

/// Answers `503` to the first so many requests of each kind, then leads to the registry.
fn busy(registry: u16, times: usize, retry_after: &'static str) -> (Listening, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&asked);
    let server = Listening::start(move |client| {
        let Some(request) = Asked::read(&client) else { return };
        // The question whether TLS is spoken is none that counts.
        if counter.fetch_add(1, Ordering::SeqCst) < times {
            return answer(client, "503 Service Unavailable", retry_after, b"");
        }
        let mut server = TcpStream::connect(("127.0.0.1", registry)).unwrap();
        let mut head = format!("{}\r\nconnection: close\r\n", request.line);
        for (name, value) in request.headers.iter().filter(|(name, _)| name != "connection") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        server.write_all(format!("{head}\r\n{}", request.content).as_bytes()).unwrap();
        let _ = std::io::copy(&mut server, &mut &client);
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
    (server, asked)
}

#[test]
fn a_busy_registry_is_asked_again() {
    let place = tempfile::tempdir().unwrap();
    let (registry, image) = filled(place.path());
    for retry_after in ["retry-after: 1\r\n", "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", ""] {
        let (server, asked) = busy(registry.port, 2, retry_after);
        let name = format!("docker://127.0.0.1:{}/x:1", server.port);
        let begin = std::time::Instant::now();
        let manifest = source(&name, &nobody(place.path()), place.path()).unwrap().manifest(&Platform::host());
        assert_eq!(manifest.unwrap().bytes, image.manifest);
        assert_eq!(asked.load(Ordering::SeqCst), 3);
        // It waited as long as it was told, twice.
        assert!(
            !retry_after.contains('1') || retry_after.contains("1994") || begin.elapsed() >= Duration::from_secs(2)
        );
    }
    let (server, asked) = busy(registry.port, 100, "");
    let access = Access { attempts: 4, ..nobody(place.path()) };
    let name = format!("docker://127.0.0.1:{}/x:1", server.port);
    let error = source(&name, &access, place.path()).unwrap().manifest(&Platform::host()).unwrap_err();
    assert_eq!((error.kind(), asked.load(Ordering::SeqCst)), (ErrorKind::Network, 4));
    assert!(error.to_string().contains("503"), "{error}");
}

/// Passes so many bytes of the registry on, and is silent then.
fn silent(registry: u16, limit: usize) -> Listening {
    Listening::start(move |client| {
        let kept = client.try_clone().unwrap();
        pass(client, registry, limit, move || {
            // Until the other side has had enough.
            let _ = std::io::copy(&mut &kept, &mut std::io::sink());
        });
    })
}

#[test]
fn silence_is_a_timeout() {
    let place = tempfile::tempdir().unwrap();
    let (registry, image) = filled(place.path());
    let access = Access { attempts: 2, idle_timeout: Duration::from_secs(3), ..nobody(place.path()) };
    let find = |proxy: &Listening| {
        let name = format!("docker://127.0.0.1:{}/x:1", proxy.port);
        source(&name, &access, place.path()).and_then(|source| layers(&*source))
    };
    // In the middle of a blob: it goes on with another connection.
    assert_eq!(find(&silent(registry.port, LARGE / 3)).unwrap().1[1], image.layers[1]);
    // Always.
    let error = find(&silent(registry.port, 1)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("timed out"), "{error}");
}
