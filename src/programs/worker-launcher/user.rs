//! Whom the supervisor may act for.

use squall::request::Identity;

use crate::config::Config;
use crate::exit::{Code, Failure, Result};

/// A user that it may act for.
#[derive(Debug, Clone)]
pub struct User {
    pub name: String,
    /// With all groups, from NSS.
    pub identity: Identity,
}

impl User {
    /// Looks the user up and applies the rules: not root by name or number, not below the smallest
    /// uid, not banned. The reason is said on standard output, as Storm's own does.
    pub fn allowed(name: &str, config: &Config) -> Result<User> {
        User::find(name, config).map_err(|failure| {
            say!("{}", failure.text);
            Failure::new(Code::Other, "")
        })
    }

    fn find(name: &str, config: &Config) -> Result<User> {
        let refused = |reason: String| Failure::new(Code::Other, format!("user '{name}' is refused: {reason}"));
        if name == "root" {
            return Err(refused("no command is run for root".to_owned()));
        }
        let identity = Identity::of_user_name(name).map_err(|error| refused(error.to_string()))?;
        let least = config.least_uid().map_err(|failure| Failure { code: Code::Other, ..failure })?;
        if identity.uid() == 0 || identity.uid() < least {
            return Err(refused(format!(
                "its uid is {}, and the smallest allowed is {least} (min.user.id)",
                identity.uid()
            )));
        }
        if config.banned_users().contains(&name) {
            return Err(refused("it is banned (banned.users)".to_owned()));
        }
        Ok(User { name: name.to_owned(), identity })
    }
}
