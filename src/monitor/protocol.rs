//! What is said on `monitor.sock`: one SEQPACKET packet per request, one per answer.
//!
//! ```text
//! request   version u8 = 1 | verb u8 | fields of the verb, little endian
//!   status  1
//!   start   2
//!   signal  3   signal u8
//!   stop    4   signal u8 (0: the container's own) | grace u32, milliseconds (0xffff_ffff: the container's own)
//! answer    version u8 = 1 | errno u8 (0: done) | for status: progress u8, then each field of `Status` as u64
//! ```
//!
//! A packet has exactly the length of its verb. Only the listed values exist: anything else is
//! refused with EINVAL, another version with EPROTONOSUPPORT, so that a newer client can tell the
//! two apart.

use super::list::List;

/// The first byte of each packet. Monitors outlive the program that started them, so old ones are
/// met in practice.
pub const VERSION: u8 = 1;
/// More bytes than any request has: what is longer cannot be one.
pub const MAX_REQUEST: usize = 8;

/// The container has been started already, or never had a gate to start it by.
pub const EALREADY: u8 = 114;
/// The peer is neither root nor the owner.
pub const EPERM: u8 = 1;
const EINVAL: u8 = 22;
const EPROTONOSUPPORT: u8 = 93;

const STATUS: u8 = 1;
const START: u8 = 2;
const SIGNAL: u8 = 3;
const STOP: u8 = 4;
const OWN_GRACE: u32 = u32::MAX;

/// A packet on its way.
pub type Packet = List<u8, 48>;

/// The number of a signal that exists: 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u8);

impl Signal {
    /// SIGTERM.
    pub const TERM: Signal = Signal(15);
    /// SIGKILL.
    pub const KILL: Signal = Signal(9);

    /// `None` where Linux has no such signal.
    pub fn new(number: u8) -> Option<Signal> {
        (1..=64).contains(&number).then_some(Signal(number))
    }

    /// The number, the same on every architecture that Squall runs on.
    pub fn number(self) -> u8 {
        self.0
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// How is it; also the way to see that the monitor lives.
    Status,
    /// Open the start gate. Answered when init has become the workload; where it could not, the
    /// connection ends with the monitor, and the exit record says why.
    Start,
    /// Send init a signal. One that init has no handler for is dropped by the kernel unless it is
    /// SIGKILL or SIGSTOP.
    Signal(Signal),
    /// Signal now, kill everything when the grace has passed.
    Stop {
        /// `None`: the container's own stop signal.
        signal: Option<Signal>,
        /// `None`: the container's own grace.
        grace_ms: Option<u32>,
    },
}

impl Request {
    /// The packet that asks for it.
    pub fn encode(self) -> Packet {
        match self {
            Request::Status => Packet::of(&[VERSION, STATUS]),
            Request::Start => Packet::of(&[VERSION, START]),
            Request::Signal(signal) => Packet::of(&[VERSION, SIGNAL, signal.number()]),
            Request::Stop { signal, grace_ms } => {
                // The greatest number means "own": a grace that long (49 days) is a millisecond
                // shorter.
                let grace = grace_ms.map_or(OWN_GRACE, |grace| grace.min(OWN_GRACE - 1));
                let [a, b, c, d] = grace.to_le_bytes();
                Packet::of(&[VERSION, STOP, signal.map_or(0, Signal::number), a, b, c, d])
            }
        }
    }

    /// The request in a packet, or the errno to refuse it with.
    pub fn decode(packet: &[u8]) -> Result<Request, u8> {
        match *packet {
            [VERSION, STATUS] => Ok(Request::Status),
            [VERSION, START] => Ok(Request::Start),
            [VERSION, SIGNAL, signal] => Signal::new(signal).map(Request::Signal).ok_or(EINVAL),
            [VERSION, STOP, signal, a, b, c, d] => {
                let grace = u32::from_le_bytes([a, b, c, d]);
                let signal = if signal == 0 { None } else { Some(Signal::new(signal).ok_or(EINVAL)?) };
                Ok(Request::Stop { signal, grace_ms: (grace != OWN_GRACE).then_some(grace) })
            }
            [version, ..] if version != VERSION => Err(EPROTONOSUPPORT),
            _ => Err(EINVAL),
        }
    }
}

/// How far the container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Waits at its gate.
    Created = 0,
    /// Runs.
    Running = 1,
    /// Has been signalled; killed when the grace has passed.
    Stopping = 2,
    /// Has been killed; init is not reaped yet.
    Killing = 3,
}

/// The answer to [`Request::Status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// How far the container is.
    pub progress: Progress,
    /// Init's pid in the monitor's pid namespace.
    pub pid: u32,
    /// CLOCK_BOOTTIME when the monitor began to watch, nanoseconds.
    pub watching_boot_ns: u64,
    /// The next deadline in CLOCK_BOOTTIME nanoseconds; 0: none.
    pub deadline_boot_ns: u64,
    /// How often the monitor has woken up.
    pub wakeups: u64,
    /// How often the container's own memory limit made the kernel look for a victim.
    pub oom_events: u64,
}

