//! Moves of organisations between databases.
//!
//! An organisation is exported into a folder, which an import reads into another database. Both can be repeated: an
//! export then reads what has changed, and an import writes what the database does not have yet. So most of the work is
//! done while the organisation is served, and only the last export, of the frozen organisation, and the last import take
//! time in which it cannot be changed. After that, the old server answers every request with the new address.
//!
//! [`states`] is what a running server knows of moves, [`bundle`] the folder. [`export`], [`import`] and [`removal`]
//! are commands, which run beside the server.

pub mod bundle;
pub mod export;
pub mod import;
pub mod ranges;
pub mod removal;
pub mod states;
