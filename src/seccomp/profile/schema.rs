//! The fields of a profile, each read into what it means.

use super::Place;
use super::action::{Action, MAX_ERRNO, MAX_MESSAGE};
use super::architecture;
use super::call;
use super::condition::{Condition, MAX_INDEX, Operator};
use super::docker;
use super::docker::Surroundings;
use super::errno_name;
use super::flags::Flags;
use super::rule::Rule;
use super::warning::Warning;
use crate::document::quoted;

/// What a rule or a default denies with unless it says otherwise: the OCI specification's.
const DEFAULT_ERRNO: u16 = libc::EPERM as u16;

const PROFILE: [&str; 7] =
    ["defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata", "syscalls"];
/// A comment is not OCI's, but everybody's.
const RULE: [&str; 5] = ["names", "action", "errnoRet", "args", "comment"];
const ARG: [&str; 4] = ["index", "value", "valueTwo", "op"];

/// What docker and podman have beside these.
const DOCKER_PROFILE: [&str; 2] = ["archMap", "defaultErrno"];
const DOCKER_RULE: [&str; 4] = ["name", "errno", "includes", "excludes"];

/// A profile as it was read.
pub(in crate::seccomp) struct Contents {
    pub(in crate::seccomp) default: Action,
    pub(in crate::seccomp) rules: Vec<Rule>,
    pub(in crate::seccomp) flags: Flags,
}

/// Reads a profile. `None` only beside a problem.
pub(in crate::seccomp) fn contents(profile: &Place<'_, '_>, here: Surroundings) -> Option<Contents> {
    if !profile.is_object() {
        return None;
    }
    let docker = docker::is_docker(profile).then_some(here);
    profile.only(&known(&PROFILE, docker.map(|_| DOCKER_PROFILE.as_slice())));
    architectures(profile);
    listener(profile);
    let flags = flags(profile);
    let errno = Errnos { code: "defaultErrnoRet", name: "defaultErrno" };
    let default = profile.needed("defaultAction").and_then(|place| action(&place, profile, errno));
    let rules = rules(profile, docker);
    Some(Contents { default: default?, rules, flags })
}

