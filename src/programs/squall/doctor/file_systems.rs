//! squashfs, EROFS and overlay: whether the kernel has them, and how its squashfs was built.

use super::config::KernelConfig;
use super::finding::Finding;
use super::machine::Machine;

pub(super) fn findings(machine: &Machine) -> Vec<Finding> {
    let config = KernelConfig::read(machine);
    let config = config.as_ref();
    vec![
        needed(machine, config, "squashfs", "CONFIG_SQUASHFS"),
        needed(machine, config, "overlay", "CONFIG_OVERLAY_FS"),
        needed(machine, config, "tmpfs", "CONFIG_TMPFS"),
        mqueue(machine),
        erofs(machine, config),
        decompressor(config),
        compressions(config),
        autoload(machine),
    ]
}

fn is_registered(machine: &Machine, name: &str) -> Option<bool> {
    let listed = machine.text("/proc/filesystems").ok()?;
    Some(listed.lines().any(|line| line.split_whitespace().last() == Some(name)))
}

fn needed(machine: &Machine, config: Option<&KernelConfig>, name: &str, option: &str) -> Finding {
    match (is_registered(machine, name), config) {
        (Some(true), _) => Finding::ok(name, "the kernel has it"),
        (None, _) => Finding::unknown(name, "/proc/filesystems cannot be read"),
        (Some(false), Some(config)) if config.is_module(option) => {
            let seen = format!("a module that is not loaded ({})", config.source);
            Finding::ok(name, seen).advise(format!("modprobe {name}, if the kernel does not load it by itself"))
        }
        (Some(false), Some(config)) => {
            let seen = format!("not in this kernel ({} lacks {option})", config.source);
            Finding::missing(name, seen, format!("boot a kernel with {option}"))
        }
        (Some(false), None) => {
            let seen = "not loaded; whether there is a module is unknown";
            Finding::unknown(name, seen).advise(format!("modprobe {name}"))
        }
    }
}

fn mqueue(machine: &Machine) -> Finding {
    match is_registered(machine, "mqueue") {
        Some(true) => Finding::ok("mqueue", "the kernel has it"),
        Some(false) => Finding::missing("mqueue", "not in this kernel", "boot a kernel with CONFIG_POSIX_MQUEUE"),
        None => Finding::unknown("mqueue", "/proc/filesystems cannot be read"),
    }
}

/// A second format of layers, which most images do without.
fn erofs(machine: &Machine, config: Option<&KernelConfig>) -> Finding {
    let found = needed(machine, config, "erofs", "CONFIG_EROFS_FS");
    match found.state {
        super::State::Missing => Finding::ok("erofs", format!("{}: layers have to be squashfs", found.seen)),
        _ => found,
    }
}

/// How many blocks of one mounted layer can be decompressed at a time.
fn decompressor(config: Option<&KernelConfig>) -> Finding {
    const NAME: &str = "decompressor";
    let Some(config) = config else { return unreadable(NAME) };
    // Where the mount decides, the built-in default counts: Squall passes no `threads=`.
    let modes = [
        ("CONFIG_SQUASHFS_DECOMP_MULTI_PERCPU", "one for each CPU", true),
        ("CONFIG_SQUASHFS_DECOMP_MULTI", "several for each layer", true),
        ("CONFIG_SQUASHFS_DECOMP_SINGLE", "one for each layer", false),
    ];
    match modes.into_iter().find(|(option, _, _)| config.has(option)) {
        Some((option, mode, true)) => Finding::ok(NAME, format!("{mode} ({option})")),
        Some((option, mode, false)) => {
            let seen = format!("{mode}: its readers wait for each other ({option})");
            Finding::limited(NAME, seen, "for parallel reads boot a kernel with CONFIG_SQUASHFS_DECOMP_MULTI_PERCPU")
        }
        None => Finding::unknown(NAME, format!("{} does not say", config.source)),
    }
}

