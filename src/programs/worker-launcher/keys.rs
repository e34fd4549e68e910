//! The keys of the configuration file.

/// Every key that has a meaning here, and those of Storm's own program that have none any more.
pub const KEYS: [&str; 21] = [
    "storm.worker-launcher.group",
    "min.user.id",
    "banned.users",
    "worker.profiler.script.path",
    "docker.binary",
    "nsenter.binary",
    "worker.launcher.oci.run-root",
    "worker.launcher.oci.runc",
    "worker.launcher.oci.image.roots",
    "worker.launcher.oci.allowed.mount.source.dirs",
    "worker.launcher.oci.seccomp.default",
    "worker.launcher.oci.pids.limit",
    "worker.launcher.oci.swap.limit",
    "worker.launcher.oci.cgroup.parent",
    "worker.launcher.oci.monitors.cgroup",
    "worker.launcher.oci.apparmor.profile",
    "worker.launcher.oci.selinux.label",
    "worker.launcher.oci.cgroup.v1.view",
    "worker.launcher.docker.binary",
    "worker.launcher.docker.allowed.mount.source.dirs",
    "worker.launcher.docker.config.dir",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_example_and_the_sources_name_are_keys() {
        let sources = [
            include_str!("worker-launcher.cfg"),
            include_str!("config.rs"),
            include_str!("profile.rs"),
            include_str!("oci/settings.rs"),
            include_str!("docker/client.rs"),
            include_str!("docker/files.rs"),
            include_str!("docker/profile.rs"),
        ];
        let text = sources.join(" ");
        let named = text.split(|character: char| !character.is_ascii_alphanumeric() && !".-".contains(character));
        let keys: Vec<&str> = named.filter(|word| is_like_a_key(word)).collect();
        assert!(keys.len() > KEYS.len());
        for key in keys {
            assert!(KEYS.contains(&key), "{key}");
        }
    }

    fn is_like_a_key(word: &str) -> bool {
        ["worker.launcher.", "worker.profiler.", "storm.worker-launcher.", "docker.binary", "nsenter.binary"]
            .iter()
            .any(|start| word.starts_with(start))
    }
}