fn known<'k>(oci: &[&'k str], docker: Option<&[&'k str]>) -> Vec<&'k str> {
    oci.iter().chain(docker.unwrap_or_default()).copied().collect()
}

/// The machine's own table must be open, or every call would end in a kill; no other one is ever
/// opened.
fn architectures(profile: &Place<'_, '_>) {
    let mapped = docker::check_arch_map(profile);
    let Some(list) = profile.given("architectures") else {
        if mapped == Some(false) {
            profile.problem(format!("archMap has no {}: every call would be killed", architecture::NATIVE.oci_name));
        }
        return;
    };
    let (mut any, mut native) = (false, false);
    for place in list.elements() {
        any = true;
        match place.text() {
            Some(name) if architecture::is_native(name) => native = true,
            Some(name) if architecture::is_known(name) => {
                place.warn(|field| Warning::ForeignArchitecture { name: name.to_owned(), field });
            }
            Some(name) => place.problem(format!("{} is no architecture of the OCI specification", quoted(name))),
            None => {}
        }
    }
    if any && !native {
        let own = architecture::NATIVE.oci_name;
        list.problem(format!("{own}, which this machine is, is not listed: every call would be killed"));
    }
}

fn listener(profile: &Place<'_, '_>) {
    for key in ["listenerPath", "listenerMetadata"] {
        if let Some(place) = profile.given(key)
            && place.text().is_some_and(|text| !text.is_empty())
        {
            place.warn(|field| Warning::WithoutListener { field });
        }
    }
}

fn flags(profile: &Place<'_, '_>) -> Flags {
    let mut flags = Flags::default();
    let Some(list) = profile.given("flags") else { return flags };
    for place in list.elements() {
        match place.text() {
            Some("SECCOMP_FILTER_FLAG_TSYNC") => flags = flags.and(Flags::TSYNC),
            Some("SECCOMP_FILTER_FLAG_LOG") => flags = flags.and(Flags::LOG),
            Some("SECCOMP_FILTER_FLAG_SPEC_ALLOW") => flags = flags.and(Flags::SPEC_ALLOW),
            // The kernel refuses it without a listener (EINVAL).
            Some("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") => {
                place.warn(|field| Warning::WithoutListener { field });
            }
            Some(name) => {
                let flags = "SECCOMP_FILTER_FLAG_TSYNC, _LOG, _SPEC_ALLOW or _WAIT_KILLABLE_RECV";
                place.problem(format!("{} is no flag: expected {flags}", quoted(name)));
            }
            None => {}
        }
    }
    flags
}

fn rules(profile: &Place<'_, '_>, docker: Option<Surroundings>) -> Vec<Rule> {
    let Some(list) = profile.given("syscalls") else { return Vec::new() };
    let (mut rules, mut dropped) = (Vec::new(), Vec::new());
    for (index, place) in list.elements().enumerate() {
        if !place.is_object() {
            continue;
        }
        place.only(&known(&RULE, docker.map(|_| DOCKER_RULE.as_slice())));
        let applies = docker.is_none_or(|here| docker::applies(&place, here));
        match rule(&place, index, applies) {
            Some(rule) if applies => rules.push(rule),
            Some(_) => dropped.push(place.field()),
            None => {}
        }
    }
    if let Some(here) = docker {
        profile.warn(|_| Warning::DockerFormat { resolved_for: here.describe(), dropped });
    }
    rules
}

/// One rule; of one that does not apply here, unknown names are nobody's business.
fn rule(place: &Place<'_, '_>, index: usize, applies: bool) -> Option<Rule> {
    let calls = calls(place, applies);
    let errno = Errnos { code: "errnoRet", name: "errno" };
    let action = place.needed("action").and_then(|action_place| action(&action_place, place, errno));
    let alternatives = alternatives(place);
    Some(Rule { index, calls: calls?, action: action?, alternatives: alternatives? })
}

fn calls(rule: &Place<'_, '_>, applies: bool) -> Option<Vec<u32>> {
    let mut calls = Vec::new();
    let mut add = |place: &Place<'_, '_>| {
        let name = place.text()?;
        match call::number_of(name) {
            Some(number) => calls.push(number),
            None if name.is_empty() => place.problem("is empty: expected the name of a system call"),
            None if applies => {
                place.warn(|field| Warning::UnknownCall { name: name.chars().take(64).collect(), field });
            }
            None => {}
        }
        Some(())
    };
    // Docker's first format had one name for each rule.
    if let Some(name) = rule.given("name").filter(|_| rule.given("names").is_none()) {
        add(&name)?;
        return Some(calls);
    }
    let names = rule.needed("names")?;
    let elements = names.elements();
    if elements.len() == 0 {
        if names.is_array() {
            names.problem("names no system call: expected at least one");
        }
        return None;
    }
    for name in elements {
        let _ = add(&name);
    }
    Some(calls)
}

/// The two fields that an errno may be in.
#[derive(Clone, Copy)]
struct Errnos {
    code: &'static str,
    name: &'static str,
}

fn action(place: &Place<'_, '_>, parent: &Place<'_, '_>, errnos: Errnos) -> Option<Action> {
    let name = place.text()?;
    let action = match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_ERRNO" => Action::Errno(errno(parent, errnos, MAX_ERRNO)?),
        "SCMP_ACT_TRACE" => Action::Trace(errno(parent, errnos, MAX_MESSAGE)?),
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_NOTIFY" => {
            place.problem("SCMP_ACT_NOTIFY needs an agent that answers for each call, and Squall has none");
            return None;
        }
        other => {
            let expected = "ALLOW, LOG, TRACE, ERRNO, TRAP, KILL, KILL_THREAD or KILL_PROCESS";
            place.problem(format!("{} is no action: expected SCMP_ACT_{expected}", quoted(other)));
            return None;
        }
    };
    let stray = parent.given(errnos.code).filter(|_| !matches!(action, Action::Errno(_) | Action::Trace(_)));
    if let Some(stray) = stray {
        stray.problem(format!("{name} gives no errno: only SCMP_ACT_ERRNO and SCMP_ACT_TRACE do"));
        return None;
    }
    Some(action)
}

