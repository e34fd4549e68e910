//! Reading what another version may have written: what is not understood is left out.

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::Value;

/// A value, or an empty one for what is none of its type.
pub(super) fn value<'de, T: DeserializeOwned + Default, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).unwrap_or_default())
}

/// A list without those items that are none of their type; an empty one for what is no list.
pub(super) fn list<'de, T: DeserializeOwned, D: Deserializer<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    let Value::Array(items) = Value::deserialize(from)? else { return Ok(Vec::new()) };
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}
