//! The values of `-v`.

use squall::request::AbsolutePath;

use super::Refused;

/// Options of a bind mount. Not `shared`: mounts of the container's would appear on the host. Not
/// `z` and `Z`: they relabel the files of the host.
const OPTIONS: [&str; 6] = ["ro", "rw", "private", "rprivate", "slave", "rslave"];

/// What a container gets from the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSource(pub AbsolutePath);

impl MountSource {
    /// The source of `source:destination` or `source:destination:options`. A volume of docker's own
    /// has a name instead: a driver's options may lead it anywhere.
    pub(super) fn parse(value: &str) -> Result<MountSource, Refused> {
        let wrong = |problem: String| Refused::line(format!("'-v {value}': {problem}"));
        let mut parts = value.split(':');
        let (source, destination) = (parts.next().unwrap_or_default(), parts.next());
        let destination = destination.ok_or_else(|| wrong("there is no destination".to_owned()))?;
        let path = |text: &str| AbsolutePath::new(text).map_err(|bad| wrong(bad.to_string()));
        let source = path(source)?;
        path(destination)?;
        let options = parts.next();
        if let Some(option) = options.into_iter().flat_map(|text| text.split(',')).find(|text| !OPTIONS.contains(text))
        {
            return Err(wrong(format!("'{option}' is no allowed option")));
        }
        match parts.next() {
            None => Ok(MountSource(source)),
            Some(_) => Err(wrong("there are too many colons".to_owned())),
        }
    }
}
