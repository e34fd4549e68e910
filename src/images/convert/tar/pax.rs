//! PAX records: `LENGTH KEY=VALUE` lines that replace what a header has no room for.

use std::collections::BTreeMap;

use super::time::Time;

const SCHILY: &[u8] = b"SCHILY.xattr.";
const LIBARCHIVE: &[u8] = b"LIBARCHIVE.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

/// The records of one entry that matter here.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) time: Option<Time>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: SparseRecords,
}

/// What the three PAX forms of sparse files say.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    /// `1` for the form 1.0, whose map is in the content.
    pub(super) major: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// With its holes: `size` of the forms 0.0 and 0.1, `realsize` of 1.0.
    pub(super) size: Option<u64>,
    /// Offsets and lengths of the forms 0.0 and 0.1, one after the other.
    pub(super) map: Vec<u64>,
}

impl Pax {
    /// Reads records. The last of two with one key counts; an empty value is none.
    pub(super) fn parse(mut rest: &[u8]) -> Result<Pax, String> {
        let mut pax = Pax::default();
        while !rest.is_empty() {
            let (key, value, later) = record(rest).ok_or("a PAX record that is not LENGTH KEY=VALUE")?;
            pax.take(key, value)
                .map_err(|reason| format!("PAX record {:?}: {reason}", String::from_utf8_lossy(key)))?;
            rest = later;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        let some = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = some(value),
            b"linkpath" => self.link = some(value),
            b"size" => self.size = unsigned(value)?,
            b"uid" => self.uid = signed(value)?,
            b"gid" => self.gid = signed(value)?,
            b"mtime" => self.time = if value.is_empty() { None } else { Some(Time::parse(value)?) },
            _ => {
                if let Some(name) = key.strip_prefix(SCHILY) {
                    self.xattrs.insert(name.to_vec(), value.to_vec());
                } else if let Some(name) = key.strip_prefix(LIBARCHIVE) {
                    // libarchive writes both; the other one needs no decoding.
                    let value = base_64(value).ok_or("not base 64")?;
                    self.xattrs.entry(percent_decoded(name)).or_insert(value);
                } else if let Some(name) = key.strip_prefix(SPARSE) {
                    self.sparse.take(name, value)?;
                }
            }
        }
        Ok(())
    }
}

impl SparseRecords {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        match key {
            b"major" => self.major = unsigned(value)?,
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = unsigned(value)?,
            b"offset" | b"numbytes" => self.map.extend(unsigned(value)?),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').map(unsigned);
                self.map = numbers.filter_map(Result::transpose).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Key and value of the first record, and what is behind it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn unsigned(value: &[u8]) -> Result<Option<u64>, String> {
    match signed(value)? {
        None => Ok(None),
        Some(number) => u64::try_from(number).map(Some).map_err(|_| format!("{number} is negative")),
    }
}

fn signed(value: &[u8]) -> Result<Option<i64>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    let number = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| format!("{:?} is no number", String::from_utf8_lossy(value)))
}

/// With or without the padding at the end.
fn base_64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().position(|byte| *byte == b'=').unwrap_or(text.len());
    let mut bytes = Vec::with_capacity(end * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in &text[..end] {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

/// `%41` is `A`; anything else is itself.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, later)) = rest.split_first() {
        let code = later.get(..2).filter(|_| *first == b'%').and_then(|code| std::str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &later[2..];
            }
            None => {
                bytes.push(*first);
                rest = later;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_the_last_counts() {
        let pax = Pax::parse(b"8 uid=1\n9 uid=22\n12 path=a=b\n12 comment=\n").unwrap();
        assert_eq!((pax.uid, pax.path), (Some(22), Some(b"a=b".to_vec())));
        assert_eq!(Pax::parse(b"7 uid=\n").unwrap().uid, None);
        assert!(Pax::parse(b"").unwrap().xattrs.is_empty());
    }

    #[test]
    fn malformed_records_are_refused() {
        let text = [
            "8 uid=1",
            "9 uid=1\n",
            "7 uid=1\n",
            "x uid=1\n",
            "8uid=1\n",
            "5 a b\n",
            "4 =\n",
            "99999999999999999999 a=b\n",
            "0 a=b\n",
        ];
        for bytes in text.iter().map(|text| text.as_bytes()).chain([&b"\0\0\0"[..], b"8 uid=x\n", b"10 size=-1\n"]) {
            assert!(Pax::parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn both_forms_of_extended_attributes_are_read() {
        let pax = Pax::parse(b"30 LIBARCHIVE.xattr.a%3Db=QUI\n22 SCHILY.xattr.c=\0\n\xff\n").unwrap();
        assert_eq!(pax.xattrs[&b"a=b"[..]], b"AB");
        assert_eq!(pax.xattrs[&b"c"[..]], b"\0\n\xff");
        for (text, bytes) in [("", &b""[..]), ("QQ==", b"A"), ("QUJD", b"ABC"), ("+/8", b"\xfb\xff")] {
            assert_eq!(base_64(text.as_bytes()).unwrap(), bytes);
        }
        assert_eq!(base_64(b"A*"), None);
        assert_eq!(percent_decoded(b"%4%zz%41%"), b"%4%zzA%");
    }
}