/// What a client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Accepted. A stop is answered when it begins; its end is the end of the monitor.
    Done,
    /// Refused or failed with this errno.
    Failed(u8),
    /// The answer to [`Request::Status`].
    Status(Status),
}

impl Answer {
    /// The packet that says it.
    pub fn encode(self) -> Packet {
        let status = match self {
            Answer::Done => return Packet::of(&[VERSION, 0]),
            Answer::Failed(errno) => return Packet::of(&[VERSION, errno]),
            Answer::Status(status) => status,
        };
        let mut packet = Packet::of(&[VERSION, 0, status.progress as u8]);
        let Status { pid, watching_boot_ns, deadline_boot_ns, wakeups, oom_events, .. } = status;
        let numbers = [u64::from(pid), watching_boot_ns, deadline_boot_ns, wakeups, oom_events];
        for byte in numbers.map(u64::to_le_bytes).as_flattened() {
            let _ = packet.push(*byte); // 43 bytes of 48
        }
        packet
    }

    /// The answer in a packet; `None` where it is of another version or no answer at all.
    pub fn decode(packet: &[u8]) -> Option<Answer> {
        let (progress, mut fields) = match packet {
            [VERSION, 0] => return Some(Answer::Done),
            [VERSION, errno] => return Some(Answer::Failed(*errno)),
            [VERSION, 0, 0, fields @ ..] => (Progress::Created, fields),
            [VERSION, 0, 1, fields @ ..] => (Progress::Running, fields),
            [VERSION, 0, 2, fields @ ..] => (Progress::Stopping, fields),
            [VERSION, 0, 3, fields @ ..] => (Progress::Killing, fields),
            _ => return None,
        };
        let mut numbers = [0; 5];
        for number in &mut numbers {
            let (bytes, rest) = fields.split_first_chunk::<8>()?;
            *number = u64::from_le_bytes(*bytes);
            fields = rest;
        }
        let [pid, watching_boot_ns, deadline_boot_ns, wakeups, oom_events] = numbers;
        let pid = u32::try_from(pid).ok()?;
        let status = Status { progress, pid, watching_boot_ns, deadline_boot_ns, wakeups, oom_events };
        fields.is_empty().then_some(Answer::Status(status))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub fn requests() -> impl Strategy<Value = Request> {
        let signal = || (1u8..=64).prop_map(|number| Signal::new(number).unwrap());
        prop_oneof![
            Just(Request::Status),
            Just(Request::Start),
            signal().prop_map(Request::Signal),
            (proptest::option::of(signal()), proptest::option::of(0..u32::MAX - 1))
                .prop_map(|(signal, grace_ms)| Request::Stop { signal, grace_ms }),
        ]
    }

    proptest! {
        #[test]
        fn a_request_arrives_as_it_was_sent(request in requests()) {
            let packet = request.encode();
            prop_assert!(packet.len() < MAX_REQUEST);
            prop_assert_eq!(Request::decode(&packet), Ok(request));
        }

        #[test]
        fn bytes_are_a_request_only_if_a_request_makes_these_bytes(bytes in proptest::collection::vec(0u8..6, 0..9)) {
            match Request::decode(&bytes) {
                Ok(request) => prop_assert_eq!(&*request.encode(), &*bytes),
                Err(errno) => prop_assert!(errno == EINVAL || errno == EPROTONOSUPPORT),
            }
        }

        #[test]
        fn a_status_arrives_as_it_was_sent(pid: u32, numbers: [u64; 4], errno in 1u8..) {
            let [watching_boot_ns, deadline_boot_ns, wakeups, oom_events] = numbers;
            for progress in [Progress::Created, Progress::Running, Progress::Stopping, Progress::Killing] {
                let answer = Answer::Status(Status { progress, pid, watching_boot_ns, deadline_boot_ns, wakeups, oom_events });
                let packet = answer.encode();
                prop_assert_eq!(Answer::decode(&packet), Some(answer));
                prop_assert_eq!(Answer::decode(&packet[..packet.len() - 1]), None);
            }
            prop_assert_eq!(Answer::decode(&Answer::Failed(errno).encode()), Some(Answer::Failed(errno)));
        }
    }

    #[test]
    fn every_malformed_packet_is_refused_with_its_errno() {
        let table: [(&[u8], u8); 9] = [
            (&[], EINVAL),
            (&[1], EINVAL),
            (&[1, 0], EINVAL),
            (&[1, 5], EINVAL),
            (&[1, 1, 0], EINVAL),
            (&[1, 3, 0], EINVAL),
            (&[1, 3, 65], EINVAL),
            (&[1, 4, 15, 0, 0, 0], EINVAL),
            (&[2, 1], EPROTONOSUPPORT),
        ];
        for (packet, errno) in table {
            assert_eq!(Request::decode(packet), Err(errno), "{packet:?}");
        }
    }
}
