//! Blobs around a tar: compressed, damaged, cut off, endless.

use std::io::{self, Read, Write};

use super::*;
use crate::digest::Digest;
use crate::error::{ErrorKind, Step};

fn tar() -> Vec<u8> {
    Tar::new().directory("d").file("d/a", &"content\n".repeat(2000)).end()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn a_layer_is_the_same_whatever_its_blob_is_compressed_with() {
    let tar = tar();
    let (first, second) = tar.split_at(700);
    let (plain, expected) = try_convert(&tar).unwrap();
    let skippable = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd(&tar)].concat();
    for (what, blob) in [
        ("gzip", gzip(&tar)),
        ("gzip members", [gzip(first), gzip(second)].concat()),
        ("zstd", zstd(&tar)),
        ("zstd frames", [zstd(first), zstd(second)].concat()),
        ("skippable frame", skippable),
        ("plain", tar.clone()),
    ] {
        let (image, converted) = try_convert(&blob).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(image == plain, "{what}");
        assert_eq!((converted.diff_id, converted.expanded_size), (Digest::of(&tar), tar.len() as u64), "{what}");
        assert_eq!((converted.blob_digest, converted.blob_size), (Digest::of(&blob), blob.len() as u64), "{what}");
        assert_eq!(converted.entries, expected.entries);
    }
    assert_eq!(expected.squashfs_size, plain.len() as u64);
    assert_eq!(expected.entries, 2);
}

#[test]
fn layers_without_entries_are_empty_images() {
    let empty: [(&str, Vec<u8>); 5] = [
        ("nothing", Vec::new()),
        ("two blocks", vec![0; 1024]),
        ("one block", vec![0; 512]),
        ("as tar pads", vec![0; 10240]),
        ("in gzip", gzip(&[0; 1024])),
    ];
    for (what, blob) in empty {
        let (image, converted) = try_convert(&blob).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!((Image::read(&image).0.len(), converted.entries), (1, 0), "{what}");
        assert_eq!(converted.blob_digest, Digest::of(&blob), "{what}");
    }
}

#[test]
fn what_comes_behind_the_end_counts_for_the_digests_only() {
    let whole = [&tar()[..], &[0; 4096], b"garbage", &[7; 100_000]].concat();
    let (image, converted) = try_convert(&whole).unwrap();
    assert!(image == try_convert(&tar()).unwrap().0);
    assert_eq!((converted.diff_id, converted.blob_digest), (Digest::of(&whole), Digest::of(&whole)));
    let at = tar().len() + 4096;
    let expected = format!("data behind the end of the archive ignored: 1, first \"byte {at}\"");
    assert_eq!(converted.notes[0].to_string(), expected);
}

#[test]
fn damaged_blobs_are_refused_where_the_damage_is() {
    let (gzip, zstd) = (gzip(&tar()), zstd(&tar()));
    let mut wrong_sum = gzip.clone();
    let end = wrong_sum.len() - 5;
    wrong_sum[end] ^= 1;
    for (what, blob) in [
        ("gzip cut off", gzip[..gzip.len() - 30].to_vec()),
        ("gzip cut off in its end", gzip[..gzip.len() - 3].to_vec()),
        ("gzip header cut off", gzip[..5].to_vec()),
        ("wrong checksum", wrong_sum),
        ("garbage behind gzip", [&gzip[..], b"garbage"].concat()),
        ("zstd cut off", zstd[..zstd.len() - 10].to_vec()),
        ("zstd header cut off", zstd[..5].to_vec()),
        ("garbage behind zstd", [&zstd[..], b"garbage"].concat()),
    ] {
        let error = try_convert(&blob).expect_err(what);
        assert_eq!((error.kind(), error.step()), (ErrorKind::Invalid, Step::Convert), "{what}: {error}");
        assert!(error.to_string().contains("data is"), "{what}: {error}");
    }
    let (entry, offset, reason) = refused(&gzip[..gzip.len() - 30]);
    assert_eq!((entry.as_str(), offset, reason.as_str()), ("d/a", 512, "the gzip data is cut off"));
}

