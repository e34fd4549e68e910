//! The tag file's text: which names stand for which images.
//!
//! One entry a line: `tag[,tag…]:hash[#comment]`, as Apache Storm's plugin and its image tool read
//! it. A line that starts with `#` is a comment; otherwise the text from the first `#` on is the
//! entry's comment. The last `:` separates tags and hash, which has 64 characters. Nothing is
//! trimmed. Where lines have the same tag, the last one holds.

use std::collections::{BTreeMap, BTreeSet};

const HASH_LENGTH: usize = 64;

/// What a tag file says. Lines that are no entries stay in it, above the entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    entries: BTreeMap<String, Entry>,
    /// Comment lines and lines that cannot be read, as they were.
    others: Vec<Vec<u8>>,
}

/// The names of one image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// What it can be called.
    pub tags: BTreeSet<String>,
    /// Where it came from, for people.
    pub comments: BTreeSet<String>,
}

impl Tags {
    /// Reads a tag file. The numbers of the lines that say nothing (from 1) come with it: they are
    /// kept, and worth a warning. Blank lines and comments are not among them.
    #[must_use]
    pub fn parse(text: &[u8]) -> (Tags, Vec<usize>) {
        let (mut tags, mut unread) = (Tags::default(), Vec::new());
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            match Line::parse(line) {
                Line::Blank => {}
                Line::Entry { names, hash, comment } => {
                    for name in names {
                        tags.assign(name, hash);
                    }
                    tags.comment(hash, comment.unwrap_or_default());
                }
                Line::Comment => tags.others.push(line.to_vec()),
                Line::Unread => {
                    tags.others.push(line.to_vec());
                    unread.push(index + 1);
                }
            }
        }
        (tags, unread)
    }

    /// The file's text: what is no entry first, then tags, comments and entries sorted.
    #[must_use]
    pub fn to_text(&self) -> Vec<u8> {
        let mut lines: Vec<String> = self.entries.iter().map(|(hash, entry)| entry.line(hash)).collect();
        lines.sort();
        let mut text = Vec::new();
        for line in self.others.iter().map(Vec::as_slice).chain(lines.iter().map(String::as_bytes)) {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text
    }

    /// The hash of the image with this tag.
    #[must_use]
    pub fn hash_of(&self, tag: &str) -> Option<&str> {
        self.entries.iter().find(|(_, entry)| entry.tags.contains(tag)).map(|(hash, _)| hash.as_str())
    }

    /// The images that have tags, by hash.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// Gives a tag to an image, and takes it from the one that had it. Gives that one's hash back.
    pub fn assign(&mut self, tag: &str, hash: &str) -> Option<String> {
        let before = self.remove(tag);
        self.entries.entry(hash.to_owned()).or_default().tags.insert(tag.to_owned());
        before.filter(|before| before != hash)
    }

    /// Adds a comment to an image that has tags.
    pub fn comment(&mut self, hash: &str, comment: &str) {
        let clean: String = comment.chars().filter(|c| !c.is_control()).collect();
        if let Some(entry) = self.entries.get_mut(hash) {
            entry.comments.extend(clean.split(", ").filter(|part| !part.is_empty()).map(str::to_owned));
        }
    }

    /// Takes a tag away; gives the hash that it stood for. An image without tags is no entry.
    pub fn remove(&mut self, tag: &str) -> Option<String> {
        let hash = self.hash_of(tag)?.to_owned();
        let entry = self.entries.get_mut(&hash)?;
        entry.tags.remove(tag);
        if entry.tags.is_empty() {
            self.entries.remove(&hash);
        }
        Some(hash)
    }

    /// Takes all tags of an image away; gives them.
    pub fn remove_image(&mut self, hash: &str) -> BTreeSet<String> {
        self.entries.remove(hash).map(|entry| entry.tags).unwrap_or_default()
    }
}

impl Entry {
    fn line(&self, hash: &str) -> String {
        let join = |set: &BTreeSet<String>, by: &str| set.iter().map(String::as_str).collect::<Vec<_>>().join(by);
        let mut line = format!("{}:{hash}", join(&self.tags, ","));
        if !self.comments.is_empty() {
            line = format!("{line}#{}", join(&self.comments, ", "));
        }
        line
    }
}

enum Line<'a> {
    Blank,
    Comment,
    Entry { names: Vec<&'a str>, hash: &'a str, comment: Option<&'a str> },
    Unread,
}

