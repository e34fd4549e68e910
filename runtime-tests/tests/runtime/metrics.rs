//! Figures as OpenMetrics text: parsed back strictly, and served to clients that behave and others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use runtime_tests::{Bed, call, cases, host};
use rustix::process::{Pid, Signal, kill_process};

cases![
    the_text_is_strict_openmetrics_and_has_every_living_container,
    it_is_served_on_a_socket_that_only_its_owner_can_use,
    it_is_served_on_a_loopback_port_and_on_no_other_unasked,
    a_socket_in_use_and_a_file_of_somebody_elses_are_left_alone,
    clients_that_say_nothing_hold_nobody_up,
];

/// One family, by the text alone.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    unit: Option<String>,
    help: Option<String>,
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads a whole document, or fails: metadata first and once, the samples of a family together, no
/// sample twice, the end marked.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end: {text}"));
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut seen = BTreeSet::new();
    for line in body.strip_suffix('\n').unwrap_or(body).split('\n') {
        if let Some(head) = line.strip_prefix("# ") {
            let mut words = head.splitn(3, ' ');
            let (what, name, value) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
            if what == "TYPE" {
                assert!(families.insert(name.to_owned(), Family::default()).is_none(), "twice: {line}");
                current = name.to_owned();
            }
            assert_eq!(name, current, "metadata of another family: {line}");
            let family = families.get_mut(name).unwrap();
            assert!(family.samples.is_empty(), "metadata behind a sample: {line}");
            match what {
                "TYPE" => family.kind = value.to_owned(),
                "UNIT" => {
                    assert!(family.unit.replace(value.to_owned()).is_none() && name.ends_with(&format!("_{value}")))
                }
                "HELP" => assert!(family.help.replace(value.to_owned()).is_none() && !value.contains('\\')),
                other => panic!("{other}: {line}"),
            }
            continue;
        }
        let (name, labels, value) = sample(line);
        let family = families.get_mut(&current).unwrap_or_else(|| panic!("no family: {line}"));
        let suffix = match family.kind.as_str() {
            "counter" => "_total",
            "gauge" => "",
            other => panic!("{other}: {line}"),
        };
        assert_eq!(name, format!("{current}{suffix}"), "{line}");
        assert!(seen.insert((name, labels.clone())), "twice: {line}");
        assert!(value >= 0.0 && value.is_finite(), "{line}");
        family.samples.push(Sample { labels, value });
    }
    for (name, family) in &families {
        assert!(!family.samples.is_empty() && family.help.is_some(), "{name}: {family:?}");
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
    }
    families
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (head, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no number: {line}"));
    assert!(number.chars().all(|c| c.is_ascii_digit() || c == '.'), "{line}");
    let Some((name, rest)) = head.split_once('{') else {
        return (head.to_owned(), BTreeMap::new(), number.parse().unwrap());
    };
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("no end of labels: {line}"));
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, text) = rest.split_once("=\"").unwrap_or_else(|| panic!("no value: {line}"));
        let mut value = String::new();
        let mut characters = text.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("a value without an end: {line}")) {
                (at, '"') => break at,
                (_, '\\') => value.push(match characters.next().unwrap().1 {
                    'n' => '\n',
                    plain @ ('\\' | '"') => plain,
                    other => panic!("\\{other}: {line}"),
                }),
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(label.to_owned(), value).is_none(), "twice: {line}");
        rest = &text[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels, number.parse().unwrap())
}

/// The value of a family for one container, or with one other label.
fn value(families: &BTreeMap<String, Family>, family: &str, label: (&str, &str)) -> Option<f64> {
    let samples = &families.get(family)?.samples;
    samples.iter().find(|sample| sample.labels.get(label.0).is_some_and(|value| value == label.1)).map(|one| one.value)
}

fn the_text_is_strict_openmetrics_and_has_every_living_container(bed: &Bed) {
    let empty = parse(&printed(bed));
    assert_eq!(value(&empty, "squall_containers", ("phase", "running")), Some(0.0));
    let burner = bed.start(&["--name", "burns", "--memory", "64m", "--cpus", "0.5"], &["burn", "600000"]);
    let paused = bed.start(&["--name", "stands"], &["sleep", "600000"]);
    bed.squall(&["pause", "stands"]).ok();
    bed.run(&["--name", "ended"], &["exit", "0"]).ok();
    let before = bed.squall(&["stats", "--no-stream", "--json", "burns"]).json();
    let families = parse(&printed(bed));
    let after = bed.squall(&["stats", "--no-stream", "--json", "burns"]).json();
    for (phase, count) in [("running", 1.0), ("paused", 1.0), ("exited", 1.0), ("created", 0.0), ("lost", 0.0)] {
        assert_eq!(value(&families, "squall_containers", ("phase", phase)), Some(count), "{phase}");
    }
    assert_eq!(value(&families, "squall_container_memory_limit_bytes", ("id", "burns")), Some((64 << 20) as f64));
    assert_eq!(value(&families, "squall_container_memory_limit_bytes", ("id", "stands")), None);
    assert_eq!(value(&families, "squall_container_pids", ("id", "stands")), Some(1.0));
    assert_eq!(value(&families, "squall_container_pids", ("id", "ended")), None);
    let seconds = |sample: &serde_json::Value| sample[0]["cpu_usage_us"].as_u64().unwrap() as f64 / 1e6;
    let used = value(&families, "squall_container_cpu_usage_seconds", ("id", "burns")).unwrap();
    assert!(seconds(&before) <= used && used <= seconds(&after), "{before} {used} {after}");
    for (family, unit) in
        [("cpu_usage_seconds", Some("seconds")), ("memory_anon_bytes", Some("bytes")), ("cpu_periods", None)]
    {
        assert_eq!(families[&format!("squall_container_{family}")].unit.as_deref(), unit, "{family}");
    }
    for worker in [burner, paused] {
        worker.kill();
    }
}

