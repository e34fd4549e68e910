//! An order on its way to a process that the spawner forked for it: descriptors first, then the
//! request as text.
//!
//! ```text
//! caller → launch   u32 length of the text | u32 number of descriptors | one byte with up to 200 descriptors, as often as needed | text
//! launch → caller   see `line`
//! ```
//!
//! Both ends come from one build: the spawner is forked from the caller's own program, or has
//! proved its version.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use super::job::{ExecJob, Goal, Job, Order};
use crate::error::{Context, Error, Result};
use crate::host_files::HostFile;
use crate::layer::{LayerFormat, LayerIdentity, OpenLayer};
use crate::opened::HostFiles;
use crate::passing::descriptors;
use crate::request::{AbsolutePath, Identity, LaunchSpec, LayerPath};
use crate::seccomp::Filter;
use crate::settings::Settings;
use crate::stage::Stage;
use crate::state::own_users::OwnUser;
use crate::state::record::LaunchRecord;
use crate::stdio::{Console, WindowSize};

/// Descriptors in one message; the kernel takes 253 (SCM_MAX_FD).
const BATCH: usize = 200;

/// Standard streams come first, then the socket for a terminal, layers, bind sources, the directories
/// of pid file and exit file, and the writable directory.
const STREAMS: usize = 3;

const OBJECT: &str = "launch request";

/// An order without its descriptors.
#[derive(Serialize, Deserialize)]
enum Text {
    Launch(Box<JobText>),
    Exec(Box<ExecText>),
}

#[derive(Serialize, Deserialize)]
struct ExecText {
    called_ns: u64,
    spec: LaunchSpec,
    container: LaunchRecord,
    directory: PathBuf,
    /// The size of a terminal, whose socket comes after the streams.
    terminal: Option<WindowSize>,
    filter: Option<Filter>,
    settings: Settings,
}

#[derive(Serialize, Deserialize)]
struct JobText {
    called_ns: u64,
    goal: Goal,
    spec: LaunchSpec,
    own_user: Option<OwnUser>,
    /// The size of a terminal, whose socket comes after the streams.
    terminal: Option<WindowSize>,
    /// Nothing: the launch process opens them.
    files: Option<FilesText>,
    filter: Option<Filter>,
    notes: Vec<String>,
    settings: Settings,
}

/// [`HostFiles`] without their descriptors.
#[derive(Serialize, Deserialize)]
struct FilesText {
    user: Identity,
    layers: Vec<LayerText>,
    binds: Vec<FileText>,
    pid_directory: Option<FileText>,
    exit_directory: Option<FileText>,
    writable: Option<FileText>,
}

#[derive(Serialize, Deserialize)]
struct FileText {
    path: AbsolutePath,
    resolved: AbsolutePath,
    is_directory: bool,
}

#[derive(Serialize, Deserialize)]
struct LayerText {
    path: LayerPath,
    identity: LayerIdentity,
    format: LayerFormat,
}

/// Sends an order.
pub(crate) fn send_order(stream: &UnixStream, order: &Order) -> Result<()> {
    let (text, descriptors) = match order {
        Order::Launch(job) => {
            let files = job.files.iter().flat_map(descriptors_of);
            let streams = job.stdio.iter().map(AsFd::as_fd).chain(socket_of(job.console.as_ref()));
            let descriptors: Vec<BorrowedFd<'_>> = streams.chain(files).collect();
            (Text::Launch(Box::new(JobText::of(job))), descriptors)
        }
        Order::Exec(job) => {
            let streams = job.stdio.iter().map(AsFd::as_fd).chain(socket_of(job.console.as_ref()));
            (Text::Exec(Box::new(ExecText::of(job))), streams.collect())
        }
    };
    let text = serde_json::to_vec(&text).expect("an order is plain data");
    let lengths = [text.len() as u32, descriptors.len() as u32].map(u32::to_le_bytes).concat();
    let mut writer = stream;
    writer.write_all(&lengths).at(Stage::Request, OBJECT, "write")?;
    for batch in descriptors.chunks(BATCH) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(batch));
        sendmsg(stream, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL).at(
            Stage::Request,
            OBJECT,
            "sendmsg",
        )?;
    }
    writer.write_all(&text).at(Stage::Request, OBJECT, "write")
}

/// Receives an order. The spec is checked again while it is read.
pub(crate) fn receive_order(stream: &UnixStream) -> Result<Order> {
    let mut reader = stream;
    let mut lengths = [0; 8];
    reader.read_exact(&mut lengths).at(Stage::Request, OBJECT, "read")?;
    let number =
        |range: std::ops::Range<usize>| u32::from_le_bytes(lengths[range].try_into().unwrap_or_default()) as usize;
    let (length, count) = (number(0..4), number(4..8));
    let mut received = Vec::with_capacity(count);
    while received.len() < count {
        received.extend(receive_batch(stream)?);
    }
    let mut text = vec![0; length];
    reader.read_exact(&mut text).at(Stage::Request, OBJECT, "read")?;
    let text: Text = serde_json::from_slice(&text).map_err(|error| malformed(&error.to_string()))?;
    assemble(text, received)
}

fn receive_batch(stream: &UnixStream) -> Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).at(
        Stage::Request,
        OBJECT,
        "recvmsg",
    )?;
    match descriptors(&mut control) {
        received if received.is_empty() => Err(malformed("descriptors are missing")),
        received => Ok(received),
    }
}

