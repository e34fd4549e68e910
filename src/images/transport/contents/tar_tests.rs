use super::*;
use crate::ErrorKind;
use crate::transport::output::TarWriter;

/// A header with a right checksum; the writer makes only sound ones.
fn header(path: &str, kind: u8, size: &[u8; 12], target: &str) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..path.len()].copy_from_slice(path.as_bytes());
    header[124..136].copy_from_slice(size);
    header[156] = kind;
    header[157..157 + target.len()].copy_from_slice(target.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    let fixed: &[u8; 512] = header.as_slice().try_into().unwrap();
    let sum = format!("{:06o}\0 ", checksum(fixed));
    header[148..156].copy_from_slice(sum.as_bytes());
    header
}

const NONE: &[u8; 12] = b"00000000000\0";

fn index(bytes: &[u8]) -> Result<TarIndex> {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, bytes).unwrap();
    TarIndex::read(file, "a.tar".to_owned())
}

fn text(index: &TarIndex, path: &str) -> Result<String> {
    let mut text = String::new();
    index.open(path, 0)?.1.read_to_string(&mut text).unwrap();
    Ok(text)
}

fn with_file(path: &str, content: &str) -> Vec<u8> {
    let mut tar = TarWriter::new(Vec::new());
    tar.file(path, content.len() as u64, &mut content.as_bytes()).unwrap();
    let mut bytes = tar.finish().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes
}

#[test]
fn files_are_found_by_path_and_through_links() {
    let mut bytes = with_file("./a/layer.tar", "content");
    bytes.extend(header("b/layer.tar", b'2', NONE, "../a/layer.tar"));
    bytes.extend(header("c/layer.tar", b'1', NONE, "a/layer.tar"));
    bytes.extend(header("d", b'2', NONE, "c/./layer.tar"));
    bytes.extend(with_file("a/layer.tar", "the last one counts"));
    let index = index(&bytes).unwrap();
    for path in ["a/layer.tar", "/a/layer.tar", "b/layer.tar", "c/layer.tar", "d"] {
        assert_eq!(text(&index, path).unwrap(), "the last one counts", "{path}");
    }
    assert!(index.has("./d") && !index.has("e") && !index.has("../d"));
    let (size, mut rest) = index.open("d", 13).unwrap();
    let mut end = String::new();
    rest.read_to_string(&mut end).unwrap();
    assert_eq!((size, end.as_str()), (19, "counts"));
    assert!(matches!(index.open("d", u64::MAX).unwrap().1.read(&mut [0; 8]), Ok(0)));
}

#[test]
fn links_that_loop_or_leave_are_refused() {
    let mut bytes = header("a", b'2', NONE, "b");
    bytes.extend(header("b", b'1', NONE, "a"));
    bytes.extend(header("out", b'2', NONE, "../../etc/passwd"));
    bytes.extend(header("absolute", b'2', NONE, "/etc/passwd"));
    bytes.extend(header("hard", b'1', NONE, "../etc/passwd"));
    bytes.extend(header("fifo", b'6', NONE, ""));
    bytes.extend(header("sparse", b'S', NONE, ""));
    bytes.extend(header("dangling", b'2', NONE, "none"));
    bytes.extend(header("../up", b'0', NONE, ""));
    let index = index(&bytes).unwrap();
    for (path, part) in [
        ("a", "loop"),
        ("b", "loop"),
        ("out", "out of the archive"),
        ("absolute", "out of the archive"),
        ("hard", "out of the archive"),
        ("../../etc/passwd", "out of the archive"),
        ("fifo", "neither"),
        ("sparse", "sparse"),
        ("dangling", "not found: none"),
        ("up", "not found: up"),
    ] {
        let error = text(&index, path).unwrap_err().to_string();
        assert!(error.contains(part), "{path}: {error}");
    }
}

#[test]
fn long_names_and_large_sizes_are_read() {
    let long = format!("{}/layer.tar", "d".repeat(200));
    let mut bytes = header("././@LongLink", b'L', b"00000000323\0", "");
    bytes.extend(long.as_bytes());
    bytes.resize(1024, 0);
    bytes.extend(with_file("short", "by GNU's long name"));
    let record = format!("{} path={long}2\n", long.len() + 11);
    bytes.extend(header("x", b'x', format!("{:011o}\0", record.len()).as_bytes().try_into().unwrap(), ""));
    bytes.extend(record.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(with_file("short", "by PAX's path"));
    let index = index(&bytes).unwrap();
    assert_eq!(text(&index, &long).unwrap(), "by GNU's long name");
    assert_eq!(text(&index, &format!("{long}2")).unwrap(), "by PAX's path");
    // More than 8 GiB is binary, both ways.
    assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]).ok(), Some(3 << 32));
}

#[test]
fn unsound_archives_are_refused_with_the_place() {
    let good = with_file("a", "content");
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    let mut pax = header("x", b'x', b"00000000005\0", "");
    pax.extend([b"99 a=\n".as_slice(), &[0; 506]].concat());
    let mut binary = good.clone();
    binary[148] = 0x80;
    for (bytes, part) in [
        (binary, "too large"),
        (flipped, "checksum"),
        (good[..700].to_vec(), ""),
        (good[..300].to_vec(), "byte 0: cut off"),
        (header("big", b'0', b"10000000000\0", ""), "longer than the archive"),
        (header("x", b'x', b"10000000000\0", ""), "longer than any name"),
        (header("x", b'L', b"10000000000\0", ""), "longer than any name"),
        (header("x", b'0', &[0xff; 12], ""), "too large"),
        (header("x", b'0', b"zzz\0\0\0\0\0\0\0\0\0", ""), "none"),
        (pax, "PAX"),
        ([good.as_slice(), &[1; 512]].concat(), "byte 1024"),
    ] {
        match index(&bytes) {
            Err(error) => assert!(!part.is_empty() && error.to_string().contains(part), "{part}: {error}"),
            // The filling of the last block may be missing.
            Ok(_) => assert_eq!(part, ""),
        }
    }
}

#[test]
fn an_archive_of_a_million_entries_is_refused() {
    // One header again and again, without any content: 512 MB as a sparse file would be zeros.
    let one = header("a", b'0', NONE, "");
    let bytes = one.repeat(ENTRIES + 2);
    let error = index(&bytes).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
}
