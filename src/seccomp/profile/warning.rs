//! What a profile asks for and a person should know about, though it is no error.

use std::fmt;

use serde::Serialize;

/// Something in a profile that is not done as it is written, or that does not mean what it seems
/// to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "warning", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Warning {
    /// A call that does not exist on this architecture, or that Squall's table does not know:
    /// skipped.
    UnknownCall {
        /// The call's name.
        name: String,
        /// Where it stands.
        field: String,
    },
    /// A field that no profile has: ignored. A profile file with one is refused.
    UnknownField {
        /// The field.
        field: String,
    },
    /// A call table other than the machine's own: it stays closed.
    ForeignArchitecture {
        /// The architecture's name.
        name: String,
        /// Where it stands.
        field: String,
    },
    /// Two conditions on the same argument: each condition of the rule then counts by itself, as
    /// with runc.
    RepeatedArgument {
        /// Where they stand.
        field: String,
    },
    /// A rule says for some call what the default action says already, beside other rules for that
    /// call: it does nothing, as with runc.
    SameAsDefault {
        /// The rule.
        field: String,
        /// The first such call.
        name: String,
    },
    /// Something for a listener, which only `SCMP_ACT_NOTIFY` would need: ignored.
    WithoutListener {
        /// The field.
        field: String,
    },
    /// The file is in the format of docker and podman: its conditions were resolved.
    DockerFormat {
        /// What for: no capabilities, which architecture, which kernel.
        resolved_for: String,
        /// The rules that do not apply.
        dropped: Vec<String>,
    },
    /// There are more warnings.
    More {
        /// How many.
        count: usize,
    },
}

/// Warnings as lines, all unknown calls in one: a profile that is made for several architectures
/// has dozens.
pub fn brief(warnings: &[Warning]) -> Vec<String> {
    let unknown = |warning: &Warning| match warning {
        Warning::UnknownCall { name, .. } => Some(name.clone()),
        _ => None,
    };
    let names: Vec<String> = warnings.iter().filter_map(unknown).collect();
    let mut lines: Vec<String> =
        warnings.iter().filter(|warning| unknown(warning).is_none()).map(Warning::to_string).collect();
    match names.as_slice() {
        [] => {}
        [name] => lines.push(format!("system call {name} is not known on this architecture and is skipped")),
        names => lines.push(format!(
            "{} system calls are not known on this architecture and are skipped: {}",
            names.len(),
            names.join(" ")
        )),
    }
    lines
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::UnknownCall { name, field } => {
                write!(f, "{field}: system call {name} is not known on this architecture and is skipped")
            }
            Warning::UnknownField { field } => write!(f, "{field}: no field of a seccomp profile, ignored"),
            Warning::ForeignArchitecture { name, field } => {
                write!(f, "{field}: the call table of {name} stays closed: only the machine's own is ever open")
            }
            Warning::RepeatedArgument { field } => write!(
                f,
                "{field}: two conditions on the same argument: any one condition of the rule is enough, as with runc"
            ),
            Warning::SameAsDefault { field, name } => {
                write!(f, "{field}: does what the default action does, so the other rules for {name} decide")
            }
            Warning::WithoutListener { field } => write!(f, "{field}: is for a listener, and no rule has one: ignored"),
            Warning::DockerFormat { resolved_for, dropped } => {
                let count = dropped.len();
                write!(
                    f,
                    "profile: in the format of docker and podman, resolved for {resolved_for}: {count} rules dropped"
                )
            }
            Warning::More { count } => write!(f, "{count} more warnings are not shown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_calls_are_one_line_however_many_they_are() {
        let unknown = |name: &str| Warning::UnknownCall { name: name.to_owned(), field: "f".to_owned() };
        let other = Warning::UnknownField { field: "x".to_owned() };
        let lines = brief(&[unknown("a"), other.clone(), unknown("b")]);
        assert_eq!((lines.len(), &lines[0]), (2, &other.to_string()));
        assert!(lines[1].starts_with("2 system calls") && lines[1].ends_with(": a b"), "{lines:?}");
        assert!(brief(&[unknown("a")])[0].contains("system call a is"));
    }
}