fn printed(bed: &Bed) -> String {
    String::from_utf8(bed.squall(&["metrics"]).ok().stdout).unwrap()
}

/// A server, and where it says that it listens.
fn serve(bed: &Bed, address: &str) -> (Child, String) {
    let call = bed.squall(&["metrics", "--listen", address]).into_command().stdout(Stdio::piped()).spawn();
    let mut child = call.unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim_end().to_owned())
}

fn end(mut server: Child, signal: Signal) {
    kill_process(Pid::from_child(&server), signal).unwrap();
    let status = call::wait_for_end(&mut server, Duration::from_secs(10)).unwrap().expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// Head and body of what a server answers.
fn ask(mut stream: impl Read + Write, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
    (head.to_owned(), body.to_owned())
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

fn it_is_served_on_a_socket_that_only_its_owner_can_use(bed: &Bed) {
    let worker = bed.start(&["--name", "runs"], &["sleep", "600000"]);
    let path = bed.file("metrics.sock");
    let (server, said) = serve(bed, &path);
    assert_eq!(said, path);
    let file = fs::symlink_metadata(&path).unwrap();
    assert_eq!((file.file_type().is_socket(), file.permissions().mode() & 0o777), (true, 0o600));
    let connect = || UnixStream::connect(&path).unwrap();
    let (head, body) = ask(connect(), GET);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert_eq!(value(&parse(&body), "squall_container_pids", ("id", "runs")), Some(1.0), "{body}");
    let (head, body) = ask(connect(), &GET.replace("GET", "HEAD"));
    assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}\n{body}");
    for (request, code) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let (head, _) = ask(connect(), request);
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{request}: {head}");
    }
    worker.kill();
    let (_, body) = ask(connect(), GET);
    assert_eq!(value(&parse(&body), "squall_container_pids", ("id", "runs")), None, "each request is answered anew");
    end(server, Signal::TERM);
    assert!(!fs::exists(&path).unwrap());
}

fn it_is_served_on_a_loopback_port_and_on_no_other_unasked(bed: &Bed) {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        if address.starts_with('[') && !fs::exists("/proc/net/if_inet6").is_ok_and(|there| there) {
            continue;
        }
        let (server, said) = serve(bed, address);
        let (head, body) = ask(TcpStream::connect(&said).unwrap(), GET);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(parse(&body).contains_key("squall_containers"), "{body}");
        end(server, Signal::INT);
        assert!(TcpStream::connect(&said).is_err());
    }
    for address in ["0.0.0.0:0", "[::]:0", "metrics.sock", "127.0.0.1"] {
        let refused = bed.squall(&["metrics", "--listen", address]).output();
        assert_eq!(
            (refused.code(), refused.stderr.lines().count(), refused.text()),
            (125, 1, String::new()),
            "{refused}"
        );
        assert!(refused.stderr.contains("--listen"), "{refused}");
    }
}

fn a_socket_in_use_and_a_file_of_somebody_elses_are_left_alone(bed: &Bed) {
    let (used, stale, file) = (bed.file("used"), bed.file("stale"), bed.file("file"));
    let listener = UnixListener::bind(&used).unwrap();
    drop(UnixListener::bind(&stale).unwrap());
    fs::write(&file, "precious").unwrap();
    for path in [&used, &file] {
        let refused = bed.squall(&["metrics", "--listen", path]).output();
        assert_eq!((refused.code(), refused.stderr.lines().count()), (125, 1), "{refused}");
        assert!(refused.stderr.contains(path.as_str()), "{refused}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    drop(UnixStream::connect(&used).unwrap());
    drop(listener);
    // One that nobody listens on was left by a server that was killed.
    let (server, _) = serve(bed, &stale);
    ask(UnixStream::connect(&stale).unwrap(), GET);
    // What has its place at the end is not its own.
    fs::remove_file(&stale).unwrap();
    fs::write(&stale, "another's").unwrap();
    end(server, Signal::TERM);
    assert_eq!(fs::read_to_string(&stale).unwrap(), "another's");
}

fn clients_that_say_nothing_hold_nobody_up(bed: &Bed) {
    let path = bed.file("metrics.sock");
    let (server, _) = serve(bed, &path);
    let connect = || UnixStream::connect(&path).unwrap();
    let began = Instant::now();
    let mut slow: Vec<UnixStream> = (0..100).map(|_| connect()).collect();
    for (at, stream) in slow.iter_mut().enumerate() {
        // Some begin a request and leave it at that.
        if at % 2 == 0 {
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ");
        }
    }
    let (head, body) = ask(connect(), GET);
    assert!(head.starts_with("HTTP/1.1 200 ") && parse(&body).contains_key("squall_containers"), "{head}");
    assert!(began.elapsed() < host::bound(Duration::from_secs(5)), "{:?}", began.elapsed());
    // The oldest made room for the others at once, and the youngest is cut off in its turn.
    is_cut_off(&mut slow[0]);
    assert!(began.elapsed() < Duration::from_secs(9), "not before its time was over: {:?}", began.elapsed());
    is_cut_off(&mut slow[99]);
    end(server, Signal::TERM);
}

/// The server hangs up within little more than its patience.
fn is_cut_off(stream: &mut UnixStream) {
    stream.set_read_timeout(Some(host::bound(Duration::from_secs(15)))).unwrap();
    let ended = stream.read_to_end(&mut Vec::new());
    let timed_out = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    assert!(!ended.as_ref().is_err_and(timed_out), "{ended:?}");
}
