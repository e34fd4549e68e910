//! The document's resources: a container's limits in OCI's words.

use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpu, LinuxCpuBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
    LinuxMemory, LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources,
};

use super::Built;
use crate::cgroup::{DeviceRules, Limits, STANDARD};

/// What is not limited is absent.
pub(super) fn of(limits: &Limits) -> Built<LinuxResources> {
    let mut resources = LinuxResources::default();
    resources.set_devices(devices(&limits.devices)?);
    resources.set_memory(memory(limits)?);
    resources.set_cpu(cpu(limits)?);
    if let Some(pids) = limits.pids {
        resources.set_pids(Some(LinuxPidsBuilder::default().limit(signed(pids)).build()?));
    }
    if let Some(weight) = limits.blkio_weight {
        resources.set_block_io(Some(LinuxBlockIoBuilder::default().weight(weight).build()?));
    }
    Ok(resources)
}

fn memory(limits: &Limits) -> Built<Option<LinuxMemory>> {
    let mut memory = LinuxMemoryBuilder::default().build()?;
    let empty = memory;
    memory.set_limit(limits.memory_bytes.map(signed));
    memory.set_reservation(limits.memory_reservation_bytes.map(signed));
    memory.set_swap(limits.memory_swap_bytes.map(i64::from));
    Ok((memory != empty).then_some(memory))
}

fn cpu(limits: &Limits) -> Built<Option<LinuxCpu>> {
    let mut cpu = LinuxCpuBuilder::default().build()?;
    let empty = cpu.clone();
    cpu.set_quota(limits.cpu_quota_us).set_period(limits.cpu_period_us).set_shares(limits.cpu_shares);
    cpu.set_cpus(limits.cpuset_cpus.as_ref().map(ToString::to_string));
    cpu.set_mems(limits.cpuset_mems.as_ref().map(ToString::to_string));
    Ok((cpu != empty).then_some(cpu))
}

/// Deny all, then allow these, in the order in which the kernel is told.
fn devices(rules: &DeviceRules) -> Built<Option<Vec<LinuxDeviceCgroup>>> {
    let DeviceRules::Standard { allow } = rules else { return Ok(None) };
    let deny = LinuxDeviceCgroupBuilder::default().allow(false).typ(LinuxDeviceType::A).access("rwm").build();
    let allowed = STANDARD.iter().copied().chain(allow.iter().map(|rule| rule.as_str())).map(device);
    std::iter::once(deny).chain(allowed).collect::<Built<Vec<_>>>().map(Some)
}

/// A rule such as `c 10:200 rwm`, whose form its type has checked.
fn device(rule: &str) -> Built<LinuxDeviceCgroup> {
    let mut fields = rule.split([' ', ':']);
    let mut field = || fields.next().unwrap_or_default();
    let kind = if field() == "b" { LinuxDeviceType::B } else { LinuxDeviceType::C };
    // `*` is no number: absent, which is every one.
    let (major, minor) = (field().parse().ok(), field().parse().ok());
    let mut device = LinuxDeviceCgroupBuilder::default().allow(true).typ(kind).access(field()).build()?;
    device.set_major(major).set_minor(minor);
    Ok(device)
}

/// Sizes are checked to fit: the kernel counts in signed numbers too.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