fn assemble(text: Text, mut received: Vec<OwnedFd>) -> Result<Order> {
    if received.len() < STREAMS {
        return Err(malformed("standard streams are missing"));
    }
    let mut rest = received.split_off(STREAMS).into_iter();
    let stdio = <[OwnedFd; STREAMS]>::try_from(received).map_err(|_| malformed("standard streams are missing"))?;
    let order = match text {
        Text::Launch(text) => Order::Launch(Box::new(text.with(stdio, &mut rest)?)),
        Text::Exec(text) => Order::Exec(Box::new(text.with(stdio, &mut rest)?)),
    };
    match rest.next() {
        None => Ok(order),
        Some(_) => Err(malformed("not as many descriptors as files and streams")),
    }
}

impl JobText {
    fn of(job: &Job) -> JobText {
        JobText {
            called_ns: job.called_ns,
            goal: job.goal,
            spec: job.spec.clone(),
            own_user: job.own_user.clone(),
            terminal: job.console.as_ref().map(|console| console.size),
            files: job.files.as_ref().map(FilesText::of),
            filter: job.filter.clone(),
            notes: job.notes.clone(),
            settings: job.settings.clone(),
        }
    }

    fn with(self, stdio: [OwnedFd; STREAMS], descriptors: &mut impl Iterator<Item = OwnedFd>) -> Result<Job> {
        let console = console(self.terminal, descriptors)?;
        let files = self.files.map(|files| files.with(descriptors)).transpose()?;
        if files.as_ref().is_some_and(|files| !files.fit(&self.spec)) {
            return Err(malformed("not as many descriptors as files and streams"));
        }
        Ok(Job {
            called_ns: self.called_ns,
            goal: self.goal,
            spec: self.spec,
            own_user: self.own_user,
            files,
            stdio,
            console,
            filter: self.filter,
            notes: self.notes,
            settings: self.settings,
        })
    }
}

impl ExecText {
    fn of(job: &ExecJob) -> ExecText {
        ExecText {
            called_ns: job.called_ns,
            spec: job.spec.clone(),
            container: job.container.clone(),
            directory: job.directory.clone(),
            terminal: job.console.as_ref().map(|console| console.size),
            filter: job.filter.clone(),
            settings: job.settings.clone(),
        }
    }

    fn with(self, stdio: [OwnedFd; STREAMS], descriptors: &mut impl Iterator<Item = OwnedFd>) -> Result<ExecJob> {
        let ExecText { called_ns, spec, container, directory, terminal, filter, settings } = self;
        let console = console(terminal, descriptors)?;
        Ok(ExecJob { called_ns, spec, container, directory, stdio, console, filter, settings })
    }
}

fn socket_of(console: Option<&Console>) -> Option<BorrowedFd<'_>> {
    console.map(|console| console.socket.as_fd())
}

fn console(size: Option<WindowSize>, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Result<Option<Console>> {
    let with_socket = |size| {
        let socket = descriptors.next().ok_or_else(|| malformed("the terminal's socket is missing"))?;
        Ok(Console { socket, size })
    };
    size.map(with_socket).transpose()
}

/// In the order in which [`FilesText::with`] takes them.
fn descriptors_of(files: &HostFiles) -> impl Iterator<Item = BorrowedFd<'_>> {
    let layers = files.layers.iter().map(|layer| layer.file.as_fd());
    let others = files.binds.iter().chain(&files.pid_directory).chain(&files.exit_directory).chain(&files.writable);
    layers.chain(others.map(AsFd::as_fd))
}

impl FilesText {
    fn of(files: &HostFiles) -> FilesText {
        FilesText {
            user: files.user.clone(),
            layers: files.layers.iter().map(LayerText::of).collect(),
            binds: files.binds.iter().map(FileText::of).collect(),
            pid_directory: files.pid_directory.as_ref().map(FileText::of),
            exit_directory: files.exit_directory.as_ref().map(FileText::of),
            writable: files.writable.as_ref().map(FileText::of),
        }
    }

    fn with(self, descriptors: &mut impl Iterator<Item = OwnedFd>) -> Result<HostFiles> {
        let mut next = || descriptors.next().ok_or_else(|| malformed("descriptors are missing"));
        let layers = self.layers.into_iter().map(|layer| Ok(layer.with(next()?))).collect::<Result<_>>()?;
        let binds = self.binds.into_iter().map(|bind| Ok(bind.with(next()?))).collect::<Result<_>>()?;
        let pid_directory = self.pid_directory.map(|file| Ok(file.with(next()?))).transpose()?;
        let exit_directory = self.exit_directory.map(|file| Ok(file.with(next()?))).transpose()?;
        let writable = self.writable.map(|file| Ok(file.with(next()?))).transpose()?;
        Ok(HostFiles { user: self.user, layers, binds, pid_directory, exit_directory, writable })
    }
}

impl LayerText {
    fn of(layer: &OpenLayer) -> LayerText {
        LayerText { path: layer.path.clone(), identity: layer.identity, format: layer.format }
    }

    fn with(self, file: OwnedFd) -> OpenLayer {
        OpenLayer { path: self.path, file, identity: self.identity, format: self.format }
    }
}

impl FileText {
    fn of(file: &HostFile) -> FileText {
        let (path, resolved, is_directory) = file.parts();
        FileText { path: path.clone(), resolved: resolved.clone(), is_directory }
    }

    fn with(self, file: OwnedFd) -> HostFile {
        HostFile::of_parts(self.path, self.resolved, self.is_directory, file)
    }
}

fn malformed(text: &str) -> Error {
    Error::malformed(Stage::Request, OBJECT, "parse", text)
}
