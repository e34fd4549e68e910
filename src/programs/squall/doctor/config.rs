//! The kernel's configuration, where the machine shows it.

use std::io::Read;

use flate2::read::GzDecoder;

use super::machine::Machine;

/// Most bytes of a configuration: today's have 300 KiB.
const MOST: u64 = 8 << 20;

/// The configuration, and where it was found.
#[derive(Debug)]
pub(super) struct KernelConfig {
    text: String,
    pub(super) source: String,
}

impl KernelConfig {
    /// From `/proc/config.gz`, else from where distributions keep it; nothing where it cannot be
    /// read.
    pub(super) fn read(machine: &Machine) -> Option<KernelConfig> {
        const IN_KERNEL: &str = "/proc/config.gz";
        if let Some(text) = machine.bytes(IN_KERNEL).ok().and_then(|bytes| unpacked(&bytes)) {
            return Some(KernelConfig { text, source: IN_KERNEL.to_owned() });
        }
        let release = machine.text("/proc/sys/kernel/osrelease").ok()?;
        let places = [format!("/boot/config-{release}"), format!("/lib/modules/{release}/config")];
        places.into_iter().find_map(|source| machine.text(&source).ok().map(|text| KernelConfig { text, source }))
    }

    /// Whether an option is built in or a module.
    pub(super) fn has(&self, option: &str) -> bool {
        self.value(option).is_some_and(|value| value == "y" || value == "m")
    }

    /// Whether it is a module.
    pub(super) fn is_module(&self, option: &str) -> bool {
        self.value(option) == Some("m")
    }

    fn value(&self, option: &str) -> Option<&str> {
        self.text.lines().find_map(|line| line.strip_prefix(option)?.strip_prefix('='))
    }
}

fn unpacked(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    GzDecoder::new(bytes).take(MOST).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::machine::fixture::machine;
    use super::*;

    #[test]
    fn options_are_found_whole_and_only_where_a_configuration_is() {
        let files = [
            ("/proc/sys/kernel/osrelease", "6.1.0-13-amd64\n"),
            (
                "/boot/config-6.1.0-13-amd64",
                "CONFIG_SQUASHFS=m\nCONFIG_SQUASHFS_XATTR=y\n# CONFIG_EROFS_FS is not set\n",
            ),
        ];
        let (_top, with) = machine(&files);
        let config = KernelConfig::read(&with).unwrap();
        assert_eq!(config.source, "/boot/config-6.1.0-13-amd64");
        assert!(config.has("CONFIG_SQUASHFS") && config.is_module("CONFIG_SQUASHFS"));
        assert!(config.has("CONFIG_SQUASHFS_XATTR") && !config.is_module("CONFIG_SQUASHFS_XATTR"));
        assert!(!config.has("CONFIG_EROFS_FS") && !config.has("CONFIG_SQUASHFS_X"));
        let (_top, without) = machine(&files[..1]);
        assert!(KernelConfig::read(&without).is_none());
        let (_top, broken) = machine(&[("/proc/config.gz", "no gzip")]);
        assert!(KernelConfig::read(&broken).is_none());
    }
}
