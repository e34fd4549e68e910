//! Waiting in the reactor of tokio, which is the only thing of it that the library uses.

use std::os::fd::BorrowedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::stage::Stage;

/// Waits until a descriptor can be read. It is registered for as long as the future lives, and may
/// be registered by one such future at a time.
pub(crate) async fn readable(fd: BorrowedFd<'_>) -> Result<()> {
    const OBJECT: &str = "tokio's reactor";
    if Handle::try_current().is_err() {
        let text = "there is none here: call this in a runtime of tokio, built with enable_io";
        return Err(Error::found(ErrorKind::Unsupported, Stage::Watch, OBJECT, "register", text));
    }
    // The newer call is unsafe, for types that lie about their descriptor; this one cannot.
    #[allow(deprecated, reason = "sound for a borrowed descriptor, and there in every version 1 of tokio")]
    let registered = AsyncFd::with_interest(fd, Interest::READABLE).at(Stage::Watch, OBJECT, "epoll_ctl")?;
    // Nothing is read from it here, so that it can be read is left as it is.
    registered.readable().await.at(Stage::Watch, OBJECT, "epoll_wait").map(drop)
}
