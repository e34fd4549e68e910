//! What every kind of checked text can do: be shown, and cross a border as a string that is checked
//! again.

/// For types with `new`, which checks and answers [`BadValue`](super::BadValue), and `as_str`.
macro_rules! checked_text {
    ($($kind:ident)*) => {$(
        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl TryFrom<String> for $kind {
            type Error = $crate::document::BadValue;

            fn try_from(text: String) -> Result<$kind, Self::Error> {
                $kind::new(text)
            }
        }

        impl From<$kind> for String {
            fn from(text: $kind) -> String {
                text.as_str().to_owned()
            }
        }
    )*};
}

pub(crate) use checked_text;
