//! File-system ids: whom the kernel takes the calling thread for when it opens, makes and removes
//! files.

/// The argument that changes nothing: both calls answer with the id as it was.
const ASK: u32 = u32::MAX;

/// The file-system ids of the calling thread: user, group.
pub(crate) fn fs_ids() -> (u32, u32) {
    // SAFETY: plain numbers; an id that nobody can have changes nothing.
    unsafe { (libc::setfsuid(ASK) as u32, libc::setfsgid(ASK) as u32) }
}

/// Sets the file-system ids of the calling thread, and of no other: these two calls are the
/// kernel's own in every libc. Needs CAP_SETUID and CAP_SETGID. Whether they took effect, as
/// neither call has an error.
pub(crate) fn set_fs_ids(uid: u32, gid: u32) -> bool {
    // SAFETY: plain numbers. Only the calling thread's credentials change.
    unsafe {
        libc::setfsgid(gid);
        libc::setfsuid(uid);
    }
    fs_ids() == (uid, gid)
}
