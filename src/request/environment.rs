//! The worker's environment variables.

use std::collections::HashMap;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::rules::MAX_STRING_BYTES;
use crate::document::{BadValue, checked_text, quoted};

/// One variable, `NAME=VALUE`: the name is not empty, and nowhere is a NUL, and the
/// kernel takes its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Variable(String);

impl Variable {
    /// Checks a variable in the form `NAME=VALUE`.
    pub fn new(text: impl Into<String>) -> Result<Variable, BadValue> {
        let text = text.into();
        let reason = match text.find('=') {
            None => "has no '='",
            Some(0) => "has no name before the '='",
            Some(_) if text.contains('\0') => "contains a NUL byte",
            Some(_) if text.len() > MAX_STRING_BYTES => "has more than 131071 bytes (the kernel's MAX_ARG_STRLEN)",
            Some(_) => return Ok(Variable(text)),
        };
        // The value may be a secret: an error shows the name at most.
        let name = text.split('=').next().unwrap_or_default();
        Err(BadValue::new(format!("{} {reason}: expected NAME=VALUE", quoted(name))))
    }

    /// What stands before the first `=`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('=').map_or(self.0.as_str(), |(name, _)| name)
    }

    /// What stands after the first `=`.
    #[must_use]
    pub fn value(&self) -> &str {
        self.0.split_once('=').map_or("", |(_, value)| value)
    }

    /// The whole variable, `NAME=VALUE`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

checked_text! { Variable }

impl FromStr for Variable {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Variable, BadValue> {
        Variable::new(text)
    }
}

/// Variables in their order, each name once. Of two with the same name the later wins, at the place
/// of the earlier: the image's variables come first and a caller's own override them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Variable>")]
pub struct Environment(Vec<Variable>);

impl Environment {
    /// The variables in order.
    #[must_use]
    pub fn variables(&self) -> &[Variable] {
        &self.0
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|variable| variable.name() == name).map(Variable::value)
    }
}

impl From<Vec<Variable>> for Environment {
    fn from(variables: Vec<Variable>) -> Environment {
        variables.into_iter().collect()
    }
}

impl FromIterator<Variable> for Environment {
    fn from_iter<I: IntoIterator<Item = Variable>>(variables: I) -> Environment {
        let mut places = HashMap::new();
        let mut kept: Vec<Variable> = Vec::new();
        for variable in variables {
            let place = *places.entry(variable.name().to_owned()).or_insert(kept.len());
            match kept.get_mut(place) {
                Some(earlier) => *earlier = variable,
                None => kept.push(variable),
            }
        }
        Environment(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(texts: &[&str]) -> Environment {
        texts.iter().map(|text| Variable::new(*text).unwrap()).collect()
    }

    #[test]
    fn of_two_variables_the_later_wins_at_the_place_of_the_earlier() {
        let env = environment(&["PATH=/bin", "A=1", "PATH=/usr/bin:/bin", "B=", "A=x=y"]);
        let texts: Vec<_> = env.variables().iter().map(Variable::as_str).collect();
        assert_eq!(texts, ["PATH=/usr/bin:/bin", "A=x=y", "B="]);
        assert_eq!(env.get("A"), Some("x=y"));
        assert_eq!(env.get("B"), Some(""));
        assert_eq!(env.get("C"), None);
    }

    #[test]
    fn a_variable_without_name_or_sign_or_with_nul_is_refused() {
        for text in ["", "A", "=", "=x", "A=\0", "A\0=x"] {
            assert!(Variable::new(text).is_err(), "{text:?}");
        }
        let error = Variable::new("TOKEN=secret\0").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn deserialising_applies_both_rules() {
        let env: Environment = serde_json::from_str(r#"["A=1","A=2"]"#).unwrap();
        assert_eq!(env, environment(&["A=2"]));
        assert!(serde_json::from_str::<Environment>(r#"["A"]"#).is_err());
    }

    #[test]
    fn many_variables_are_sorted_out_in_linear_time() {
        let env: Environment = (0..200_000).map(|n| Variable::new(format!("V{}=x", n % 100_000)).unwrap()).collect();
        assert_eq!(env.variables().len(), 100_000);
    }
}
