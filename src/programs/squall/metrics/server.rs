//! The server: one thread for all clients, so many of them at a time, and each for so long.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs;
use std::future::poll_fn;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::fs::Mode;
use rustix::process::umask;
use squall::{Context, Error, ErrorKind, Result, SignalStream, Stage};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use super::address::Address;
use super::exposition;

/// Clients at a time. One more, and the oldest is cut off: it has had its time.
const CLIENTS: usize = 64;

/// From the first byte to the last.
const PATIENCE: Duration = Duration::from_secs(10);

/// The object of errors.
const SERVER: &str = "metrics server";

/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// More than any client's request line and headers.
const HEADERS: usize = 16 * 1024;

/// Serves what `collect` gives, anew for each request, until a signal asks for the end. Prints
/// where it listens once it does.
pub fn serve(address: &Address, collect: impl Fn() -> Result<String> + 'static) -> Result<()> {
    // First, so that no signal leaves a socket behind.
    let end = end_asked_for()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.at(Stage::Watch, SERVER, "epoll_create")?;
    let (listener, file) = {
        let _context = runtime.enter();
        Listener::bind(address)?
    };
    say!("{}", listener.shown());
    let ended = LocalSet::new().block_on(&runtime, async {
        match select(pin!(end), pin!(accept(&listener, Rc::new(collect)))).await {
            Ok(ended) => ended.unwrap_or(Ok(())),
            Err(never) => match never {},
        }
    });
    file.map_or(Ok(()), SocketFile::remove).and(ended)
}

/// Waits for the first of two.
async fn select<A, B>(
    mut one: Pin<&mut impl Future<Output = A>>,
    mut other: Pin<&mut impl Future<Output = B>>,
) -> std::result::Result<A, B> {
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(one) => Poll::Ready(Ok(one)),
        Poll::Pending => other.as_mut().poll(context).map(Err),
    })
    .await
}

/// Begins to wait for a signal that would end this program, in a thread of its own: they are
/// blocked, and the runtime has no way to wait for them that goes without handlers.
fn end_asked_for() -> Result<oneshot::Receiver<Result<()>>> {
    let signals = SignalStream::of_a_foreground_program()?;
    let (sender, receiver) = oneshot::channel();
    let wait = move || {
        let _ = sender.send(await_end(&signals));
    };
    std::thread::Builder::new().spawn(wait).at(Stage::Watch, SERVER, "clone")?;
    Ok(receiver)
}

fn await_end(signals: &SignalStream) -> Result<()> {
    // What neither ends a program nor is meant to.
    while matches!(signals.receive()?.number, libc::SIGWINCH | libc::SIGCONT) {}
    Ok(())
}

/// What is listened on.
enum Listener {
    Unix(tokio::net::UnixListener, PathBuf),
    Tcp(tokio::net::TcpListener),
}

/// A client's connection.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Listener {
    /// Listens, inside of the runtime; the second is the file to remove at the end.
    fn bind(address: &Address) -> Result<(Listener, Option<SocketFile>)> {
        match address {
            Address::Unix(path) => {
                let object = format!("socket '{}'", path.display());
                let (listener, file) = SocketFile::bind(path)?;
                listener.set_nonblocking(true).at(Stage::Watch, &object, "fcntl")?;
                let listener = tokio::net::UnixListener::from_std(listener).at(Stage::Watch, &object, "epoll_ctl")?;
                Ok((Listener::Unix(listener, path.clone()), Some(file)))
            }
            Address::Tcp(address) => {
                let object = format!("address {address}");
                let listener = TcpListener::bind(address).at(Stage::Watch, &object, "bind")?;
                listener.set_nonblocking(true).at(Stage::Watch, &object, "fcntl")?;
                let listener = tokio::net::TcpListener::from_std(listener).at(Stage::Watch, &object, "epoll_ctl")?;
                Ok((Listener::Tcp(listener), None))
            }
        }
    }

    /// Where it listens, with the port that it got.
    fn shown(&self) -> String {
        match self {
            Listener::Unix(_, path) => path.display().to_string(),
            Listener::Tcp(listener) => {
                listener.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string())
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Listener::Unix(listener, _) => Box::new(listener.accept().await?.0),
            Listener::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// The file of a Unix socket that this program listens on.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Makes the file for its owner alone. One on which nobody listens any more is replaced; any
    /// other file is left alone, and an error.
    fn bind(path: &Path) -> Result<(UnixListener, SocketFile)> {
        let object = format!("socket '{}'", path.display());
        if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
            match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).at(Stage::Watch, &object, "unlink")?;
                }
                _ => {
                    let text = "another program listens on it";
                    return Err(Error::found(ErrorKind::Exists, Stage::Watch, object, "bind", text));
                }
            }
        }
        // By the mask, so that there is no moment at which others could connect.
        let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener.at(Stage::Watch, &object, "bind")?;
        let file = fs::symlink_metadata(path).at(Stage::Watch, &object, "lstat")?;
        Ok((listener, SocketFile { path: path.to_owned(), device: file.dev(), inode: file.ino() }))
    }

    /// Removes it, unless it is another one by now.
    fn remove(self) -> Result<()> {
        let is_own = |file: fs::Metadata| (file.dev(), file.ino()) == (self.device, self.inode);
        if !fs::symlink_metadata(&self.path).is_ok_and(is_own) {
            return Ok(());
        }
        fs::remove_file(&self.path).at(Stage::Watch, format!("socket '{}'", self.path.display()), "unlink")
    }
}

/// Lets clients in for ever.
async fn accept<C: Fn() -> Result<String> + 'static>(listener: &Listener, collect: Rc<C>) -> Infallible {
    let mut clients: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok(stream) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        clients.retain(|client| !client.is_finished());
        if clients.len() >= CLIENTS {
            clients.pop_front().inspect(AbortHandle::abort);
        }
        clients.push_back(spawn_local(client(stream, collect.clone())).abort_handle());
    }
}

/// Answers one request of a client. What becomes of it is the client's business.
async fn client<C: Fn() -> Result<String> + 'static>(stream: Box<dyn Stream>, collect: Rc<C>) {
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, &*collect))));
    let connection =
        http1::Builder::new().keep_alive(false).max_buf_size(HEADERS).serve_connection(TokioIo::new(stream), service);
    let _ = timeout(PATIENCE, connection).await;
}

fn answer<B>(request: &Request<B>, collect: &impl Fn() -> Result<String>) -> Response<String> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => match collect() {
            Ok(text) => (StatusCode::OK, exposition::CONTENT_TYPE, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, PLAIN, format!("{error}\n")),
        },
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET and HEAD\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, PLAIN, "see /metrics\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
