//! The `parlor` binary, which runs the command line.

use std::process::ExitCode;
use std::time::Duration;

/// The longest time for which the process waits at its end for work that blocks a thread.
///
/// A start that was stopped may have left such work behind; a migration is a transaction, which the database undoes.
const BLOCKING_WORK_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    let result = runtime.block_on(parlor::cli::run());
    runtime.shutdown_timeout(BLOCKING_WORK_TIMEOUT);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