impl Line<'_> {
    fn parse(line: &[u8]) -> Line<'_> {
        if line.is_empty() {
            return Line::Blank;
        }
        if line[0] == b'#' {
            return Line::Comment;
        }
        Line::entry(line).unwrap_or(Line::Unread)
    }

    fn entry(line: &[u8]) -> Option<Line<'_>> {
        let line = std::str::from_utf8(line).ok()?;
        let (entry, comment) = line.split_once('#').map_or((line, None), |(entry, comment)| (entry, Some(comment)));
        let (names, hash) = entry.rsplit_once(':')?;
        let is_hash = hash.len() == HASH_LENGTH && hash.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
        (is_hash && !names.is_empty()).then_some(Line::Entry { names, hash, comment })
    }
}

/// Whether a name can stand in the file as a tag.
///
/// # Errors
/// What is wrong with it: it is empty, or has a `,`, a `#` or a control character.
pub fn check(tag: &str) -> Result<(), String> {
    match tag.chars().find(|c| matches!(c, ',' | '#') || c.is_control()) {
        Some(bad) => Err(format!("tag {tag:?}: {bad:?} is not allowed in a tag")),
        None if tag.is_empty() => Err("tag \"\": it is empty".to_owned()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn parse(text: &str) -> Tags {
        Tags::parse(text.as_bytes()).0
    }

    #[test]
    fn an_entry_is_tags_hash_and_comment() {
        let tags = parse(&format!("storm/rhel7:dev,other:1:{A}#registry/image:tag\nx:{B}"));
        for (tag, hash) in [("storm/rhel7:dev", Some(A)), ("other:1", Some(A)), ("x", Some(B)), ("storm/rhel7", None)] {
            assert_eq!(tags.hash_of(tag), hash, "{tag}");
        }
        assert_eq!(tags.entries()[A].comments, BTreeSet::from(["registry/image:tag".to_owned()]));
    }

    #[test]
    fn nothing_is_trimmed_and_a_later_line_holds() {
        let text = format!("a :{A}\nb:{A} #c\nc: {A}\nd:{A}\nd:{B}\n:{A}\n#e:{A}\nf:{A}x\n\ng:{A}#h:{B}\n");
        let (tags, unread) = Tags::parse(text.as_bytes());
        assert_eq!(tags.hash_of("a "), Some(A));
        assert_eq!((tags.hash_of("a"), tags.hash_of("b"), tags.hash_of("c")), (None, None, None));
        assert_eq!((tags.hash_of("d"), tags.hash_of("e"), tags.hash_of("g")), (Some(B), None, Some(A)));
        assert_eq!(unread, [2, 3, 6, 8]);
    }

    #[test]
    fn what_is_no_entry_is_kept() {
        let text = b"# ours\nno entry \xff\n";
        assert_eq!(Tags::parse(text).0.to_text(), text);
    }

    #[test]
    fn it_is_written_sorted() {
        let tags = parse(&format!("z:{B}#two, one\ny,b:{A}\nc:{B}#three\n"));
        assert_eq!(String::from_utf8(tags.to_text()).unwrap(), format!("b,y:{A}\nc,z:{B}#one, three, two\n"));
    }

    #[test]
    fn a_tag_moves_and_an_image_without_tags_is_no_entry() {
        let mut tags = parse(&format!("a,b:{A}\n"));
        assert_eq!(tags.assign("a", B), Some(A.to_owned()));
        assert_eq!(tags.assign("a", B), None);
        assert_eq!(tags.remove("b"), Some(A.to_owned()));
        assert_eq!(tags.remove("b"), None);
        tags.comment(B, "docker://x\n, y");
        assert_eq!(String::from_utf8(tags.to_text()).unwrap(), format!("a:{B}#docker://x, y\n"));
        assert_eq!(tags.remove_image(B), BTreeSet::from(["a".to_owned()]));
        assert_eq!(tags.to_text(), b"");
    }

    #[test]
    fn a_name_that_would_be_read_as_something_else_is_no_tag() {
        assert!(check("registry:5000/a:b@sha256:c").is_ok());
        for bad in ["", "a,b", "a#b", "a\nb"] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        /// What was written is read as the same.
        #[test]
        fn written_tags_are_read_again(
            pairs in proptest::collection::vec(("[a-z:/. ]{1,9}", proptest::bool::ANY, "[a-z ,]{0,9}"), 0..9),
        ) {
            let mut tags = Tags::default();
            for (tag, first, comment) in &pairs {
                tags.assign(tag, if *first { A } else { B });
                tags.comment(if *first { A } else { B }, comment.trim());
            }
            let (read, unread) = Tags::parse(&tags.to_text());
            proptest::prop_assert_eq!(unread, Vec::<usize>::new());
            proptest::prop_assert_eq!(read.to_text(), tags.to_text());
        }
    }
}
