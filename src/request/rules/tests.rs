use super::super::path::Destination;
use super::super::{Tmpfs, Variable};
use super::*;

fn of_limits(limits: Limits) -> Vec<String> {
    let mut found = Found::default();
    found.memory(&limits);
    found.cpu(&limits);
    found.counts(&limits);
    found.0.into_problems("request").into_iter().map(|problem| problem.field).collect()
}

#[test]
fn limits_that_the_kernel_takes_pass() {
    let least = Limits {
        cpu_quota_us: Some(1000),
        cpu_period_us: Some(1000),
        cpu_shares: Some(2),
        memory_bytes: Some(MIN_MEMORY_BYTES),
        memory_swap_bytes: Some(SwapLimit::Total(MIN_MEMORY_BYTES)),
        pids: Some(1),
        blkio_weight: Some(10),
        ..Limits::default()
    };
    let most = Limits {
        cpu_quota_us: Some(MAX_QUOTA_US as i64),
        cpu_period_us: Some(1_000_000),
        cpu_shares: Some(262_144),
        memory_bytes: Some(MAX_BYTES),
        memory_swap_bytes: Some(SwapLimit::Total(MAX_BYTES)),
        memory_reservation_bytes: Some(MAX_BYTES),
        pids: Some(MAX_PIDS),
        blkio_weight: Some(1000),
        ..Limits::default()
    };
    let swap = Limits { memory_swap_bytes: Some(SwapLimit::Unlimited), ..Limits::default() };
    for limits in [Limits::default(), least, most, swap] {
        assert_eq!(of_limits(limits.clone()), Vec::<String>::new(), "{limits:?}");
    }
}

#[test]
fn each_absurd_number_is_named() {
    let none = Limits::default;
    let table = [
        (Limits { memory_bytes: Some(MIN_MEMORY_BYTES - 1), ..none() }, "memory_bytes"),
        (Limits { memory_bytes: Some(MAX_BYTES + 1), ..none() }, "memory_bytes"),
        (Limits { memory_reservation_bytes: Some(1), ..none() }, "memory_reservation_bytes"),
        (Limits { memory_swap_bytes: Some(SwapLimit::Total(1 << 30)), ..none() }, "memory_swap_bytes"),
        (
            Limits { memory_bytes: Some(1 << 30), memory_swap_bytes: Some(SwapLimit::Total(1 << 29)), ..none() },
            "memory_swap_bytes",
        ),
        (
            Limits { memory_bytes: Some(1 << 30), memory_swap_bytes: Some(SwapLimit::Total(u64::MAX)), ..none() },
            "memory_swap_bytes",
        ),
        (Limits { cpu_quota_us: Some(999), ..none() }, "cpu_quota_us"),
        (Limits { cpu_quota_us: Some(0), ..none() }, "cpu_quota_us"),
        (Limits { cpu_quota_us: Some(-1), ..none() }, "cpu_quota_us"),
        (Limits { cpu_quota_us: Some(i64::MAX), ..none() }, "cpu_quota_us"),
        (Limits { cpu_period_us: Some(999), ..none() }, "cpu_period_us"),
        (Limits { cpu_period_us: Some(1_000_001), ..none() }, "cpu_period_us"),
        (Limits { cpu_shares: Some(1), ..none() }, "cpu_shares"),
        (Limits { cpu_shares: Some(262_145), ..none() }, "cpu_shares"),
        (Limits { pids: Some(0), ..none() }, "pids"),
        (Limits { pids: Some(u64::MAX), ..none() }, "pids"),
        (Limits { blkio_weight: Some(9), ..none() }, "blkio_weight"),
        (Limits { blkio_weight: Some(1001), ..none() }, "blkio_weight"),
    ];
    for (limits, field) in table {
        assert_eq!(of_limits(limits.clone()), [format!("limits.{field}")], "{limits:?}");
    }
}

