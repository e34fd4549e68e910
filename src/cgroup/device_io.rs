//! What a cgroup read from block devices and wrote to them.
//!
//! Owns the parsing of v2's `io.stat` and of v1's `blkio.throttle.io_*` files
//! (Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/blkio-controller.rst). Buffered writes
//! count when they reach the device; v1 counts them as the root cgroup's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One block device, as a cgroup used it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct DeviceIo {
    /// The device's major number. Loop devices, which layers are mounted from, have 7.
    pub major: u32,
    /// Its minor number.
    pub minor: u32,
    /// Bytes read from it.
    pub read_bytes: u64,
    /// Bytes written to it.
    pub written_bytes: u64,
    /// Read operations.
    pub reads: u64,
    /// Write operations.
    pub writes: u64,
}

/// Devices by major and minor number.
type Devices = BTreeMap<(u32, u32), DeviceIo>;

/// Reads v2's `io.stat`, one line for each device: `8:16 rbytes=1459200 wbytes=0 rios=192 wios=0`.
/// A device that the kernel lists without numbers has not been used.
pub(super) fn parse_v2(text: &str) -> Vec<DeviceIo> {
    let mut devices = Devices::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(device) = words.next().and_then(numbers) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let io = entry(&mut devices, device);
            match key {
                "rbytes" => io.read_bytes = value,
                "wbytes" => io.written_bytes = value,
                "rios" => io.reads = value,
                "wios" => io.writes = value,
                _ => {}
            }
        }
    }
    devices.into_values().collect()
}

/// Reads v1's two files, one line for each device and direction: `8:16 Read 1459200`. `None` where
/// no device is listed: since Linux 6.10 v1 counts only where a limit is or was in force for the
/// device, so that nothing listed says nothing.
pub(super) fn parse_v1(bytes: &str, operations: &str) -> Option<Vec<DeviceIo>> {
    let mut devices = Devices::new();
    for (device, direction, value) in lines_v1(bytes) {
        let io = entry(&mut devices, device);
        match direction {
            "Read" => io.read_bytes = value,
            "Write" => io.written_bytes = value,
            _ => {}
        }
    }
    for (device, direction, value) in lines_v1(operations) {
        let io = entry(&mut devices, device);
        match direction {
            "Read" => io.reads = value,
            "Write" => io.writes = value,
            _ => {}
        }
    }
    (!devices.is_empty()).then(|| devices.into_values().collect())
}

fn lines_v1(text: &str) -> impl Iterator<Item = ((u32, u32), &str, u64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        Some((numbers(words.next()?)?, words.next()?, words.next()?.parse().ok()?))
    })
}

fn entry(devices: &mut Devices, (major, minor): (u32, u32)) -> &mut DeviceIo {
    devices.entry((major, minor)).or_insert(DeviceIo { major, minor, ..DeviceIo::default() })
}

fn numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(minor: u32, [read_bytes, written_bytes, reads, writes]: [u64; 4]) -> DeviceIo {
        DeviceIo { major: 8, minor, read_bytes, written_bytes, reads, writes }
    }

    /// The example of the kernel's documentation, and a line without numbers, as Linux shows a
    /// device whose counters were never touched.
    #[test]
    fn v2_has_a_line_for_each_device() {
        let text = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0\n\
                    8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021\n\
                    7:3 \n";
        let expected = [io(0, [90_430_464, 299_008_000, 8950, 1252]), io(16, [1_459_200, 314_773_504, 192, 353])];
        assert_eq!(parse_v2(text), expected);
        assert_eq!(parse_v2(""), []);
    }

    #[test]
    fn v1_has_a_line_for_each_device_and_direction() {
        let bytes = "8:0 Read 4096\n8:0 Write 8192\n8:0 Sync 12288\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 12288\n\
                     Total 12288\n";
        let operations = "8:0 Read 1\n8:0 Write 2\n8:0 Sync 3\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 3\nTotal 3\n";
        assert_eq!(parse_v1(bytes, operations), Some(vec![io(0, [4096, 8192, 1, 2])]));
    }

    #[test]
    fn v1_without_a_device_says_nothing() {
        assert_eq!(parse_v1("Total 0\n", "Total 0\n"), None);
        assert_eq!(parse_v1("8:x Read 1\nRead\n8:0 Read much\n", ""), None);
    }
}
