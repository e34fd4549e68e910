//! Real programs of Debian's run under the default profile: a profile that is safe and breaks them
//! would be of no use.
//!
//! The image is made by `runtime-tests/debian-image`, which `runtime-tests/run` calls first.

use std::path::Path;

use runtime_tests::bed::text;
use runtime_tests::{Bed, Output, cases, debian, until};

cases![
    a_jvm_with_g1_does_everything,
    a_jvm_with_zgc_does_everything,
    a_jvm_that_minds_numa_nodes_does_everything,
    the_tools_of_a_jvm_work_on_a_running_one,
    cpython_does_everything,
    node_does_everything,
    bash_does_everything,
    a_go_program_does_everything,
    a_program_that_only_computes_runs_under_the_strict_profile,
];

/// That of the release: 17 in Debian 12, 21 in Debian 13.
const JAVA: &str = "/usr/lib/jvm/default-java/bin/java";

/// Runs a program of the image, with the sources of this directory at `/src`.
fn run(bed: &Bed, flags: &[&str], argv: &[&str]) -> Output {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runtime/programs");
    let sources = format!("{}:/src:ro", sources.display());
    let fixed = ["--rm", "--volume", &sources, "--tmpfs", "/tmp:size=512m", "--pids-limit", "500", "-e", "HOME=/tmp"];
    bed.run_layers(&[text(&debian::image())], &[&fixed, flags].concat(), argv).output()
}

fn java(bed: &Bed, options: &[&str]) {
    let argv = [&[JAVA, "-Xmx256m"], options, &["/src/Everything.java"]].concat();
    let output = run(bed, &["--memory", "1g"], &argv);
    assert!(output.code() == 0 && output.text().contains("all of it"), "{output}");
}

fn a_jvm_with_g1_does_everything(bed: &Bed) {
    java(bed, &["-XX:+UseG1GC"]);
}

fn a_jvm_with_zgc_does_everything(bed: &Bed) {
    java(bed, &["-XX:+UseZGC"]);
}

fn a_jvm_that_minds_numa_nodes_does_everything(bed: &Bed) {
    java(bed, &["-XX:+UseParallelGC", "-XX:+UseNUMA"]);
}

/// What an operator asks a running JVM by: `exec` of its own tools.
fn the_tools_of_a_jvm_work_on_a_running_one(bed: &Bed) {
    let flags = ["-d", "--name", "jvm", "--memory", "1g", "--tmpfs", "/tmp:size=512m", "--pids-limit", "500"];
    let sleeper =
        "public class Sleeper { public static void main(String[] a) throws Exception { Thread.sleep(600000); } }";
    let source = bed.file("Sleeper.java");
    std::fs::write(&source, sleeper).unwrap();
    let volume = format!("{source}:/Sleeper.java:ro");
    let argv = [JAVA, "-Xmx64m", "/Sleeper.java"];
    bed.run_layers(&[text(&debian::image())], &[&flags[..], &["-v", &volume]].concat(), &argv).ok();
    let tool = |argv: &[&str]| {
        let program = format!("/usr/lib/jvm/default-java/bin/{}", argv[0]);
        bed.squall(&[&["exec", "jvm", &program], &argv[1..]].concat()).output()
    };
    // Until it can be attached to.
    until("it answers", || Some(tool(&["jcmd", "1", "VM.version"])).filter(|output| output.code() == 0).map(drop));
    for (argv, words) in [
        (&["jcmd", "1", "VM.command_line"][..], "Sleeper.java"),
        (&["jstack", "1"], "java.lang.Thread.State"),
        (&["jmap", "-histo", "1"], "java.lang.String"),
    ] {
        let output = tool(argv);
        assert!(output.code() == 0 && output.text().contains(words), "{output}");
    }
    bed.worker("jvm").kill();
}

fn cpython_does_everything(bed: &Bed) {
    let output = run(bed, &[], &["python3", "/src/everything.py"]);
    assert!(output.code() == 0 && output.text() == "all of it", "{output}");
}

fn node_does_everything(bed: &Bed) {
    let output = run(bed, &[], &["node", "/src/everything.js"]);
    assert!(output.code() == 0 && output.text() == "all of it", "{output}");
}

fn bash_does_everything(bed: &Bed) {
    const SCRIPT: &str = r#"
        set -euo pipefail
        cd "$(mktemp -d)"
        { sleep 0.1 & wait; }
        mkfifo pipe && { echo through > pipe & } && [ "$(cat pipe)" = through ]
        trap 'echo -n trapped' USR1; kill -USR1 $$
        ( ulimit -n 64; exec 3<<<here; read -r word <&3; [ "$word" = here ] )
        diff <(seq 5) <(seq 5)
        chmod 600 pipe; ln -s pipe link; mv link other; rm other pipe
        timeout 5 nice -n 1 env X=1 bash -c 'exit 0'
        ps -e >/dev/null; uname -a >/dev/null; df /tmp >/dev/null
        echo " all of it"
    "#;
    let output = run(bed, &[], &["bash", "-c", SCRIPT]);
    assert!(output.code() == 0 && output.text() == "trapped all of it", "{output}");
}

/// esbuild: a scheduler on many threads, files, and a server that answers a client.
fn a_go_program_does_everything(bed: &Bed) {
    const SCRIPT: &str = r#"
        set -euo pipefail
        cd "$(mktemp -d)"
        for i in $(seq 50); do echo "import './m$((i+1)).js'; export const x$i = $i;" > m$i.js; done
        echo "export const last = 'all of it';" > m51.js
        esbuild m1.js --bundle --minify --outfile=out.js --log-level=error
        esbuild --servedir=. --serve=127.0.0.1:8000 --log-level=error < <(sleep 60) & server=$!
        for i in $(seq 100); do exec 3<>/dev/tcp/127.0.0.1/8000 && break; sleep 0.1; done 2>/dev/null
        printf 'GET /m51.js HTTP/1.0\r\nHost: 127.0.0.1:8000\r\n\r\n' >&3
        grep -o 'all of it' <&3
        kill $server
    "#;
    let output = run(bed, &[], &["bash", "-c", SCRIPT]);
    assert!(output.code() == 0 && output.text() == "all of it", "{output}");
}

/// It starts, dynamic loader and all, computes, reads and writes what it was given, and can do
/// nothing else.
fn a_program_that_only_computes_runs_under_the_strict_profile(bed: &Bed) {
    let profile = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seccomp-profiles/strict.json");
    let option = format!("seccomp={}", profile.display());
    let strict = |argv: &[&str]| run(bed, &["--security-opt", &option], argv);
    let sum = strict(&["sha256sum", "/src/everything.py"]);
    assert!(sum.code() == 0 && sum.text().ends_with("  /src/everything.py"), "{sum}");
    let computed = strict(&[
        "python3",
        "-c",
        "import threading; t = threading.Thread(target=print, args=(6 * 7,)); t.start(); t.join()",
    ]);
    assert!(computed.code() == 0 && computed.text() == "42", "{computed}");
    for attempt in [
        "import socket; socket.socket()",
        "import os; os.fork()",
        "open('/tmp/x', 'w')",
        "import os; os.unlink('/tmp/x')",
        "import os; os.kill(1, 0)",
        "import os; os.execv('/bin/true', ['true']); ",
    ] {
        let code = format!("import sys\ntry:\n    {attempt}\nexcept PermissionError:\n    sys.exit(42)");
        let output = strict(&["python3", "-c", &code]);
        let expected = if attempt.contains("execv") { 0 } else { 42 };
        assert_eq!(output.code(), expected, "{attempt}: {output}");
    }
}
