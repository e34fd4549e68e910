//! Architectures as profiles and the kernel name them, and which one this is.

/// An architecture that Squall can filter for.
pub(in crate::seccomp) struct Native {
    /// The name in an OCI profile.
    pub(in crate::seccomp) oci_name: &'static str,
    /// The name in a docker or podman profile (`includes.arches`).
    pub(in crate::seccomp) go_name: &'static str,
    /// `AUDIT_ARCH_*`, which the kernel hands to the filter.
    pub(in crate::seccomp) audit: u32,
    /// The lowest number of a second call table that shares the same audit value: x32.
    pub(in crate::seccomp) second_table: Option<u32>,
}

/// The architecture that this library was compiled for.
#[cfg(target_arch = "x86_64")]
pub(in crate::seccomp) const NATIVE: Native =
    Native { oci_name: "SCMP_ARCH_X86_64", go_name: "amd64", audit: 0xC000_003E, second_table: Some(0x4000_0000) };
/// The architecture that this library was compiled for.
#[cfg(target_arch = "aarch64")]
pub(in crate::seccomp) const NATIVE: Native =
    Native { oci_name: "SCMP_ARCH_AARCH64", go_name: "arm64", audit: 0xC000_00B7, second_table: None };
/// The architecture that this library was compiled for.
#[cfg(target_arch = "riscv64")]
pub(in crate::seccomp) const NATIVE: Native =
    Native { oci_name: "SCMP_ARCH_RISCV64", go_name: "riscv64", audit: 0xC000_00F3, second_table: None };

/// All names that the OCI specification has.
const OCI_NAMES: [&str; 22] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_SHEB",
];

/// Whether a profile may name it at all.
pub(in crate::seccomp) fn is_known(name: &str) -> bool {
    OCI_NAMES.contains(&name) || name == "SCMP_ARCH_NATIVE" || name == "SCMP_ARCH_SH"
}

/// Whether a name means the architecture that this is.
pub(in crate::seccomp) fn is_native(name: &str) -> bool {
    name == NATIVE.oci_name || name == "SCMP_ARCH_NATIVE"
}
