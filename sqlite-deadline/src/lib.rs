//! Deadlines of SQLite's statements.
//!
//! SQLite has no time limit of its own. It calls a *progress handler* of the connection while it runs a statement, and
//! ends the statement with the code `SQLITE_INTERRUPT` if the handler says so. diesel 2.3 neither sets such a handler
//! nor gives access to the connection's handle, so this crate has SQLite set one on each connection that is opened
//! ([`install`]). The handler reads the deadline of the current thread ([`run_until`]), because SQLite calls it on the
//! thread that runs the statement.
//!
//! A statement of a transaction that writes may be ended too. SQLite then rolls the statement or the transaction back.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Once;
use std::time::Instant;

use libsqlite3_sys::{SQLITE_OK, sqlite3, sqlite3_api_routines, sqlite3_auto_extension, sqlite3_progress_handler};

/// The number of instructions of SQLite's virtual machine between two looks at the clock.
///
/// They take some microseconds, so a look at the clock costs well below one per cent.
const INSTRUCTIONS_BETWEEN_CHECKS: c_int = 1_000;

thread_local! {
    /// The deadline of the statements that the current thread runs.
    static DEADLINE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Has each connection that is opened from now on observe deadlines.
///
/// Further calls do nothing.
#[expect(unsafe_code, reason = "diesel gives no access to the handle on which a progress handler is set")]
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: the function may be called from any thread at any time, and it initializes SQLite first. The entry
        // point has the signature that SQLite calls it with, and as a function of this program it lives for ever.
        let result = unsafe { sqlite3_auto_extension(Some(set_progress_handler)) };
        // It fails only if there is no memory, and then nothing else works either.
        debug_assert_eq!(result, SQLITE_OK);
    });
}

/// Runs work whose statements, on this thread, are ended at a deadline.
///
/// They fail with the code `SQLITE_INTERRUPT`, whose message is `interrupted`. Within the work of another deadline, the
/// inner one counts.
pub fn run_until<T>(deadline: Instant, work: impl FnOnce() -> T) -> T {
    let _restore = RestoreDeadline(DEADLINE.replace(Some(deadline)));
    work()
}

/// Sets the deadline back, also if the work panics: the thread goes on to other work.
struct RestoreDeadline(Option<Instant>);

impl Drop for RestoreDeadline {
    fn drop(&mut self) {
        DEADLINE.set(self.0);
    }
}

/// Sets the progress handler of a connection that has just been opened.
#[expect(unsafe_code, reason = "SQLite calls this function with a raw handle")]
unsafe extern "C" fn set_progress_handler(
    connection: *mut sqlite3,
    _error: *mut *mut c_char,
    _api: *const sqlite3_api_routines,
) -> c_int {
    // SAFETY: SQLite passes the handle of an open connection that no other thread uses yet. The handler takes no
    // argument from the pointer, and as a function of this program it outlives the connection.
    unsafe {
        sqlite3_progress_handler(connection, INSTRUCTIONS_BETWEEN_CHECKS, Some(is_deadline_over), ptr::null_mut());
    }
    SQLITE_OK
}

/// Returns 1, which ends the statement, if the deadline of the current thread is over.
extern "C" fn is_deadline_over(_: *mut c_void) -> c_int {
    // A thread that is ending has no deadline any more.
    let deadline = DEADLINE.try_with(Cell::get).ok().flatten();
    c_int::from(deadline.is_some_and(|deadline| Instant::now() >= deadline))
}
