//! The output, with the position in it, and closed to further writes after a failed one.
//!
//! Small pieces are gathered until [`Output::settle`]: a write for each small file would cost more
//! than the rest of it. What is taken back before that is never written.

use std::io::{self, Seek, SeekFrom, Write};

use super::error::Fault;

/// Where the image goes.
#[derive(Debug)]
pub(super) struct Output<W> {
    out: W,
    /// Where the next byte goes, behind what is gathered.
    position: u64,
    gathered: Vec<u8>,
    /// Where `out` stands.
    cursor: u64,
    state: State,
}

/// So much is written without waiting for more.
const GATHERED: usize = 1 << 17;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// A write failed somewhere in its middle: what comes next would be at a wrong place.
    Broken,
}

impl<W: Write + Seek> Output<W> {
    /// Starts at byte 0 of `out`.
    pub(super) fn new(out: W) -> Result<Output<W>, Fault> {
        let mut output = Output { out, position: 0, gathered: Vec::new(), cursor: 0, state: State::Sound };
        output.seek(0)?;
        Ok(output)
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes; gives where they begin.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u64, Fault> {
        let start = self.position;
        if self.gathered.len() + bytes.len() <= GATHERED {
            self.gathered.extend_from_slice(bytes);
            self.position += bytes.len() as u64;
            return self.check().map(|()| start);
        }
        self.settle()?;
        self.write(bytes)?;
        self.position = self.cursor;
        Ok(start)
    }

    /// Writes what is gathered.
    pub(super) fn settle(&mut self) -> Result<(), Fault> {
        let gathered = std::mem::take(&mut self.gathered);
        self.write(&gathered)?;
        self.gathered = gathered;
        self.gathered.clear();
        Ok(())
    }

    /// Goes back, so that what comes next replaces what had been appended from there on.
    pub(super) fn go_back(&mut self, position: u64) -> Result<(), Fault> {
        let kept = self.gathered.len() as u64;
        match kept.checked_sub(self.position - position) {
            Some(kept) => self.gathered.truncate(kept as usize),
            None => {
                self.gathered.clear();
                self.seek(position)?;
            }
        }
        self.position = position;
        Ok(())
    }

    /// Appends zeros up to a multiple of `unit`.
    pub(super) fn pad(&mut self, unit: u64) -> Result<(), Fault> {
        let missing = self.position.next_multiple_of(unit) - self.position;
        self.append(&vec![0; missing as usize]).map(|_| ())
    }

    /// Writes the first bytes of the image again and hands the output back, flushed.
    pub(super) fn finish(mut self, head: &[u8]) -> Result<W, Fault> {
        self.settle()?;
        self.seek(0)?;
        self.write(head)?;
        self.attempt("flush", |out| out.flush())?;
        Ok(self.out)
    }

    fn seek(&mut self, position: u64) -> Result<(), Fault> {
        self.cursor = position;
        self.attempt("seek", |out| out.seek(SeekFrom::Start(position)).map(|_| ()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.attempt("write", |out| out.write_all(bytes))?;
        self.cursor += bytes.len() as u64;
        Ok(())
    }

    fn check(&self) -> Result<(), Fault> {
        if self.state == State::Broken { Err(Fault::Broken) } else { Ok(()) }
    }

    fn attempt(&mut self, call: &'static str, act: impl FnOnce(&mut W) -> io::Result<()>) -> Result<(), Fault> {
        self.check()?;
        act(&mut self.out).map_err(|source| {
            self.state = State::Broken;
            Fault::Write { call, offset: self.cursor, source }
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Cursor;

    /// An output that is full after some bytes.
    #[derive(Debug)]
    pub(in crate::squashfs) struct Full {
        pub(in crate::squashfs) room: usize,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            self.room -= taken;
            if taken == 0 && !bytes.is_empty() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Full {
        fn seek(&mut self, _to: SeekFrom) -> io::Result<u64> {
            Ok(0)
        }
    }

    #[test]
    fn after_a_failed_write_nothing_more_is_written() {
        let mut output = Output::new(Full { room: 5 }).unwrap();
        assert_eq!(output.append(b"abc").unwrap(), 0);
        output.settle().unwrap();
        assert_eq!(output.append(b"def").unwrap(), 3);
        assert!(matches!(output.settle(), Err(Fault::Write { call: "write", offset: 3, .. })));
        assert!(matches!(output.append(b""), Err(Fault::Broken)));
        assert!(matches!(output.finish(b"x"), Err(Fault::Broken)));
    }

    #[test]
    fn the_head_is_written_over_the_start_and_the_end_is_padded() {
        let mut output = Output::new(Cursor::new(Vec::new())).unwrap();
        output.append(b"....body").unwrap();
        output.pad(8).unwrap();
        assert_eq!(output.append(b"x").unwrap(), 8);
        output.pad(8).unwrap();
        assert_eq!(output.position(), 16);
        assert_eq!(output.finish(b"head").unwrap().into_inner(), b"headbodyx\0\0\0\0\0\0\0");
    }

    #[test]
    fn what_is_taken_back_is_replaced_whether_it_was_written_or_not() {
        let mut output = Output::new(Cursor::new(Vec::new())).unwrap();
        output.append(b"one").unwrap();
        output.append(b"two").unwrap();
        output.go_back(3).unwrap();
        output.append(b"three").unwrap();
        output.settle().unwrap();
        output.append(b"four").unwrap();
        output.go_back(4).unwrap();
        assert_eq!(output.append(b"X").unwrap(), 4);
        let large = vec![7; GATHERED + 1];
        assert_eq!(output.append(&large).unwrap(), 5);
        output.go_back(6).unwrap();
        output.append(b"end").unwrap();
        assert_eq!(output.position(), 9);
        assert_eq!(output.finish(b"").unwrap().into_inner()[..10], *b"onetX\x07end\x07");
    }
}
