//! Organisations, and their moves between databases.

use strum::{EnumString, IntoStaticStr};

/// The state of an organisation that is not served as usual, as stored in `organizations.move_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum MoveState {
    /// It is read but not written, while its last changes are exported.
    Frozen,
    /// Its rows arrive from another database.
    Importing,
    /// Another database has it.
    Moved,
    /// Its rows are being deleted.
    Deleting,
}

/// The move of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationMove {
    pub state: MoveState,
    /// The address at which a moved organisation is served.
    pub moved_to: Option<String>,
}
