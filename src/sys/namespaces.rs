//! Namespaces, and what belongs to a fresh one.

use std::os::fd::AsRawFd;

use super::{Io, check};

/// Brings the loopback interface of the current network namespace up.
pub(crate) fn bring_loopback_up() -> Io<()> {
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::DGRAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )?;
    // SAFETY: `request` is a valid `struct ifreq` (plain integers and bytes, for which zero is
    // valid), with a NUL-terminated name; the kernel reads and writes it during the calls only, and
    // SIOCGIFFLAGS makes the flags member of the union the valid one.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) as libc::c_long)?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) as libc::c_long).map(drop)
    }
}

/// Makes the cgroups that this process is in the root of what it sees of them. Kernel 4.6.
pub(crate) fn unshare_cgroup_namespace() -> Io<()> {
    // SAFETY: only the namespace of this process changes; no descriptor table, stack or memory is
    // unshared.
    check(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) } as libc::c_long).map(drop)
}

/// Gives this process a mount namespace of its own.
pub(crate) fn unshare_mount_namespace() -> Io<()> {
    // SAFETY: only the namespace of this process changes; no descriptor table, stack or memory is
    // unshared.
    check(unsafe { libc::unshare(libc::CLONE_NEWNS) } as libc::c_long).map(drop)
}
