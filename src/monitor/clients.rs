//! Who is connected to `monitor.sock`. Eight fixed places; none of them can make the monitor wait.

use crate::protocol::{Answer, EPERM, MAX_REQUEST, Request};
use crate::sys;

/// Enough for every reader of a host at once: requests are answered in microseconds.
pub const PLACES: usize = 8;

/// One place.
#[derive(Clone, Copy)]
struct Place {
    /// -1: free.
    fd: i32,
    /// Whose it is.
    pid: u32,
    /// When it was last heard of, in the order of hearing.
    heard: u64,
}

/// The connected clients.
pub struct Clients {
    places: [Place; PLACES],
    heard: u64,
    owner_uid: u32,
}

/// What became of a try to accept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// The queue was served, or is empty.
    Yes,
    /// The system has no fd or memory left. The connection stays queued, and asking again at once
    /// would go on for ever.
    Exhausted,
}

impl Clients {
    pub fn new(owner_uid: u32) -> Clients {
        Clients { places: [Place { fd: -1, pid: 0, heard: 0 }; PLACES], heard: 0, owner_uid }
    }

    /// The fds to wait on; -1 where there is none.
    pub fn fds(&self) -> [i32; PLACES] {
        self.places.map(|place| place.fd)
    }

    /// Takes the next connection. Everybody but root and the owner hears EPERM. With all places
    /// taken, whoever has been silent longest loses theirs.
    pub fn accept(&mut self, socket: i32) -> Accepted {
        let fd = match sys::accept(socket) {
            Ok(fd) => fd,
            Err(sys::EAGAIN | sys::EINTR | sys::ECONNABORTED) => return Accepted::Yes,
            Err(_) => return Accepted::Exhausted,
        };
        let peer = sys::peer(fd).ok().filter(|(_, uid)| *uid == 0 || *uid == self.owner_uid);
        let Some((pid, _)) = peer else {
            turn_away(fd);
            return Accepted::Yes;
        };
        self.heard += 1;
        if let Some(place) = self.places.iter_mut().min_by_key(|place| (place.fd >= 0, place.heard)) {
            if place.fd >= 0 {
                sys::close(place.fd);
            }
            *place = Place { fd, pid, heard: self.heard };
        }
        Accepted::Yes
    }

    /// The client's next request, and its pid as it connected. `None`: there is none, because the
    /// client left, or sent what is none and has been told so.
    pub fn receive(&mut self, client: usize) -> Option<(Request, u32)> {
        self.heard += 1;
        let place = self.places.get_mut(client)?;
        place.heard = self.heard;
        let pid = place.pid;
        let mut buffer = [0; MAX_REQUEST];
        let packet = match sys::receive(place.fd, &mut buffer) {
            Err(sys::EAGAIN | sys::EINTR) => return None,
            Ok(0) | Err(_) => {
                self.drop(client);
                return None;
            }
            // A longer packet fills the buffer, and what fills it is too long for any verb.
            Ok(length) => buffer.get(..length.min(MAX_REQUEST))?,
        };
        let request = Request::decode(packet).map_err(|errno| self.answer(client, Answer::Failed(errno))).ok();
        request.map(|request| (request, pid))
    }

    /// Answers. A client that does not take its answers away is dropped.
    pub fn answer(&mut self, client: usize, answer: Answer) {
        let Some(place) = self.places.get(client) else { return };
        if sys::send(place.fd, &answer.encode()).is_err() {
            self.drop(client);
        }
    }

    fn drop(&mut self, client: usize) {
        if let Some(place) = self.places.get_mut(client) {
            sys::close(place.fd);
            place.fd = -1;
        }
    }
}

/// Closing a socket with a request unread resets the connection, and the answer is lost with it: so
/// first no more requests, then none unread.
fn turn_away(fd: i32) {
    let _ = sys::send(fd, &Answer::Failed(EPERM).encode());
    sys::shutdown(fd);
    while sys::receive(fd, &mut [0; MAX_REQUEST]).is_ok_and(|length| length > 0) {}
    sys::close(fd);
}
