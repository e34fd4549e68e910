use super::*;

const ID: &str = "0f9a1b2c-33d4-4e5f-8a6b-7c8d9e0f1a2b";

fn user() -> Identity {
    Identity::new(1001, 1002, [1003]).unwrap()
}

/// The line that Storm writes for a worker, with further words before the image.
fn run_with(more: &str) -> String {
    format!(
        "run --name={ID} --user=1001:1002 -d --net=host --read-only -v /sys/fs/cgroup:/sys/fs/cgroup:ro \
         -v /l/workers/{ID}:/l/workers/{ID} -v /l/workers/{ID}/tmp:/tmp --cgroup-parent=/storm --group-add 1002 \
         --group-add 1003 --workdir=/l/workers/{ID} --cidfile=/l/workers/{ID}/container.cid --cap-drop=ALL \
         --security-opt no-new-privileges --cpus=0.5{more} storm/worker:1.2 bash /l/workers/{ID}/script.sh"
    )
    .split_whitespace()
    .collect::<Vec<_>>()
    .join(" ")
}

fn checked(line: &str) -> Result<DockerLine, Refused> {
    let parsed = DockerLine::parse(line)?;
    parsed.check(&user())?;
    parsed.mount_sources()?;
    Ok(parsed)
}

#[test]
fn what_storm_writes_reaches_docker_as_it_is() {
    let lines = [
        run_with(""),
        run_with(" --memory=256m"),
        run_with(" --security-opt seccomp=/opt/storm/conf/seccomp.json"),
        run_with(" --cpuset-cpus=0,2-3 --cpuset-mems=0 --cpu-shares=512"),
        format!("ps --filter=name={ID} --quiet=true"),
        format!("wait {ID}"),
        format!("stop {ID}"),
        format!("stop --time=3 {ID}"),
        format!("rm {ID}"),
        format!("rm --force {ID}"),
        format!("inspect --format {{{{.State.Pid}}}} {ID}"),
        "pull registry.example:5000/storm/worker:1.2".to_owned(),
        format!("--config=/etc/docker rm {ID}"),
    ];
    for line in lines {
        assert_eq!(checked(&line).map(|parsed| parsed.words().join(" ")), Ok(line.clone()), "{line}");
    }
}

#[test]
fn words_are_taken_as_getopt_takes_them() {
    let given = format!("  rm   {ID}  --forc  --  abc ");
    assert_eq!(checked(&given).unwrap().words(), ["rm", "--force", ID, "abc"]);
    let line = run_with(" --mem 1g -dv /a:/b -v/c:/d --detach=true");
    let words = checked(&line).unwrap().words().join(" ");
    assert!(words.contains(" --memory 1g -d -v /a:/b -v /c:/d --detach=true storm/worker:1.2 bash"), "{words}");
    // Behind the image too.
    let words = checked(&format!("{} --rm", run_with(""))).unwrap().words().join(" ");
    assert!(words.contains("--rm storm/worker:1.2"), "{words}");
}

#[test]
fn what_is_not_on_the_list_is_refused() {
    for line in [
        "",
        "   ",
        "--config=/etc/docker",
        "exec abc sh",
        "compose up",
        "Run",
        "ps --all",
        "ps --c=1",
        "ps --=1",
        "ps -a",
        "ps abc",
        "rm",
        "rm --force=true abc",
        "rm -v abc",
        "rm -- --force",
        "rm ../x",
        "rm my-container",
        "stop --time",
        "stop --time=-1 abc",
        "stop --time +1",
        "wait a\tb",
        "wait ab\0",
        "wait ab\r",
        "inspect --format x",
        "pull --config=/x image",
        "--host=tcp://x ps",
        "ps --config=/x",
    ] {
        let refused = checked(line).unwrap_err();
        assert!(!refused.image, "{line:?}: {refused}");
    }
}

#[test]
fn a_container_has_no_more_than_storm_gives_it() {
    for more in [
        "--privileged",
        "--pid=host",
        "--env=A=b",
        "-e A",
        "--entrypoint=sh",
        "--mount=type=bind",
        "--health-cmd=x",
        "--volumes-from=a",
        "--cap-add=SYS_ADMIN",
        "--device=/dev/sda",
        "--user=0:0",
        "--user=1001",
        "--user=01001:1002",
        "--user root",
        "--group-add=0",
        "--group-add=docker",
        "--group-add=+1003",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--security-opt no-new-privileges=false",
        "--name=-x",
        "--name=../../x",
        "--net=container:abc",
        "--cgroup-parent=/../x",
        "--cgroup-parent=x",
        "--cap-drop=",
        "--workdir=x",
        "--cidfile=/a/../b",
        "--memory=-1",
        "--memory=1t",
        "--cpus=1e9",
        "--cpus=",
        "--cpuset-cpus=a",
        "--detach=perhaps",
        "--quiet=true",
        "-v /a",
        "-v a:/b",
        "-v :/b",
        "-v /a:b",
        "-v /a/../b:/c",
        "-v /a:/b:shared",
        "-v /a:/b:ro,rshared",
        "-v /a:/b:ro:x",
        "-v /a:/b:",
        "-- --privileged",
    ] {
        let refused = checked(&run_with(&format!(" {more}"))).unwrap_err();
        assert!(!refused.image, "{more}: {refused}");
    }
}

#[test]
fn a_container_that_could_become_root_is_refused() {
    for given in [
        format!(" --name={ID}"),
        " --user=1001:1002".into(),
        " --cap-drop=ALL".into(),
        " --security-opt no-new-privileges".into(),
    ] {
        let line = run_with("").replacen(&given, "", 1);
        assert_ne!(line, run_with(""), "{given}");
        assert!(checked(&line).unwrap_err().text.starts_with("docker run without"), "{given}");
    }
}

#[test]
fn images_have_the_names_that_storm_allows() {
    for image in ["a", "a/b:1", "reg.io/a", "Reg.IO:5000/a/b:v1.2_x", "a_b/c-d.e", "-x", "a/", "/"] {
        assert!(is_image(image), "{image}");
    }
    for image in ["", "A", "a:", "a:b:c", "reg:x/a", "a@sha256:00", "a b", "a;b", "a:b/c", "reg.io:5000/", "ä", ":a"] {
        assert!(!is_image(image), "{image}");
        let refused = DockerLine::parse(&format!("pull {}", image.replace(' ', ";"))).unwrap().check(&user());
        assert!(refused.unwrap_err().image, "{image}");
    }
    assert!(checked("pull a b").unwrap_err().image);
}

#[test]
fn only_hexadecimal_digits_and_dashes_are_a_worker_id() {
    for id in [ID, "a", "0-", "ABC"] {
        assert!(is_worker_id(id), "{id}");
    }
    for id in ["", "-a", "g", "a b", "a/b", "a.b", "a;", "a\n", &"a".repeat(129)] {
        assert!(!is_worker_id(id), "{id:?}");
    }
}

#[test]
fn seccomp_profiles_can_be_replaced_by_what_they_lead_to() {
    let mut line = checked(&run_with(" --security-opt seccomp=/a")).unwrap();
    for value in line.seccomp_profiles() {
        assert_eq!(seccomp_path(value), "/a");
        *value = seccomp_value("/b");
    }
    assert!(line.words().join(" ").contains("--security-opt seccomp=/b"));
}
