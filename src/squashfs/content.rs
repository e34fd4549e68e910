//! The content of files: cut into blocks, compressed, written once for all files that have it.

use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};
use std::num::NonZeroUsize;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::batch::{Batch, Event};
use super::compress::Compress;
use super::crew::Crew;
use super::error::Fault;
use super::output::Output;
use super::tree::{FileData, NodeId, Tree};

/// For comparing, a piece at a time.
const ZEROS: [u8; 4096] = [0; 4096];

/// Content on its way to the output.
#[derive(Debug)]
pub(super) struct ContentWriter {
    crew: Crew,
    block_size: usize,
    /// Being filled. Absent only while it changes hands.
    open: Option<Batch>,
    /// To be filled again.
    spare: Vec<Batch>,
    written: Written,
}

/// What has come out at the end of the crew.
#[derive(Debug, Default)]
struct Written {
    /// The file whose blocks come at the moment.
    file: Unfinished,
    /// Files with stored blocks, by their content. Only looked up, never iterated: its order is
    /// random.
    files: HashMap<[u8; 32], NodeId>,
    compressed_blocks: u64,
}

/// A file that is not complete.
#[derive(Debug, Default)]
struct Unfinished {
    data: FileData,
    /// Over the blocks as they are stored.
    identity: Sha256,
}

impl ContentWriter {
    pub(super) fn new(block_size: u32, threads: NonZeroUsize, compressor: Arc<dyn Compress>) -> ContentWriter {
        let crew = Crew::new(threads, compressor);
        let block_size = block_size as usize;
        ContentWriter { crew, block_size, open: None, spare: Vec::new(), written: Written::default() }
    }

    /// How many blocks are compressed.
    pub(super) fn compressed_blocks(&self) -> u64 {
        self.written.compressed_blocks
    }

    /// Reads a file's content to its end; gives its length. [`ContentWriter::end`] has to follow.
    pub(super) fn read<W: Write + Seek>(
        &mut self,
        mut content: impl Read,
        output: &mut Output<W>,
        tree: &mut Tree,
    ) -> Result<u64, Fault> {
        let mut size = 0;
        loop {
            let batch = self.open();
            let room = batch.room();
            let length = match fill(&mut content, room) {
                Ok(length) => length,
                Err(source) => {
                    batch.push(Event::Abandoned);
                    self.pass_on(output, tree)?;
                    return Err(Fault::Read { offset: size, source });
                }
            };
            let last = length < room.len();
            if is_zero(&room[..length]) {
                // An empty rest is no block.
                if length > 0 {
                    batch.push(Event::Hole(length as u64));
                }
            } else {
                batch.push_block(length);
            }
            size += length as u64;
            if last {
                return Ok(size);
            }
            self.pass_on(output, tree)?;
        }
    }

    /// Says whose content it was that was read last.
    pub(super) fn end<W: Write + Seek>(
        &mut self,
        node: NodeId,
        output: &mut Output<W>,
        tree: &mut Tree,
    ) -> Result<(), Fault> {
        self.open().push(Event::End(node));
        self.pass_on(output, tree)
    }

    /// Writes all that is on its way.
    pub(super) fn flush<W: Write + Seek>(&mut self, output: &mut Output<W>, tree: &mut Tree) -> Result<(), Fault> {
        if let Some(batch) = self.open.take().filter(|batch| !batch.is_empty()) {
            self.crew.put(batch);
        }
        while self.crew.is_busy() {
            let batch = self.crew.take();
            self.write(batch, output, tree)?;
        }
        Ok(())
    }

    fn open(&mut self) -> &mut Batch {
        self.open.get_or_insert_with(|| self.spare.pop().unwrap_or_else(|| Batch::new(self.block_size)))
    }

    /// Hands a full batch to the crew, and writes what the crew has finished. Without other threads
    /// every batch is passed on and written at once.
    fn pass_on<W: Write + Seek>(&mut self, output: &mut Output<W>, tree: &mut Tree) -> Result<(), Fault> {
        if self.crew.is_alone() {
            return self.flush(output, tree);
        }
        let Some(batch) = self.open.take_if(|batch| batch.is_full()) else { return Ok(()) };
        while let Some(finished) = self.crew.take_finished() {
            self.write(finished, output, tree)?;
        }
        while self.crew.is_full() {
            let finished = self.crew.take();
            self.write(finished, output, tree)?;
        }
        self.crew.put(batch);
        Ok(())
    }

    fn write<W: Write + Seek>(
        &mut self,
        mut batch: Batch,
        output: &mut Output<W>,
        tree: &mut Tree,
    ) -> Result<(), Fault> {
        let result = self.written.write(&batch, output, tree);
        batch.clear();
        self.spare.push(batch);
        result.and_then(|()| output.settle())
    }
}

impl Written {
    fn write<W: Write + Seek>(&mut self, batch: &Batch, output: &mut Output<W>, tree: &mut Tree) -> Result<(), Fault> {
        for event in batch.events() {
            let file = &mut self.file;
            match event {
                Event::Block(block) => {
                    let start = output.append(batch.bytes(block))?;
                    if file.data.start == 0 {
                        file.data.start = start;
                    }
                    file.push(block.entry(), block.length());
                    file.identity.update(block.digest());
                    self.compressed_blocks += u64::from(block.is_compressed());
                }
                Event::Hole(length) => {
                    file.push(0, *length);
                    file.data.holes += length;
                }
                Event::End(node) => self.end(*node, output, tree)?,
                Event::Abandoned => {
                    let data = std::mem::take(file).data;
                    take_back(&data, output)?;
                }
            }
        }
        Ok(())
    }

    /// Gives a complete file its content: that of an earlier file if it is the same.
    fn end<W: Write + Seek>(&mut self, node: NodeId, output: &mut Output<W>, tree: &mut Tree) -> Result<(), Fault> {
        let Unfinished { mut data, mut identity } = std::mem::take(&mut self.file);
        if data.start > 0 {
            identity.update(data.size.to_le_bytes());
            match self.files.entry(identity.finalize().into()) {
                std::collections::hash_map::Entry::Occupied(same) => {
                    take_back(&data, output)?;
                    if let Some(earlier) = tree.file(*same.get()) {
                        data = earlier.clone();
                    }
                }
                std::collections::hash_map::Entry::Vacant(free) => {
                    free.insert(node);
                }
            }
        }
        tree.set_file(node, data);
        Ok(())
    }
}

impl Unfinished {
    fn push(&mut self, entry: u32, length: u64) {
        self.data.blocks.push(entry);
        self.data.size += length;
        self.identity.update(entry.to_le_bytes());
    }
}

/// Goes back to before the blocks of the file that was written last.
fn take_back<W: Write + Seek>(data: &FileData, output: &mut Output<W>) -> Result<(), Fault> {
    if data.start > 0 { output.go_back(data.start) } else { Ok(()) }
}

fn is_zero(block: &[u8]) -> bool {
    block.chunks(ZEROS.len()).all(|piece| *piece == ZEROS[..piece.len()])
}

/// Reads until the block is full or the content ends; gives how much there was. As few reads as the
/// source allows.
fn fill(content: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match content.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
