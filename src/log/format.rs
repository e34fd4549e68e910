//! What a line of a log looks like.
//!
//! ```text
//! 2026-01-31T12:00:00.000000000Z stdout F a whole line
//! 2026-01-31T12:00:00.000000001Z stderr P the beginning of a line
//! 2026-01-31T12:00:00.000000002Z stderr F , and its end
//! ```
//!
//! This is the format of Kubernetes' container runtime interface and of podman's `k8s-file`: time,
//! stream, whether the line is full (`F`) or goes on (`P`), and the bytes as they are. Without
//! timestamps a log is the bytes alone.

use serde::{Deserialize, Serialize};

use super::time::{parse_rfc3339, rfc3339};

/// Most bytes of a line in one piece, as containerd has it: a longer one goes on in the next piece.
pub(super) const MOST_TEXT: usize = 16 << 10;

/// Which of its streams a worker wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Source {
    /// Both, in the order of their numbers.
    pub(super) const ALL: [Source; 2] = [Source::Stdout, Source::Stderr];

    /// Its name in a log: `stdout`, `stderr`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Source::Stdout => "stdout",
            Source::Stderr => "stderr",
        }
    }
}

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// As the worker wrote it.
    Plain,
    /// With time and stream.
    Timestamps,
}

/// A line, or a piece of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece<'a> {
    /// Without the newline.
    text: &'a [u8],
    /// Whether a newline follows.
    ended: bool,
}

impl<'a> Piece<'a> {
    /// The first piece of some output, which is not empty.
    fn first(bytes: &'a [u8]) -> Piece<'a> {
        let head = &bytes[..bytes.len().min(MOST_TEXT + 1)];
        match head.iter().position(|byte| *byte == b'\n') {
            Some(end) => Piece { text: &head[..end], ended: true },
            None => Piece { text: &head[..head.len().min(MOST_TEXT)], ended: false },
        }
    }

    /// How many bytes of output it is.
    fn length(&self) -> usize {
        self.text.len() + usize::from(self.ended)
    }
}

/// When, and from which stream, some output came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) source: Source,
    pub(super) unix_ns: u64,
}

impl Format {
    /// Adds as many whole pieces of the output as fit into `room` bytes, from the first; how many
    /// bytes of the output that is. Of the same output with the same stamp the same is written.
    pub(super) fn write(self, output: &[u8], stamp: Stamp, room: u64, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        let head = format!("{} {} ", rfc3339(stamp.unix_ns), stamp.source.name());
        let mut taken = 0;
        while taken < output.len() {
            let piece = Piece::first(&output[taken..]);
            let before = out.len();
            match self {
                Format::Plain => {
                    out.extend_from_slice(piece.text);
                    out.extend(piece.ended.then_some(b'\n'));
                }
                Format::Timestamps => {
                    out.extend_from_slice(head.as_bytes());
                    out.extend_from_slice(if piece.ended { b"F " } else { b"P " });
                    out.extend_from_slice(piece.text);
                    out.push(b'\n');
                }
            }
            if (out.len() - start) as u64 > room {
                out.truncate(before);
                break;
            }
            taken += piece.length();
        }
        taken
    }

    /// A line of Squall's own in a log; `midline`: the file ends within a line.
    pub(super) fn note(self, text: &str, stamp: Stamp, midline: bool) -> Vec<u8> {
        let mut out = Vec::new();
        if midline {
            out.push(b'\n');
        }
        let mut line = Vec::new();
        self.write(format!("squall: {text}\n").as_bytes(), stamp, u64::MAX, &mut line);
        out.extend(line);
        out
    }
}

/// A line of a log with timestamps, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parsed<'a> {
    pub(super) stamp: Stamp,
    pub(super) text: &'a [u8],
    /// Whether the worker's line ends with it.
    pub(super) ended: bool,
}

