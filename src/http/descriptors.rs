//! The file descriptors of the process: each connection needs one, and so do the database and the log.

use rustix::process::{Resource, getrlimit, setrlimit};

/// The descriptors that connections leave to everything else but the database.
const RESERVED_DESCRIPTORS: usize = 64;
/// The number of connections that are accepted even with a very low limit of descriptors.
const MIN_CONNECTIONS: usize = 16;

/// Raises the limit of open descriptors of this process as far as the system allows.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the limit of open files cannot be raised");
    }
}

/// Returns the number of descriptors that this process may have open; `None` if it is not limited.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Returns the number of descriptors that this process has open, on systems that list them.
pub fn open_count() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    // The listing itself is one of them.
    Some((entries.count() as u64).saturating_sub(1))
}

/// Returns the part of `wanted` connections for which there are descriptors.
///
/// `database_descriptors` is the number that the database may use.
pub fn available_connections(wanted: usize, database_descriptors: usize) -> usize {
    let Some(limit) = limit() else { return wanted };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let available = limit.saturating_sub(RESERVED_DESCRIPTORS + database_descriptors).max(MIN_CONNECTIONS);
    if available < wanted {
        tracing::warn!(
            open_files = limit,
            connections = available,
            "the limit of open files allows fewer connections than PARLOR_CONNECTIONS={wanted}; raise it (ulimit -n)"
        );
    }
    available.min(wanted)
}