#[test]
fn other_compressions_are_named() {
    for (blob, format) in [(&b"\xfd7zXZ\0..."[..], "xz"), (b"BZh91AY", "bzip2")] {
        let error = try_convert(blob).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(format), "{error}");
    }
}

#[test]
fn bombs_end_at_the_limit() {
    let zeros = vec![0_u8; 9 << 20];
    let head = archive::Head { size: b"77777777777", ..archive::Head::new("bomb", b'0') };
    let bomb = [&head.block()[..], &zeros].concat();
    for blob in [gzip(&bomb), zstd(&bomb), gzip(&[&tar()[..], &zeros].concat())] {
        let error = try_convert(&blob).unwrap_err();
        assert_eq!((error.kind(), over_limit(&error)), (ErrorKind::Limit, 8 << 20), "{error}");
    }
}

/// Fails behind what it has.
struct Breaks<'a>(&'a [u8], fn() -> io::Error);

impl Read for Breaks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err((self.1)()),
            read => Ok(read),
        }
    }
}

#[test]
fn a_failing_source_is_no_fault_of_the_layer() {
    let connection = || io::Error::from(io::ErrorKind::ConnectionReset);
    let own = || io::Error::other(Error::invalid(Step::Fetch, "blob", "not the one"));
    for blob in [tar(), gzip(&tar()), zstd(&tar())] {
        for length in [0, 3, 40, 60] {
            let convert = |why| convert(Breaks(&blob[..length], why), &options(), Cursor::new(Vec::new()));
            let error = convert(connection).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::System, "{error}");
            assert!(matches!(error.cause(), Cause::System { call: "read", .. }), "{error}");
            let error = convert(own).map(|_| ()).unwrap_err();
            assert_eq!(error.to_string(), "fetch: blob: not the one");
        }
    }
    let error =
        convert(Breaks(&tar()[..3000], connection), &options(), Cursor::new(Vec::new())).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System, "in content: {error}");
}

#[test]
fn a_full_disk_is_the_writers_error() {
    let options = ConvertOptions { block_size: 4096, ..options() };
    let mut room = [0; 5000];
    let error = convert(&tar()[..], &options, Cursor::new(&mut room[..])).map(|_| ()).unwrap_err();
    assert!(matches!(error.cause(), Cause::Squashfs(_)), "{error}");
}

#[test]
fn options_that_nobody_has_are_refused() {
    for options in [
        ConvertOptions { block_size: 5000, ..options() },
        ConvertOptions { compression: Compression::Zstd(0), ..options() },
        ConvertOptions { compression: Compression::Gzip(10), ..options() },
    ] {
        let error = convert(&tar()[..], &options, Cursor::new(Vec::new())).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    }
}

const DIGESTS: [&str; 5] = [
    "1bb27b31bf744142a817bfddc5ea1971730f07a56c5e348b00f6cd5bbd1bc08b",
    "e40657e1db9f44bc03b5349fad9f165a50b8b0bacc67aeb2371918629c8b941d",
    "cf0e229ddfef6d50ef7365135f08d4a10dd9d2838a1b58e521e69726fb300c04",
    "fbaecf96f64d75b4e79eb3c67e1e0ef52f5382239370f511064686c8424263fa",
    "ec355f0268a0dad7339e74f891bb8cf1cfd0d5f666502b9753c9ebbf13a88e08",
];

#[test]
fn the_bytes_belong_to_the_version_of_the_writer() {
    // If a digest changes, so does the number in `WRITER`: stores know images by it.
    let tar = Tar::new().directory("d").file("d/a", &"some content 12345\n".repeat(20_000)).symlink("l", "d/a").end();
    let digest = |compression: &str, threads| {
        let options = ConvertOptions {
            compression: compression.parse().unwrap(),
            threads: NonZeroUsize::new(threads).unwrap(),
            ..ConvertOptions::default()
        };
        let (out, converted) = convert(&tar[..], &options, Cursor::new(Vec::new())).unwrap();
        Digest::of(&out.get_ref()[..converted.squashfs_size as usize]).hex()
    };
    let compressions = ["zstd:3", "gzip:6", "lz4", "xz", "none"];
    for threads in [1, 2, 8] {
        assert_eq!(compressions.map(|compression| digest(compression, threads)), DIGESTS, "{threads} threads");
    }
}
