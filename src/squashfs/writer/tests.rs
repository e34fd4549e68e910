use super::*;
use crate::error::ErrorKind;
use crate::squashfs::CompressorId;
use crate::squashfs::batch::BLOCK_STORED;
use crate::squashfs::compress::tests::To;
use crate::squashfs::output::tests::Full;
use crate::squashfs::tree::NodeId;
use std::io::{self, Cursor};

fn writer(options: Options) -> Writer<Cursor<Vec<u8>>> {
    Writer::new(Cursor::new(Vec::new()), options).unwrap()
}

fn small_blocks() -> Options {
    Options { block_size: 4096, ..Options::default() }
}

fn half(image: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(image[at..at + 2].try_into().unwrap())
}

fn blocks(writer: &Writer<Cursor<Vec<u8>>>, index: usize) -> FileData {
    match &writer.tree.node(NodeId(index)).content {
        Content::File(data) => data.clone(),
        other => panic!("not a file: {other:?}"),
    }
}

#[test]
fn content_is_cut_into_blocks_and_zeros_become_holes() {
    let mut writer = writer(small_blocks());
    let mut content = vec![1; 4096];
    content.extend([0; 4096]);
    content.extend([2; 100]);
    assert_eq!(writer.file("a", &Attributes::new(0o644), &content[..]).unwrap(), 8292);
    let expected = [4096 | BLOCK_STORED, 0, 100 | BLOCK_STORED].to_vec();
    assert_eq!(blocks(&writer, 1), FileData { start: 96, size: 8292, holes: 4096, blocks: expected });
    for (length, holes) in [(0, vec![]), (4096, vec![0]), (4097, vec![0, 0])] {
        let index = writer.tree.len();
        writer.file("b", &Attributes::new(0o644), &vec![0; length][..]).unwrap();
        let length = length as u64;
        assert_eq!(blocks(&writer, index), FileData { start: 0, size: length, holes: length, blocks: holes });
    }
    writer.file("c", &Attributes::new(0o644), &[3; 4096][..]).unwrap();
    let last = blocks(&writer, writer.tree.len() - 1);
    assert_eq!((last.start, last.blocks), (96 + 4196, vec![4096 | BLOCK_STORED]));
}

#[test]
fn a_compressor_leaves_its_id_its_options_and_shorter_blocks() {
    let mut writer = writer(Options { compression: Box::new(To(9)), ..small_blocks() });
    writer.file("a", &Attributes::new(0o644), &[1; 5000][..]).unwrap();
    assert_eq!(blocks(&writer, 1), FileData { start: 102, size: 5000, holes: 0, blocks: vec![9, 9] });
    let image = writer.finish().unwrap().0.into_inner();
    assert_eq!(half(&image, 20), CompressorId::Zstd as u16);
    assert_eq!(half(&image, 24), 1 << 4 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11, "flags");
    assert_eq!(image[96..102], [4, 0x80, 3, 0, 0, 0]);
}

#[test]
fn stored_images_say_that_everything_is_stored() {
    let (image, summary) = writer(Options::default()).finish().unwrap();
    let image = image.into_inner();
    assert_eq!(half(&image, 20), CompressorId::Gzip as u16);
    assert_eq!(half(&image, 24), 0x993);
    assert_eq!(summary, Summary { bytes: 4096, inodes: 1 });
    assert_eq!(image.len(), 4096);
}

#[test]
fn an_unfinished_image_has_no_superblock() {
    let mut writer = writer(Options::default());
    writer.file("a", &Attributes::new(0o644), &b"content"[..]).unwrap();
    assert_eq!(writer.output.finish(b"").unwrap().into_inner()[..96], [0; 96]);
}

#[test]
fn the_same_calls_give_the_same_bytes() {
    let image = || {
        let mut writer = writer(small_blocks());
        for index in 0..2000_u32 {
            let xattrs = vec![(b"user.n".to_vec(), vec![(index % 97) as u8]), (b"user.m".to_vec(), vec![1])];
            let attributes = Attributes { uid: index % 300, xattrs, ..Attributes::new(0o600) };
            writer.file(format!("{}/{index}", index % 7), &attributes, &index.to_le_bytes()[..]).unwrap();
        }
        writer.finish().unwrap().0.into_inner()
    };
    assert!(image() == image());
}

