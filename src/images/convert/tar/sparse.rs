//! The pieces of a sparse file: zeros that are not in the tar, and bytes that are.

/// A run of zeros, then a run of stored bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Piece {
    pub(super) hole: u64,
    pub(super) data: u64,
}

/// The pieces of a file of `size` bytes that has these stored ranges (offset, length), and `stored`
/// bytes in the tar.
///
/// Fails if ranges overlap, are out of order or beyond the end, or are not what is stored.
pub(super) fn pieces(ranges: &[(u64, u64)], size: u64, stored: u64) -> Result<Vec<Piece>, String> {
    let wrong = |what: &str| format!("the map of the sparse file is wrong: {what}");
    let (mut pieces, mut at, mut sum) = (Vec::with_capacity(ranges.len() + 1), 0, 0);
    for (offset, length) in ranges {
        let hole = offset.checked_sub(at).ok_or_else(|| wrong("ranges overlap or are out of order"))?;
        at = offset.checked_add(*length).filter(|end| *end <= size).ok_or_else(|| wrong("a range behind the end"))?;
        // Not beyond `size`, as ranges do not overlap.
        sum += length;
        pieces.push(Piece { hole, data: *length });
    }
    if sum != stored {
        return Err(wrong(&format!("{sum} bytes in ranges, {stored} in the archive")));
    }
    pieces.push(Piece { hole: size - at, data: 0 });
    Ok(pieces)
}

/// Offsets and lengths in turn, as pairs.
pub(super) fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, String> {
    if numbers.len() % 2 == 1 {
        return Err("the map of the sparse file has an odd length".to_owned());
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_holes_and_data() {
        let piece = |hole, data| Piece { hole, data };
        for (ranges, size, stored, expected) in [
            (&[][..], 0, 0, vec![piece(0, 0)]),
            (&[], 9, 0, vec![piece(9, 0)]),
            (&[(0, 2), (5, 1)], 10, 3, vec![piece(0, 2), piece(3, 1), piece(4, 0)]),
            (&[(10, 0)], 10, 0, vec![piece(10, 0), piece(0, 0)]),
        ] {
            assert_eq!(pieces(ranges, size, stored), Ok(expected));
        }
    }

    #[test]
    fn wrong_maps_are_refused() {
        for (ranges, size, stored) in [
            (&[(0, 2), (1, 1)][..], 10, 3),
            (&[(5, 1), (0, 1)], 10, 2),
            (&[(5, 6)], 10, 6),
            (&[(u64::MAX, 1)], u64::MAX, 1),
            (&[(0, 2)], 10, 3),
        ] {
            assert!(pieces(ranges, size, stored).is_err(), "{ranges:?}");
        }
        assert!(pairs(&[1]).is_err());
    }
}
