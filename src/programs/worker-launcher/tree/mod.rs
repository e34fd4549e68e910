//! Temporary.
use std::path::Path;
pub fn permit_work_directory(launcher: &crate::Launcher, path: &Path) -> crate::exit::Result<()> {
    let user = launcher.user.identity.uid();
    for p in [path.to_owned(), path.join("tmp")] {
        std::os::unix::fs::chown(&p, Some(user), Some(launcher.config.group)).unwrap();
        std::fs::set_permissions(
            &p,
            std::os::unix::fs::PermissionsExt::from_mode(if p.ends_with("tmp") { 0o770 } else { 0o2770 }),
        )
        .unwrap();
    }
    Ok(())
}
