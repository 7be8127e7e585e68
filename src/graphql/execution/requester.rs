//! The party on whose behalf an operation runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::domain::ids::{ChatId, OrganizationId};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::realtime::sessions::Session;

/// The party that requests an execution.
#[derive(Clone)]
pub enum Requester {
    /// A client without a token.
    Anonymous,
    /// A user with a valid token.
    Viewer(Arc<Viewer>),
    /// A user on a connection that outlives the request, with the viewer of the session's newest token.
    Session(Arc<Session>, Arc<Viewer>),
    /// All subscribers of the same operation, who share the execution of one event.
    Shared(Arc<SharedScope>),
}

/// The properties that all subscribers of a shared execution have in common.
///
/// A shared execution has no viewer. [`Requester::viewer`] is the only way to the viewer, and it taints the
/// scope if there is none. The result of a tainted execution is discarded, and each subscriber gets an
/// execution of its own, so a field that depends on the viewer can never reach another subscriber.
#[derive(Debug)]
pub struct SharedScope {
    organization: OrganizationId,
    /// The chat that all subscribers are members of.
    chat: Option<ChatId>,
    tainted: AtomicBool,
}

impl SharedScope {
    /// Creates an untainted scope.
    pub fn new(organization: OrganizationId, chat: Option<ChatId>) -> Self {
        Self { organization, chat, tainted: AtomicBool::new(false) }
    }

    /// Returns whether the execution depends on the viewer, so that its result cannot be shared.
    pub fn is_tainted(&self) -> bool {
        self.tainted.load(Ordering::Relaxed)
    }
}

impl Requester {
    /// Creates the requester of a connection, with the viewer of its newest token.
    pub fn from_session(session: Arc<Session>) -> Self {
        let viewer = session.viewer();
        Self::Session(session, viewer)
    }

    /// Returns the user who requests the execution, and taints a shared one.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the requester is anonymous or the execution is shared.
    pub fn viewer(&self) -> Result<&Arc<Viewer>> {
        match self {
            Self::Viewer(viewer) | Self::Session(_, viewer) => Ok(viewer),
            Self::Anonymous => Err(Error::unauthenticated("a token is needed")),
            Self::Shared(scope) => {
                scope.tainted.store(true, Ordering::Relaxed);
                // The error is discarded with the result, so it must not be one that is logged.
                Err(Error::unauthenticated("there is no viewer in a shared execution"))
            }
        }
    }

    /// Returns the organization whose data the execution reads.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the requester is anonymous.
    pub fn organization(&self) -> Result<&OrganizationId> {
        match self {
            Self::Shared(scope) => Ok(&scope.organization),
            _ => self.viewer().map(|viewer| viewer.organization()),
        }
    }

    /// Returns the chat that all subscribers of a shared execution are members of.
    pub fn shared_chat(&self) -> Option<(&OrganizationId, ChatId)> {
        match self {
            Self::Shared(scope) => scope.chat.map(|chat| (&scope.organization, chat)),
            _ => None,
        }
    }

    /// Returns whether the client has no token.
    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }
}
