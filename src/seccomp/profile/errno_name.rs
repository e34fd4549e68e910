//! Names of errnos, both ways: profiles for docker and podman give them, and people read them.

/// Every name that libc has for this architecture, through its own numbers: they differ between
/// architectures.
macro_rules! names {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name as u16)),*] };
}

const NAMES: &[(&str, u16)] = names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV
    ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG
    ENOLCK ENOSYS ENOTEMPTY ELOOP ENOMSG EIDRM ENOSTR ENODATA ETIME ENOSR ENONET ENOPKG EREMOTE ENOLINK ECOMM EPROTO EMULTIHOP
    EBADMSG EOVERFLOW EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT EPROTONOSUPPORT ESOCKTNOSUPPORT EOPNOTSUPP
    EPFNOSUPPORT EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ENETUNREACH ENETRESET ECONNABORTED ECONNRESET ENOBUFS EISCONN
    ENOTCONN ESHUTDOWN ETOOMANYREFS ETIMEDOUT ECONNREFUSED EHOSTDOWN EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ECANCELED
    EWOULDBLOCK ENOTSUP
};

/// The name of an errno.
pub(in crate::seccomp) fn name_of(errno: u16) -> Option<&'static str> {
    NAMES.iter().find(|(_, number)| *number == errno).map(|(name, _)| *name)
}

/// The errno of a name.
pub(in crate::seccomp) fn number_of(name: &str) -> Option<u16> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_to_each_other() {
        assert_eq!((number_of("EPERM"), name_of(libc::ENOSYS as u16)), (Some(1), Some("ENOSYS")));
        assert_eq!((number_of("ENOTHING"), name_of(4095)), (None, None));
        // An alias is read, and the first name is written.
        assert_eq!(number_of("EWOULDBLOCK").and_then(name_of), Some("EAGAIN"));
    }
}
