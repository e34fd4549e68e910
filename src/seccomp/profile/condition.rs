//! A condition on one argument of a call.

use std::fmt;

use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

/// How an argument is compared, always as an unsigned number of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `SCMP_CMP_NE`
    Ne,
    /// `SCMP_CMP_LT`
    Lt,
    /// `SCMP_CMP_LE`
    Le,
    /// `SCMP_CMP_EQ`
    Eq,
    /// `SCMP_CMP_GE`
    Ge,
    /// `SCMP_CMP_GT`
    Gt,
    /// `SCMP_CMP_MASKED_EQ` with this mask; it applies to both sides, as with libseccomp.
    MaskedEq(u64),
}

/// Greatest index of an argument.
pub(in crate::seccomp) const MAX_INDEX: u64 = 5;

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// How it is compared.
    pub operator: Operator,
    /// With what.
    pub value: u64,
}

impl Condition {
    /// Whether these arguments meet it. The filter is generated code; this is what it has to do,
    /// said once more.
    pub fn is_met_by(&self, args: &[u64; 6]) -> bool {
        let arg = args[usize::from(self.index)];
        match self.operator {
            Operator::Ne => arg != self.value,
            Operator::Lt => arg < self.value,
            Operator::Le => arg <= self.value,
            Operator::Eq => arg == self.value,
            Operator::Ge => arg >= self.value,
            Operator::Gt => arg > self.value,
            Operator::MaskedEq(mask) => arg & mask == self.value & mask,
        }
    }

    /// The same for seccompiler.
    pub(in crate::seccomp) fn to_seccompiler(self) -> Result<SeccompCondition, seccompiler::BackendError> {
        let operator = match self.operator {
            Operator::Ne => SeccompCmpOp::Ne,
            Operator::Lt => SeccompCmpOp::Lt,
            Operator::Le => SeccompCmpOp::Le,
            Operator::Eq => SeccompCmpOp::Eq,
            Operator::Ge => SeccompCmpOp::Ge,
            Operator::Gt => SeccompCmpOp::Gt,
            Operator::MaskedEq(mask) => SeccompCmpOp::MaskedEq(mask),
        };
        SeccompCondition::new(self.index, SeccompCmpArgLen::Qword, operator, self.value)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.operator {
            Operator::MaskedEq(mask) => return write!(f, "arg{} & {mask:#x} == {:#x}", self.index, self.value),
            Operator::Ne => "!=",
            Operator::Lt => "<",
            Operator::Le => "<=",
            Operator::Eq => "==",
            Operator::Ge => ">=",
            Operator::Gt => ">",
        };
        write!(f, "arg{} {sign} {:#x}", self.index, self.value)
    }
}

/// Conditions of which all must be met, as people read them.
pub(in crate::seccomp) fn all_of(conditions: &[Condition]) -> String {
    let texts: Vec<String> = conditions.iter().map(Condition::to_string).collect();
    texts.join(" and ")
}
