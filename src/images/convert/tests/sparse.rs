//! Sparse files, in each of GNU's forms.

use super::archive::Head;
use super::*;

/// 4 bytes at 1, 3 bytes at 9000, 10000 in all.
fn expected() -> Vec<u8> {
    let mut content = vec![0; 10_000];
    content[1..5].copy_from_slice(b"abcd");
    content[9000..9003].copy_from_slice(b"xyz");
    content
}

fn octal(number: u64) -> Vec<u8> {
    format!("{number:011o}\0").into_bytes()
}

#[test]
fn the_old_form_has_its_map_in_headers() {
    let map = |ranges: &[(u64, u64)]| -> Vec<u8> {
        ranges.iter().flat_map(|(offset, length)| [octal(*offset), octal(*length)].concat()).collect()
    };
    let gnu = |ranges: &[(u64, u64)], more: u8| vec![(386, map(ranges)), (482, vec![more]), (483, octal(10_000))];
    let short = gnu(&[(1, 4), (9000, 3)], 0);
    let head = |extra| Head { magic: b"ustar  \0", extra, ..Head::new("sparse", b'S') };
    let (image, _) = layer(Tar::new().with(head(&short), b"abcdxyz").file("next", "next"));
    assert_eq!(image.at("sparse").content, expected());
    assert_eq!(image.at("next").content, b"next");

    // One byte each, so that a block of the map follows.
    let long = gnu(&[(1, 1), (2, 1), (3, 1), (4, 1)], 1);
    let size = octal(7);
    let mut block = map(&[(9000, 3), (10_000, 0)]);
    block.resize(512, 0);
    let tar = Tar::new().head(&Head { size: &size, ..head(&long) }).body(&block).body(b"abcdxyz").file("next", "next");
    let (image, _) = layer(tar);
    assert_eq!(image.at("sparse").content, expected());
    assert_eq!(image.at("next").content, b"next");
}

#[test]
fn the_pax_forms_have_their_map_in_records_or_content() {
    let zero: &[(&str, &[u8])] = &[
        ("GNU.sparse.size", b"10000"),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"1"),
        ("GNU.sparse.numbytes", b"4"),
        ("GNU.sparse.offset", b"9000"),
        ("GNU.sparse.numbytes", b"3"),
    ];
    let one: &[(&str, &[u8])] =
        &[("GNU.sparse.size", b"10000"), ("GNU.sparse.name", b"real/name"), ("GNU.sparse.map", b"1,4,9000,3")];
    let last: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"real/name"),
        ("GNU.sparse.realsize", b"10000"),
    ];
    let mut content = b"2\n1\n4\n9000\n3\n".to_vec();
    content.resize(512, 0);
    content.extend(b"abcdxyz");
    for (records, path, body) in
        [(zero, "f", &b"abcdxyz"[..]), (one, "real/name", b"abcdxyz"), (last, "real/name", &content)]
    {
        let tar = Tar::new().pax(records).with(Head::new("f", b'0'), body).file("next", "next");
        let (image, _) = layer(tar);
        assert_eq!(image.at(path).content, expected(), "{records:?}");
        // The blocks from 4096 to 8192.
        assert_eq!(image.at(path).holes, 4096);
        assert_eq!(image.at("next").content, b"next");
    }
}

#[test]
fn wrong_maps_are_refused() {
    for (map, body) in [("1,4,2,3", "abcdxyz"), ("1,4", "abcdxyz"), ("1,4,9999,3", "abcdxyz"), ("1,4,5", "abcd")] {
        let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"10000"), ("GNU.sparse.map", map.as_bytes())];
        let (entry, offset, reason) = refused(&Tar::new().pax(records).file("f", body).end());
        assert_eq!((entry.as_str(), offset), ("f", 0));
        assert!(reason.contains("map of the sparse file"), "{reason}");
    }
    let head: &[(&str, &[u8])] = &[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"10000")];
    for body in ["2\n1\n4\n", "999999999\n", "x\n", "", "1\n99999999999999999999999\n0\n"] {
        let (_, _, reason) = refused(&Tar::new().pax(head).file("f", body).end());
        assert!(reason.contains("sparse file"), "{body:?}: {reason}");
    }
}

#[test]
fn holes_count_for_the_limit() {
    let records: &[(&str, &[u8])] = &[("GNU.sparse.size", b"9000000000000000000"), ("GNU.sparse.map", b"0,0")];
    let error = try_convert(&Tar::new().pax(records).file("f", "").end()).unwrap_err();
    assert_eq!(over_limit(&error), 8 << 20);
    assert!(error.to_string().contains("\"f\""), "{error}");
}