#[test]
fn bad_entries_are_refused_by_name_and_change_nothing() {
    let mut writer = writer(Options::default());
    writer.file("f", &Attributes::new(0o644), &b""[..]).unwrap();
    let (plain, wrong) = (Attributes::new(0o644), Attributes::new(0o10000));
    let long = "t".repeat(4096);
    let nodes = writer.tree.len();
    let refused = [
        ("../a", writer.fifo("../a", &plain)),
        ("a", writer.socket("a", &wrong)),
        ("a", writer.directory("a", &wrong)),
        ("f/a", writer.file("f/a", &plain, &b""[..]).map(|_| ())),
        ("", writer.file("", &plain, &b""[..]).map(|_| ())),
        ("a", writer.symlink("a", &plain, "")),
        ("a", writer.symlink("a", &plain, "t\0")),
        ("a", writer.symlink("a", &plain, &long)),
        ("a", writer.device("a", &plain, DeviceKind::Block, 4096, 0)),
        ("a", writer.hard_link("a", "b")),
        ("a", writer.hard_link("a", "../f")),
    ];
    for (path, result) in refused {
        let error = result.unwrap_err();
        assert_eq!(error.object(), &crate::squashfs::Object::Entry(path.into()), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    }
    assert_eq!(writer.tree.len(), nodes);
    assert_eq!(writer.output.position(), 96);
}

#[test]
fn a_symlink_has_the_mode_that_linux_shows() {
    let mut writer = writer(Options::default());
    writer.symlink("l", &Attributes::new(0o120777), "t".repeat(4095)).unwrap();
    assert_eq!(writer.tree.node(NodeId(1)).attributes.mode, 0o777);
}

#[test]
fn block_sizes_that_no_kernel_mounts_are_refused() {
    for (block_size, fits) in
        [(0, false), (2048, false), (4096, true), (5000, false), (1 << 20, true), (1 << 21, false), (u32::MAX, false)]
    {
        let result = Writer::new(Cursor::new(Vec::new()), Options { block_size, ..Options::default() });
        assert_eq!(result.is_ok(), fits, "{block_size}");
    }
}

struct Fails;

impl Read for Fails {
    fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn a_failed_source_loses_its_entry_only() {
    let mut writer = writer(small_blocks());
    let content = Read::chain(&[1; 4096][..], Fails);
    let error = writer.file("new/a", &Attributes::new(0o644), content).unwrap_err();
    assert!(matches!(error.fault(), Fault::Read { offset: 4096, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::System);
    writer.file("b", &Attributes::new(0o644), &b"b"[..]).unwrap();
    assert_eq!(writer.finish().unwrap().1.inodes, 2);
}

#[test]
fn a_source_of_single_bytes_and_interruptions_gives_full_blocks() {
    struct Drips(u64);
    impl Read for Drips {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                turn if turn % 3 == 0 => Err(io::ErrorKind::Interrupted.into()),
                turn if turn > 9000 => Ok(0),
                _ => {
                    into[0] = 1;
                    Ok(1)
                }
            }
        }
    }
    let mut writer = writer(small_blocks());
    assert_eq!(writer.file("a", &Attributes::new(0o644), Drips(0)).unwrap(), 6000);
    assert_eq!(blocks(&writer, 1).blocks, [4096 | BLOCK_STORED, 1904 | BLOCK_STORED]);
}

/// A compressor that gives up on some blocks, and whose result depends on all of the block.
#[derive(Debug)]
struct Counts;

impl Compress for Counts {
    fn id(&self) -> CompressorId {
        CompressorId::Zstd
    }

    fn compress(&self, block: &[u8]) -> Option<Vec<u8>> {
        let sum = block.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(*byte));
        (sum % 5 > 0).then(|| sum.to_le_bytes().repeat(1 + block.len() / 97))
    }
}

fn threads(count: usize) -> Options {
    Options { compression: Box::new(Counts), threads: NonZeroUsize::new(count).unwrap(), ..small_blocks() }
}

/// Large and small files, holes, duplicates, a failing source.
fn mixed(options: Options) -> Vec<u8> {
    let mut writer = writer(options);
    for index in 0..700_usize {
        let content = (0..index * index % 20011).map(|at| (at / 100 * (index % 41) % 251) as u8).collect::<Vec<u8>>();
        writer.file(format!("{index}"), &Attributes::new(0o644), &content[..]).unwrap();
        if index % 50 == 0 {
            let source = Read::chain(&content[..], Fails);
            assert!(writer.file("failed", &Attributes::new(0o644), source).is_err());
            writer.file("holes", &Attributes::new(0o644), io::repeat(0).take(index as u64 * 5000)).unwrap();
        }
    }
    let (image, summary) = writer.finish().unwrap();
    let mut image = image.into_inner();
    image.truncate(summary.bytes as usize);
    image
}

#[test]
fn the_number_of_threads_leaves_no_trace() {
    let alone = mixed(threads(1));
    for count in [2, 3, 8] {
        assert!(mixed(threads(count)) == alone, "{count} threads");
    }
}

#[test]
fn equal_files_are_stored_once() {
    for count in [1, 4] {
        let mut writer = writer(Options { compression: Box::new(To(9)), ..threads(count) });
        let plain = Attributes::new(0o644);
        let large: Vec<u8> = [[1; 4096], [0; 4096], [2; 4096]].concat();
        let contents: [&[u8]; 6] = [&large, b"small", b"other", &large, b"small", &large[..8192]];
        for (index, content) in contents.iter().enumerate() {
            writer.file(format!("{index}"), &plain, *content).unwrap();
        }
        writer.content.flush(&mut writer.output, &mut writer.tree).unwrap();
        // The compressor makes five bytes longer, so that "small" and "other" are stored.
        let large = FileData { start: 96, size: 12288, holes: 4096, blocks: vec![9, 0, 9] };
        let small = |start| FileData { start, size: 5, holes: 0, blocks: vec![5 | BLOCK_STORED] };
        let first = FileData { start: 124, size: 8192, holes: 4096, blocks: vec![9, 0] };
        let expected = [large.clone(), small(114), small(119), large, small(114), first];
        let expected = expected.map(|data| FileData { start: data.start + 6, ..data });
        for (index, expected) in expected.iter().enumerate() {
            assert_eq!(blocks(&writer, 1 + index), *expected, "file {index}, {count} threads");
        }
        assert_eq!(writer.output.position(), 102 + 18 + 10 + 9);
    }
}

#[test]
fn a_panic_of_a_compressor_reaches_the_caller() {
    #[derive(Debug)]
    struct Panics;
    impl Compress for Panics {
        fn id(&self) -> CompressorId {
            CompressorId::Zstd
        }

        fn compress(&self, _block: &[u8]) -> Option<Vec<u8>> {
            panic!("no such block");
        }
    }
    for count in [1, 3] {
        let mut writer = writer(Options { compression: Box::new(Panics), ..threads(count) });
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            writer.file("a", &Attributes::new(0o644), &[1; 4096][..]).unwrap();
            writer.content.flush(&mut writer.output, &mut writer.tree).unwrap();
        }))
        .unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"no such block"));
    }
}

