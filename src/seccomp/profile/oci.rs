//! A profile as an OCI document has it.

use serde_json::{Value, json};

use super::Profile;
use super::action::Action;
use super::architecture::NATIVE;
use super::call;
use super::condition::{Condition, Operator};
use super::flags::Flags;
use super::rule::Rule;

impl Profile {
    /// The object `linux.seccomp` of this machine: resolved if it came in docker's or podman's
    /// format, without the names that are unknown here. Read again, it is the same profile.
    pub fn to_value(&self) -> Value {
        let mut profile = json!({
            "defaultAction": self.default.oci_name(),
            "architectures": [NATIVE.oci_name],
            "syscalls": self.rules.iter().flat_map(elements).collect::<Vec<_>>(),
        });
        set_number(&mut profile, "defaultErrnoRet", self.default);
        let flags = flag_names(self.flags);
        if !flags.is_empty() {
            profile["flags"] = flags.into();
        }
        profile
    }
}

/// One element for each list of conditions.
fn elements(rule: &Rule) -> Vec<Value> {
    let names: Vec<_> = rule.calls.iter().filter_map(|number| call::name_of(*number)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let element = |conditions: &Vec<Condition>| {
        let mut element = json!({ "names": names, "action": rule.action.oci_name() });
        set_number(&mut element, "errnoRet", rule.action);
        if !conditions.is_empty() {
            element["args"] = conditions.iter().map(condition).collect();
        }
        element
    };
    rule.alternatives.iter().map(element).collect()
}

fn set_number(object: &mut Value, key: &str, action: Action) {
    if let Action::Errno(number) | Action::Trace(number) = action {
        object[key] = number.into();
    }
}

fn condition(condition: &Condition) -> Value {
    let (name, value, value_two) = match condition.operator {
        Operator::Ne => ("SCMP_CMP_NE", condition.value, 0),
        Operator::Lt => ("SCMP_CMP_LT", condition.value, 0),
        Operator::Le => ("SCMP_CMP_LE", condition.value, 0),
        Operator::Eq => ("SCMP_CMP_EQ", condition.value, 0),
        Operator::Ge => ("SCMP_CMP_GE", condition.value, 0),
        Operator::Gt => ("SCMP_CMP_GT", condition.value, 0),
        Operator::MaskedEq(mask) => ("SCMP_CMP_MASKED_EQ", mask, condition.value),
    };
    json!({ "index": condition.index, "op": name, "value": value, "valueTwo": value_two })
}

fn flag_names(flags: Flags) -> Vec<&'static str> {
    let all = [
        (Flags::TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"),
        (Flags::LOG, "SECCOMP_FILTER_FLAG_LOG"),
        (Flags::SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    ];
    all.into_iter().filter(|(flag, _)| flags.bits() & flag.bits() != 0).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Profiles with everything that a document can say.
    const PROFILES: [&str; 3] = [
        include_str!("../../../seccomp-profiles/default.json"),
        include_str!("../../../seccomp-profiles/strict.json"),
        r#"{"defaultAction":"SCMP_ACT_TRAP","flags":["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_SPEC_ALLOW"],"syscalls":[
            {"names":["read","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":9,"args":[
                {"index":0,"op":"SCMP_CMP_LT","value":5},{"index":0,"op":"SCMP_CMP_GE","value":18446744073709551615}]},
            {"names":["write"],"action":"SCMP_ACT_TRACE","errnoRet":7},
            {"names":["ioctl"],"action":"SCMP_ACT_LOG","args":[{"index":1,"op":"SCMP_CMP_MASKED_EQ","value":255,"valueTwo":3}]}]}"#,
    ];

    #[test]
    fn a_profile_read_again_is_the_same_filter() {
        for text in PROFILES {
            let profile = Profile::parse(text.as_bytes()).unwrap();
            let again = Profile::from_value(&profile.to_value()).unwrap();
            assert_eq!(again.compile().unwrap(), profile.compile().unwrap());
            assert_eq!(again.to_value(), profile.to_value());
            assert_eq!(
                Profile::parse(profile.to_value().to_string().as_bytes()).unwrap().to_value(),
                profile.to_value()
            );
        }
    }

    #[test]
    fn the_document_is_one_that_the_oci_types_read() {
        for text in PROFILES {
            let value = Profile::parse(text.as_bytes()).unwrap().to_value();
            let read: oci_spec::runtime::LinuxSeccomp = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(
                serde_json::to_value(read).unwrap()["syscalls"].as_array().unwrap().len(),
                value["syscalls"].as_array().unwrap().len()
            );
        }
    }
}