fn compressions(config: Option<&KernelConfig>) -> Finding {
    const NAME: &str = "compressions";
    let Some(config) = config else { return unreadable(NAME) };
    const ALL: [(&str, &str); 5] = [
        ("gzip", "CONFIG_SQUASHFS_ZLIB"),
        ("xz", "CONFIG_SQUASHFS_XZ"),
        ("zstd", "CONFIG_SQUASHFS_ZSTD"),
        ("lz4", "CONFIG_SQUASHFS_LZ4"),
        ("lzo", "CONFIG_SQUASHFS_LZO"),
    ];
    let (has, lacks): (Vec<_>, Vec<_>) = ALL.iter().partition(|(_, option)| config.has(option));
    let names = |list: Vec<&(&str, &'static str)>| list.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
    let (has, lacks) = (names(has), names(lacks));
    match lacks.is_empty() {
        true => Finding::ok(NAME, has),
        false => {
            let advice = "build images with a compression that is there, or boot a kernel with the others";
            Finding::limited(NAME, format!("{has}; not {lacks}"), advice)
        }
    }
}

fn unreadable(name: &str) -> Finding {
    Finding::unknown(name, "the kernel's configuration is neither in /proc/config.gz nor in /boot or /lib/modules")
}

/// Whether the kernel loads a module when a file system is first mounted.
fn autoload(machine: &Machine) -> Finding {
    const NAME: &str = "module autoload";
    let Ok(helper) = machine.text("/proc/sys/kernel/modprobe") else {
        return Finding::ok(NAME, "the kernel has no modules, or does not show its helper");
    };
    let disabled = machine.number("/proc/sys/kernel/modules_disabled") == Some(1);
    match (disabled, helper.is_empty(), machine.exists(&helper)) {
        (true, _, _) => Finding::ok(NAME, "loading is disabled for good: what is loaded is all there is"),
        (_, true, _) => Finding::ok(NAME, "off: no helper is set"),
        (_, _, true) => Finding::ok(NAME, format!("by {helper}")),
        (_, _, false) => Finding::ok(NAME, format!("off: the helper {helper} is not there")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::super::machine::fixture::machine;
    use super::*;

    const RELEASE: (&str, &str) = ("/proc/sys/kernel/osrelease", "6.1.0\n");
    const REGISTERED: (&str, &str) = ("/proc/filesystems", "nodev\ttmpfs\n\tsquashfs\nnodev\toverlay\nnodev\tmqueue\n");

    fn state(found: &[Finding], name: &str) -> State {
        found.iter().find(|finding| finding.name == name).unwrap().state
    }

    #[test]
    fn a_module_that_is_not_loaded_is_no_obstacle_and_none_at_all_is() {
        for (config, expected) in [("CONFIG_SQUASHFS=m\n", State::Ok), ("CONFIG_X=y\n", State::Missing)] {
            let files = [RELEASE, ("/boot/config-6.1.0", config), ("/proc/filesystems", "nodev\ttmpfs\n")];
            let (_top, bare) = machine(&files);
            assert_eq!(state(&findings(&bare), "squashfs"), expected, "{config}");
        }
    }

    #[test]
    fn without_a_configuration_its_questions_are_unknown_and_the_rest_is_not() {
        let (_top, plain) = machine(&[RELEASE, REGISTERED]);
        let found = findings(&plain);
        assert_eq!(state(&found, "squashfs"), State::Ok);
        assert_eq!(state(&found, "erofs"), State::Unknown);
        assert_eq!((state(&found, "decompressor"), state(&found, "compressions")), (State::Unknown, State::Unknown));
    }

    #[test]
    fn one_decompressor_for_each_layer_is_a_limit_and_so_is_a_compression_too_few() {
        let single = "CONFIG_SQUASHFS_DECOMP_SINGLE=y\nCONFIG_SQUASHFS_ZLIB=y\n";
        let many = "CONFIG_SQUASHFS_DECOMP_MULTI_PERCPU=y\nCONFIG_SQUASHFS_ZLIB=y\nCONFIG_SQUASHFS_XZ=y\n\
                    CONFIG_SQUASHFS_ZSTD=y\nCONFIG_SQUASHFS_LZ4=y\nCONFIG_SQUASHFS_LZO=y\n";
        for (config, expected) in [(single, State::Limited), (many, State::Ok)] {
            let (_top, built) = machine(&[RELEASE, REGISTERED, ("/boot/config-6.1.0", config)]);
            let found = findings(&built);
            assert_eq!((state(&found, "decompressor"), state(&found, "compressions")), (expected, expected));
        }
    }
}
