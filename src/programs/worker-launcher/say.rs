//! What is printed, one line each, whatever the names in it hold: Storm logs every line.

/// Says how it goes, on standard output.
macro_rules! say {
    ($($arguments:tt)*) => { $crate::say::line(&mut std::io::stdout(), format_args!($($arguments)*)) };
}

/// Says what is wrong, on standard error.
macro_rules! tell {
    ($($arguments:tt)*) => { $crate::say::line(&mut std::io::stderr(), format_args!($($arguments)*)) };
}

/// A reader that is gone is no reason to fail.
pub fn line(output: &mut dyn std::io::Write, text: std::fmt::Arguments<'_>) {
    let _ = output.write_all(format!("{}\n", squall::OneLine(text)).as_bytes());
    let _ = output.flush();
}
