//! The organisations that this server does not serve as usual, because they are on their way to another database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::domain::ids::OrganizationId;
use crate::domain::organizations::{MoveState, OrganizationMove};
use crate::error::{Error, Result};
use crate::realtime::sessions::Sessions;
use crate::service::known_users::KnownUsers;
use crate::storage::organizations::{StoredMove, moves_since};
use crate::storage::pool::Database;
use crate::tasks::{TickLoop, Wait};

/// The interval at which the database is searched for changes, which commands make.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The time after which a request to an organisation that is moved is worth another attempt.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The moves of organisations, as this node has last read them.
///
/// The lock protects both fields, is held for one access only, and no other lock is taken under it.
#[derive(Debug, Default)]
pub struct OrganizationMoves(RwLock<KnownMoves>);

#[derive(Debug, Default)]
struct KnownMoves {
    by_organization: HashMap<OrganizationId, OrganizationMove>,
    /// The highest revision that was read.
    revision: i64,
}

impl OrganizationMoves {
    /// Reads the moves, and starts the task that reads their changes; it ends with the sessions.
    ///
    /// After a panic in it, this node serves organisations as it did before until it restarts.
    ///
    /// # Errors
    ///
    /// Returns an error if the database cannot be read.
    pub async fn start(
        database: Database,
        sessions: &Arc<Sessions>,
        known_users: &Arc<KnownUsers>,
    ) -> Result<Arc<Self>> {
        let moves = Arc::new(Self::default());
        moves.read_changes(&database, sessions, known_users).await?;
        let (polls, polled) = (TickLoop::new(sessions, Arc::default()), moves.clone());
        let known_users = known_users.clone();
        tokio::spawn(async move {
            while let Some(poll) = polls.next(Wait::For(POLL_INTERVAL)).await {
                if let Err(error) = polled.read_changes(&database, &poll.owner, &known_users).await {
                    tracing::debug!(%error, "could not read the moves of organisations; will try again");
                }
            }
        });
        Ok(moves)
    }

    async fn read_changes(&self, database: &Database, sessions: &Sessions, known_users: &KnownUsers) -> Result<()> {
        let revision = self.0.read().revision;
        let changes = moves_since(&mut database.read().await?, revision).await?;
        for change in changes {
            self.apply(change, sessions, known_users);
        }
        Ok(())
    }

    fn apply(&self, change: StoredMove, sessions: &Sessions, known_users: &KnownUsers) {
        let StoredMove { organization, revision, current } = change;
        let mut known = self.0.write();
        known.revision = known.revision.max(revision);
        let before = match &current {
            Some(current) => known.by_organization.insert(organization.clone(), current.clone()),
            None => known.by_organization.remove(&organization),
        };
        drop(known);
        if before == current {
            return;
        }
        let name = organization.as_str();
        tracing::info!(organization = name, state = ?current, "the move of an organisation has changed");
        if let Err(error) = self.require_served(&organization) {
            // The rows of the users may be replaced or deleted.
            known_users.forget_organization(&organization);
            // A session that is opened meanwhile either sees the state or is found here.
            sessions.end_organization(&organization, &error);
        }
    }

    /// Checks that an organisation is served here.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Moved`] if another server has it, and [`Error::Unavailable`] if it is being imported or deleted.
    pub fn require_served(&self, organization: &OrganizationId) -> Result<()> {
        let known = self.0.read();
        let Some(known) = known.by_organization.get(organization) else { return Ok(()) };
        match known.state {
            MoveState::Frozen => Ok(()),
            MoveState::Moved => Err(Error::Moved { url: known.moved_to.clone().unwrap_or_default() }),
            MoveState::Importing => Err(unavailable("the organization is being moved to this server")),
            MoveState::Deleting => Err(unavailable("the organization is being deleted")),
        }
    }

    /// Checks that an organisation can be changed here.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`require_served`](Self::require_served), and [`Error::Unavailable`] while the organisation
    /// is frozen.
    pub fn require_writable(&self, organization: &OrganizationId) -> Result<()> {
        self.require_served(organization)?;
        match self.0.read().by_organization.contains_key(organization) {
            true => Err(unavailable("the organization is being moved to another server and can only be read")),
            false => Ok(()),
        }
    }
}

fn unavailable(message: &'static str) -> Error {
    Error::Unavailable { message, retry_after: RETRY_AFTER }
}
