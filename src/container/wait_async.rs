//! Waiting for containers in tokio's reactor (feature `tokio`).
//!
//! No thread for each container and no polling: a future waits on the pidfd of the monitor, as the
//! blocking calls do, and each wake-up reads the container's files, which are small and in memory.
//! Dropping a future leaves nothing behind, and loses nothing: whoever waits again learns the same.

use std::os::fd::AsFd;

use super::launching::Settling;
use super::wait::{Next, Waiting};
use super::{Container, Created, Ended, Launching, Paused, Running};
use crate::crash::{self, Role};
use crate::error::Result;
use crate::reactor::readable;
use crate::stage::Stage;

impl Running {
    /// As [`Running::wait`], in tokio's reactor: any number of futures may wait, in one thread.
    /// Cancel-safe.
    ///
    /// # Errors
    /// Those of [`Running::wait`]; [`Unsupported`](crate::ErrorKind::Unsupported) outside of a
    /// runtime of tokio.
    ///
    /// # Panics
    /// In a runtime that was built without I/O (`enable_io`), as everything of tokio's that needs it.
    pub async fn wait_async(&self) -> Result<Ended> {
        crash::point(Role::Caller, Stage::Watch);
        let mut waiting = Waiting::of(self);
        loop {
            match waiting.next()? {
                Next::Ended(ended) => return Ok(ended),
                Next::Watch(source) => readable(source.as_fd()).await?,
            }
        }
    }
}

impl Created {
    /// As [`Created::wait`], in tokio's reactor. Cancel-safe.
    ///
    /// # Errors
    /// Those of [`Running::wait_async`].
    ///
    /// # Panics
    /// As [`Running::wait_async`].
    pub async fn wait_async(&self) -> Result<Ended> {
        self.0.wait_async().await
    }
}

impl Paused {
    /// As [`Paused::wait`], in tokio's reactor. Cancel-safe.
    ///
    /// # Errors
    /// Those of [`Running::wait_async`].
    ///
    /// # Panics
    /// As [`Running::wait_async`].
    pub async fn wait_async(&self) -> Result<Ended> {
        self.0.wait_async().await
    }
}

impl Launching {
    /// Waits until its launch is over, and gives the container in the phase in which it then is:
    /// still launching, if the launch process has been killed. [`Launching::settle`] in tokio's
    /// reactor; for a bound use `tokio::time::timeout`. Cancel-safe.
    ///
    /// # Errors
    /// Those of [`Launching::settle`] and [`Running::wait_async`].
    ///
    /// # Panics
    /// As [`Running::wait_async`].
    pub async fn settle_async(&self) -> Result<Container> {
        let settling = Settling::of(self)?;
        loop {
            if let Some(container) = settling.look()? {
                return Ok(container);
            }
            readable(settling.changes().as_fd()).await?;
        }
    }
}
