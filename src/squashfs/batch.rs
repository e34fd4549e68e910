//! Content on its way from the caller to the output: several blocks in one buffer, compressed
//! together by one thread.
//!
//! A batch holds one full block, or many small ones: handing over a block of a hundred bytes by
//! itself would cost more than compressing it.

use sha2::{Digest, Sha256};

use super::compress::{Compress, Packed};
use super::tree::NodeId;

/// In a file's list of blocks: this one is not compressed (`SQUASHFS_COMPRESSED_BIT_BLOCK`).
pub(super) const BLOCK_STORED: u32 = 1 << 24;
/// So that a file of holes, which fills no buffer, does not grow a batch for ever.
const EVENTS: usize = 1024;

/// Blocks and ends of files, in the order of the caller's calls.
#[derive(Debug)]
pub(super) struct Batch {
    /// Two blocks long, so that there is room for a whole one as long as the first is not full.
    buffer: Vec<u8>,
    used: usize,
    events: Vec<Event>,
}

/// A step of the content.
#[derive(Debug)]
pub(super) enum Event {
    Block(Block),
    /// A block of zeros of this length.
    Hole(u64),
    /// The file with these blocks is complete and has this node.
    End(NodeId),
    /// The file's source failed: what was written of it counts for nothing.
    Abandoned,
}

/// A block of content, not of zeros.
#[derive(Debug)]
pub(super) struct Block {
    start: usize,
    length: usize,
    packed: Option<Vec<u8>>,
    /// Of the bytes that go to the output. Compressors are functions, so equal content has equal
    /// bytes there, and there are fewer of them.
    digest: [u8; 32],
}

impl Batch {
    pub(super) fn new(block_size: usize) -> Batch {
        Batch { buffer: vec![0; 2 * block_size], used: 0, events: Vec::new() }
    }

    fn block_size(&self) -> usize {
        self.buffer.len() / 2
    }

    /// Where the next block is read to. Always of the block size.
    pub(super) fn room(&mut self) -> &mut [u8] {
        let (start, size) = (self.used, self.block_size());
        &mut self.buffer[start..start + size]
    }

    /// Takes the first `length` bytes of the room as a block.
    pub(super) fn push_block(&mut self, length: usize) {
        let block = Block { start: self.used, length, packed: None, digest: [0; 32] };
        self.used += length;
        self.events.push(Event::Block(block));
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn is_full(&self) -> bool {
        self.used >= self.block_size() || self.events.len() >= EVENTS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Compresses all blocks.
    pub(super) fn pack(&mut self, compressor: &dyn Compress) {
        for event in &mut self.events {
            if let Event::Block(block) = event {
                let content = &self.buffer[block.start..block.start + block.length];
                let packed = Packed::new(compressor, content);
                block.digest = Sha256::digest(packed.bytes()).into();
                block.packed = match packed {
                    Packed::Stored(_) => None,
                    Packed::Compressed(bytes) => Some(bytes),
                };
            }
        }
    }

    pub(super) fn events(&self) -> &[Event] {
        &self.events
    }

    /// What goes to the output for a block of this batch.
    pub(super) fn bytes<'a>(&'a self, block: &'a Block) -> &'a [u8] {
        block.packed.as_deref().unwrap_or(&self.buffer[block.start..block.start + block.length])
    }

    /// Forgets its content, to be filled again.
    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.events.clear();
    }
}

impl Block {
    /// Before it was compressed.
    pub(super) fn length(&self) -> u64 {
        self.length as u64
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.packed.is_some()
    }

    pub(super) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// How a file's list of blocks names it.
    pub(super) fn entry(&self) -> u32 {
        match &self.packed {
            Some(bytes) => bytes.len() as u32,
            None => self.length as u32 | BLOCK_STORED,
        }
    }
}
