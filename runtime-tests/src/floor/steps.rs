//! The steps, each a word and its arguments on a line.

use crate::sys::{self, Text};

/// What steps hand on to later ones.
pub struct Steps {
    /// Descriptors by number, as the steps name them.
    held: [i32; 256],
    /// The flags of the clone.
    pub namespaces: u64,
    /// The cgroup that the child is born into.
    pub into_cgroup: i32,
    /// The child's pid, in its parent.
    pub child: i32,
    /// What the child waits at.
    pub gate: i32,
    /// Where the child says which part begins.
    pub report: Option<i32>,
    /// When the parent's parts began.
    pub marks: String,
}

impl Default for Steps {
    fn default() -> Steps {
        Steps {
            held: [-1; 256],
            namespaces: 0,
            into_cgroup: -1,
            child: 0,
            gate: -1,
            report: None,
            marks: String::new(),
        }
    }
}

/// The arguments of a step, in order.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        let (word, rest) = self.0.split_once(' ').unwrap_or((self.0, ""));
        self.0 = rest;
        word
    }

    fn text(&mut self) -> Text {
        Text::of(self.next())
    }

    fn number(&mut self) -> u64 {
        self.next().parse().unwrap_or_else(|_| fail("a number was expected"))
    }

    fn octal(&mut self) -> u32 {
        u32::from_str_radix(self.next(), 8).unwrap_or_else(|_| fail("a mode was expected"))
    }

    fn hexadecimals(&mut self) -> Vec<u64> {
        let parse = |word| u64::from_str_radix(word, 16).unwrap_or_else(|_| fail("hexadecimal digits were expected"));
        self.rest().split(' ').map(parse).collect()
    }

    fn rest(&mut self) -> &'a str {
        std::mem::take(&mut self.0)
    }
}

impl Steps {
    /// Takes one step after the other. The first that fails ends the process.
    pub fn run(&mut self, steps: &str) {
        for line in steps.lines() {
            let mut words = Words(line);
            let result = self.take(words.next(), &mut words);
            if result < 0 {
                fail(&format!("{line}: {}", std::io::Error::last_os_error()));
            }
        }
    }

    fn take(&mut self, name: &str, words: &mut Words<'_>) -> i32 {
        match name {
            "part" => self.mark(words.next()),
            // Files and directories.
            "mkdir" => sys::mkdir(&words.text(), words.octal()),
            "rmdir" => sys::rmdir(&words.text()),
            "write" => {
                let file = sys::open(&words.text(), sys::O_WRONLY);
                let written = sys::write(file, words.rest().as_bytes());
                sys::close(file);
                written
            }
            "symlink" => sys::symlink(&words.text(), &words.text()),
            "mknod" => sys::make_device(&words.text(), words.number(), words.number()),
            "directory" => self.hold(words, |words| sys::open(&words.text(), sys::O_PATH)),
            "writable" => self.hold(words, |words| sys::open(&words.text(), sys::O_WRONLY)),
            // Detached mounts.
            "clone-mount" => self.hold(words, |words| sys::open_tree(&words.text(), false)),
            "clone-mounts" => self.hold(words, |words| sys::open_tree(&words.text(), true)),
            "attributes" => sys::mount_setattr(self.held(words), words.number(), words.number(), false),
            "attributes-below" => sys::mount_setattr(self.held(words), words.number(), words.number(), true),
            "new-mount" => self.hold(words, |words| {
                let (kind, attributes) = (words.text(), words.number());
                sys::new_mount(&kind, attributes, words.rest())
            }),
            "attach" => {
                let mount = self.held(words);
                let result = sys::move_mount(mount, &words.text());
                sys::close(mount);
                result
            }
            // The mount tree.
            "mount" => sys::mount(&words.text(), &words.text(), &words.text(), words.number(), &Text::of(words.rest())),
            "pivot-to-mount" => sys::pivot_to_mount(self.held(words)),
            "pivot" => sys::pivot(&words.text()),
            // The process.
            "namespaces" => {
                self.namespaces = words.number();
                0
            }
            "born-into" => {
                self.into_cgroup = self.held(words);
                0
            }
            "place" => sys::write(self.held(words), self.child.to_string().as_bytes()),
            "gate" => sys::read_byte(self.gate),
            "process" => self.hold(words, |words| sys::open_process(words.number() as i32)),
            "enter" => sys::set_namespaces(self.held(words), words.number()),
            "unshare" => sys::unshare(words.number()),
            "hostname" => sys::set_host_name(words.next()),
            "loopback" => sys::bring_loopback_up(),
            "keyring" => sys::join_new_session_keyring(),
            "session" => sys::new_session(),
            "umask" => sys::set_umask(words.octal()),
            "drop-bounding-set" => sys::drop_bounding_set(),
            "no-new-privileges" => sys::set_no_new_privileges(),
            "user" => sys::become_user(words.number() as u32),
            "drop-capabilities" => sys::drop_capabilities(),
            "filter" => sys::install_filter(&words.hexadecimals()),
            "exec" => sys::execute(words.rest()),
            _ => fail(&format!("there is no step '{name}'")),
        }
    }

    /// A part of the work begins.
    fn mark(&mut self, part: &str) -> i32 {
        let line = format!("{part} {}\n", sys::monotonic_ns());
        match self.report {
            Some(report) => sys::write(report, line.as_bytes()),
            None => {
                self.marks.push_str(&line);
                0
            }
        }
    }

    /// The descriptor that an earlier step holds under this number.
    fn held(&self, words: &mut Words<'_>) -> i32 {
        self.held[words.number() as usize]
    }

    fn hold(&mut self, words: &mut Words<'_>, open: impl FnOnce(&mut Words<'_>) -> i32) -> i32 {
        let slot = words.number() as usize;
        self.held[slot] = open(words);
        self.held[slot]
    }
}

/// Says why, and ends the process.
pub fn fail(why: &str) -> ! {
    eprintln!("floor: {why}");
    sys::exit_now(125)
}