fn errno(parent: &Place<'_, '_>, errnos: Errnos, max: u64) -> Option<u16> {
    let code = match parent.given(errnos.code) {
        Some(place) => Some((place.number_up_to(max)? as u16, place)),
        None => None,
    };
    let Some(place) = parent.given(errnos.name) else { return Some(code.map_or(DEFAULT_ERRNO, |(code, _)| code)) };
    let name = place.text()?;
    let named = errno_name::number_of(name);
    match (code, named) {
        (_, None) if !name.is_empty() => {
            place.problem(format!("{} is no errno: expected a name such as EPERM", quoted(name)))
        }
        (None, named) => return Some(named.unwrap_or(DEFAULT_ERRNO)),
        (Some((code, _)), None) => return Some(code),
        (Some((code, _)), Some(named)) if code == named => return Some(code),
        (Some((code, _)), Some(named)) => {
            place.problem(format!("{name} is {named}, and {} says {code}", errnos.code));
        }
    }
    None
}

/// The conditions of a rule: one list of which all must be met, or, where two are on the same
/// argument, a list for each, as runc makes of what libseccomp does not take.
fn alternatives(rule: &Place<'_, '_>) -> Option<Vec<Vec<Condition>>> {
    let Some(args) = rule.given("args") else { return Some(vec![Vec::new()]) };
    let conditions: Vec<Option<Condition>> = args.elements().map(|place| condition(&place)).collect();
    let conditions: Vec<Condition> = conditions.into_iter().collect::<Option<_>>()?;
    let repeats = |(at, one): (usize, &Condition)| conditions[..at].iter().any(|other| other.index == one.index);
    // Seven conditions repeat an index, so no more than seven are looked at.
    if conditions.iter().take(MAX_INDEX as usize + 2).enumerate().any(repeats) {
        args.warn(|field| Warning::RepeatedArgument { field });
        return Some(conditions.into_iter().map(|one| vec![one]).collect());
    }
    Some(vec![conditions])
}

fn condition(place: &Place<'_, '_>) -> Option<Condition> {
    if !place.is_object() {
        return None;
    }
    place.only(&ARG);
    let index = place.needed("index").and_then(|index| index.number_up_to(MAX_INDEX));
    let value = place.needed("value").and_then(|value| value.number_up_to(u64::MAX));
    let value_two = place.given("valueTwo").map(|value| value.number_up_to(u64::MAX));
    let operator = place.needed("op").and_then(|op| operator(&op));
    let (index, value, operator) = (index? as u8, value?, operator?);
    let value_two = value_two.unwrap_or(Some(0))?;
    Some(match operator {
        Operator::MaskedEq(_) => Condition { index, operator: Operator::MaskedEq(value), value: value_two },
        operator => Condition { index, operator, value },
    })
}

fn operator(place: &Place<'_, '_>) -> Option<Operator> {
    Some(match place.text()? {
        "SCMP_CMP_NE" => Operator::Ne,
        "SCMP_CMP_LT" => Operator::Lt,
        "SCMP_CMP_LE" => Operator::Le,
        "SCMP_CMP_EQ" => Operator::Eq,
        "SCMP_CMP_GE" => Operator::Ge,
        "SCMP_CMP_GT" => Operator::Gt,
        "SCMP_CMP_MASKED_EQ" => Operator::MaskedEq(u64::MAX),
        other => {
            let expected = "SCMP_CMP_NE, _LT, _LE, _EQ, _GE, _GT or _MASKED_EQ";
            place.problem(format!("{} is no operator: expected {expected}", quoted(other)));
            return None;
        }
    })
}
