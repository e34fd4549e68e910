//! The output, with the position in it, and closed to further writes after a failed one.

use std::io::{self, Seek, SeekFrom, Write};

use super::error::Fault;

/// Where the image goes.
#[derive(Debug)]
pub(super) struct Output<W> {
    out: W,
    position: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    /// A write failed somewhere in its middle: what comes next would be at a wrong place.
    Broken,
}

impl<W: Write + Seek> Output<W> {
    /// Starts at byte 0 of `out`.
    pub(super) fn new(out: W) -> Result<Output<W>, Fault> {
        let mut output = Output { out, position: 0, state: State::Sound };
        output.attempt("seek", |out| out.seek(SeekFrom::Start(0)).map(|_| ()))?;
        Ok(output)
    }

    /// Where the next byte goes.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Appends bytes; gives where they begin.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<u64, Fault> {
        let start = self.position;
        self.attempt("write", |out| out.write_all(bytes))?;
        self.position += bytes.len() as u64;
        Ok(start)
    }

    /// Appends zeros up to a multiple of `unit`.
    pub(super) fn pad(&mut self, unit: u64) -> Result<(), Fault> {
        let missing = self.position.next_multiple_of(unit) - self.position;
        self.append(&vec![0; missing as usize]).map(|_| ())
    }

    /// Writes the first bytes of the image again and hands the output back, flushed.
    pub(super) fn finish(mut self, head: &[u8]) -> Result<W, Fault> {
        self.attempt("seek", |out| out.seek(SeekFrom::Start(0)).map(|_| ()))?;
        self.position = 0;
        self.append(head)?;
        self.attempt("flush", |out| out.flush())?;
        Ok(self.out)
    }

    fn attempt(&mut self, call: &'static str, act: impl FnOnce(&mut W) -> io::Result<()>) -> Result<(), Fault> {
        if self.state == State::Broken {
            return Err(Fault::Broken);
        }
        act(&mut self.out).map_err(|source| {
            self.state = State::Broken;
            Fault::Write { call, offset: self.position, source }
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
        assert!(matches!(output.append(b"def"), Err(Fault::Write { call: "write", offset: 3, .. })));
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
}