/// Reads a line, without its newline, as [`Format::Timestamps`] writes it, and podman; `None` for
/// another one.
pub(super) fn parse(line: &[u8]) -> Option<Parsed<'_>> {
    let mut words = line.splitn(4, |byte| *byte == b' ');
    let unix_ns = parse_rfc3339(str::from_utf8(words.next()?).ok()?)?;
    let name = words.next()?;
    let source = Source::ALL.into_iter().find(|source| source.name().as_bytes() == name)?;
    let ended = match words.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Parsed { stamp: Stamp { source, unix_ns }, text: words.next()?, ended })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAMP: Stamp = Stamp { source: Source::Stderr, unix_ns: 1_795_975_200_000_000_001 };

    fn written(format: Format, output: &[u8], room: u64) -> (usize, Vec<u8>) {
        let mut out = Vec::new();
        (format.write(output, STAMP, room, &mut out), out)
    }

    #[test]
    fn a_line_is_full_and_the_rest_without_a_newline_goes_on() {
        let (taken, out) = written(Format::Timestamps, b"one\n\ntw", u64::MAX);
        let head = "2026-11-29T18:00:00.000000001Z stderr";
        assert_eq!(taken, 7);
        assert_eq!(String::from_utf8(out).unwrap(), format!("{head} F one\n{head} F \n{head} P tw\n"));
        assert_eq!(written(Format::Plain, b"one\n\ntw", u64::MAX), (7, b"one\n\ntw".to_vec()));
    }

    #[test]
    fn only_whole_lines_go_where_there_is_not_room_for_all() {
        assert_eq!(written(Format::Plain, b"one\ntwo\n", 7), (4, b"one\n".to_vec()));
        assert_eq!(written(Format::Plain, b"one\n", 3), (0, Vec::new()));
        let (taken, out) = written(Format::Timestamps, b"one\ntwo\n", 60);
        assert_eq!((taken, out.len()), (4, 44));
    }

    #[test]
    fn a_long_line_comes_in_pieces() {
        let long = [vec![b'x'; MOST_TEXT + 1], b"\n".to_vec()].concat();
        let (taken, out) = written(Format::Timestamps, &long, u64::MAX);
        assert_eq!(taken, long.len());
        let pieces: Vec<_> =
            out.split(|byte| *byte == b'\n').filter_map(parse).map(|piece| (piece.text.len(), piece.ended)).collect();
        assert_eq!(pieces, [(MOST_TEXT, false), (1, true)]);
        let exact = &long[1..];
        assert_eq!(
            parse(written(Format::Timestamps, exact, u64::MAX).1.strip_suffix(b"\n").unwrap()).unwrap().text.len(),
            MOST_TEXT
        );
    }

    #[test]
    fn podmans_lines_are_read_and_others_are_none() {
        let parsed = parse(b"2020-05-04T09:12:03.123+02:00 stdout P two words").unwrap();
        assert_eq!((parsed.stamp.source, parsed.text, parsed.ended), (Source::Stdout, &b"two words"[..], false));
        for line in [
            "",
            "x stdout F a",
            "2026-11-29T18:00:00Z stdin F a",
            "2026-11-29T18:00:00Z stdout X a",
            "2026-11-29T18:00:00Z stdout F",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    proptest! {
        /// Whatever the room, what is taken is what is found again, and the rest comes next.
        #[test]
        fn output_comes_back_whole(output in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..500), room in 60_u64..300) {
            let mut rest = &output[..];
            let mut back = Vec::new();
            while !rest.is_empty() {
                let (taken, out) = written(Format::Timestamps, rest, room.max(600));
                prop_assert!(taken > 0 && out.len() as u64 <= room.max(600));
                for line in out.split_inclusive(|byte| *byte == b'\n') {
                    let parsed = parse(line.strip_suffix(b"\n").unwrap()).unwrap();
                    back.extend_from_slice(parsed.text);
                    back.extend(parsed.ended.then_some(b'\n'));
                }
                rest = &rest[taken..];
            }
            prop_assert_eq!(back, output);
        }
    }
}