#[test]
fn a_dropped_writer_ends_its_threads() {
    let compressor = std::sync::Arc::new(());
    #[derive(Debug)]
    struct Holds(#[expect(dead_code, reason = "counts who is alive")] std::sync::Arc<()>);
    impl Compress for Holds {
        fn id(&self) -> CompressorId {
            CompressorId::Zstd
        }

        fn compress(&self, _block: &[u8]) -> Option<Vec<u8>> {
            None
        }
    }
    let compression = Box::new(Holds(compressor.clone()));
    let mut writer = writer(Options { compression, ..threads(4) });
    for _ in 0..20 {
        writer.file("a", &Attributes::new(0o644), &[1; 9000][..]).unwrap();
    }
    drop(writer);
    assert_eq!(std::sync::Arc::strong_count(&compressor), 1);
}

#[test]
fn with_threads_a_full_disk_is_seen_at_the_end_at_the_latest() {
    let mut writer = Writer::new(Full { room: 100 }, threads(4)).unwrap();
    let mut failed = None;
    for index in 0..1000_u32 {
        let content: Vec<u8> = index.to_le_bytes().repeat(1024);
        failed = failed.or(writer.file("a", &Attributes::new(0o644), &content[..]).err());
    }
    assert_eq!(failed.expect("window is full").kind(), ErrorKind::Exhausted);
    assert!(matches!(writer.finish().unwrap_err().fault(), Fault::Broken));
    let mut writer = Writer::new(Full { room: 100 }, threads(4)).unwrap();
    writer.file("a", &Attributes::new(0o644), &b"12345"[..]).unwrap();
    assert_eq!(writer.finish().unwrap_err().kind(), ErrorKind::Exhausted);
}

#[test]
fn an_entry_can_be_looked_at_and_get_an_attribute() {
    let mut writer = writer(Options::default());
    writer.symlink("d/l", &Attributes::new(0), "../to").unwrap();
    writer.fifo("d/f", &Attributes::new(0)).unwrap();
    assert_eq!(writer.present("d"), Some(Present::Directory));
    assert_eq!(writer.present(""), Some(Present::Directory));
    assert_eq!(writer.present("d/l"), Some(Present::Symlink(Path::new("../to"))));
    assert_eq!(writer.present("./d/f"), Some(Present::Other));
    for absent in ["e", "d/l/x", "/d", "d/.."] {
        assert_eq!(writer.present(absent), None, "{absent}");
    }
    writer.set_xattr("d", b"trusted.overlay.opaque", b"y").unwrap();
    assert!(writer.tree.node(NodeId(2)).attributes.xattrs.is_some());
    assert!(matches!(writer.set_xattr("e", b"user.a", b"y").unwrap_err().fault(), Fault::Missing));
    assert_eq!(writer.entries(), 4);
}

#[test]
fn a_full_disk_ends_the_image() {
    let mut writer = Writer::new(Full { room: 100 }, Options::default()).unwrap();
    let error = writer.file("a", &Attributes::new(0o644), &b"12345"[..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let error = writer.finish().unwrap_err();
    assert!(matches!(error.fault(), Fault::Broken), "{error:?}");
}
