//! The limit on open files, which include sockets.

use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::Result;

/// The largest number of subscribers, with a margin for other files.
const NEEDED: u64 = 12_288;

/// Raises the soft limit on open files for this process and its children.
///
/// The standard library cannot set limits. If the soft limit is too low (1,024 on many systems), the process replaces
/// itself by a shell that raises the limit and starts the program again.
pub fn raise_open_files() -> Result<()> {
    let (soft, hard) = open_files()?;
    if soft >= NEEDED {
        return Ok(());
    }
    if hard < NEEDED {
        return Err(format!("{NEEDED} open files are needed and the hard limit is {hard}").into());
    }
    let error = Command::new("sh")
        .args(["-c", &format!(r#"ulimit -n {NEEDED} && exec "$0" "$@""#)])
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .exec();
    Err(error.into())
}

/// Returns the soft and the hard limit.
fn open_files() -> Result<(u64, u64)> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let mut numbers = line.unwrap_or_default().split_whitespace();
    let mut next = || match numbers.next() {
        Some("unlimited") => Ok(u64::MAX),
        Some(number) => number.parse(),
        None => "".parse(),
    };
    Ok((next()?, next()?))
}