#[test]
fn a_command_that_execve_refuses_is_refused_here() {
    let strings = |args: &[String], env: Environment| {
        let mut found = Found::default();
        found.strings(args, &env);
        found.0.into_problems("request").into_iter().map(|problem| problem.to_string()).collect::<Vec<_>>()
    };
    let empty = Environment::default;
    assert!(strings(&["x".repeat(MAX_STRING_BYTES)], empty()).is_empty());
    let one = strings(&["x".repeat(MAX_STRING_BYTES + 1)], empty());
    assert!(one[0].contains("args[0]") && one[0].contains("MAX_ARG_STRLEN"), "{one:?}");
    let longest = Variable::new(format!("A={}", "x".repeat(MAX_STRING_BYTES - 2))).unwrap();
    assert!(strings(&[], [longest].into_iter().collect()).is_empty());
    let error = Variable::new(format!("A={}", "x".repeat(MAX_STRING_BYTES - 1))).unwrap_err();
    assert!(error.to_string().contains("MAX_ARG_STRLEN"), "{error}");
    let env: Environment = (0..20).map(|n| Variable::new(format!("V{n}={}", "x".repeat(120_000))).unwrap()).collect();
    assert_eq!(strings(&[], env).len(), 1);
    let many = strings(&vec![String::new(); MAX_COMMAND_BYTES / 9 + 1], empty());
    assert!(many.len() == 1 && many[0].contains("ARG_MAX"), "{many:?}");
    assert!(strings(&vec![String::new(); MAX_COMMAND_BYTES / 9], empty()).is_empty());
}

#[test]
fn a_tmpfs_has_a_real_size_and_mode() {
    let tmpfs = |size_bytes, mode| {
        let destination = Destination::new("/t").unwrap();
        let mount = Mount::Tmpfs(Tmpfs::new(destination, size_bytes, mode));
        mount_problems(7, &mount).into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    assert!(tmpfs(Some(4096), 0o7777).is_empty() && tmpfs(None, 0).is_empty());
    assert_eq!(tmpfs(Some(0), 0o10000), ["mounts[7].size_bytes", "mounts[7].mode"]);
    assert_eq!(tmpfs(Some(MAX_BYTES + 1), 0), ["mounts[7].size_bytes"]);
}

#[test]
fn a_profile_is_an_object_of_bounded_depth() {
    let problems = |profile: &Value| {
        let mut found = Found::default();
        found.seccomp(&Seccomp::Profile(profile.clone().into()));
        found.0.into_problems("request").len()
    };
    let nested = |levels: usize| {
        let inner = (2..levels).fold(serde_json::json!({}), |inner, _| serde_json::json!({ "a": inner }));
        serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW", "x": inner })
    };
    assert_eq!(problems(&nested(MAX_SECCOMP_DEPTH)), 0);
    assert_eq!(problems(&nested(MAX_SECCOMP_DEPTH + 1)), 1);
    for other in [Value::Null, 1.into(), "x".into(), serde_json::json!([])] {
        assert_eq!(problems(&other), 1, "{other}");
    }
}

#[test]
fn time_and_layers_have_an_upper_and_a_lower_bound() {
    let count = |act: &dyn Fn(&mut Found)| {
        let mut found = Found::default();
        act(&mut found);
        found.0.into_problems("request").len()
    };
    let path = LayerPath::new("/l").unwrap();
    for (layers, problems) in [(0, 1), (1, 0), (MAX_LAYERS, 0), (MAX_LAYERS + 1, 1)] {
        assert_eq!(count(&|found| found.layers(&vec![path.clone(); layers])), problems, "{layers}");
    }
    for (time, problems) in [(Duration::ZERO, 1), (Duration::from_nanos(1), 0), (MAX_TIMEOUT, 0), (Duration::MAX, 1)] {
        assert_eq!(count(&|found| found.timeout(Some(time))), problems, "{time:?}");
    }
}
