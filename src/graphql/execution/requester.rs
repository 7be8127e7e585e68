//! The party on whose behalf an operation runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::access::EventAccess;
use crate::domain::ids::{ChatId, OrganizationId};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::realtime::sessions::Session;
use crate::storage::read_queue::Reader;

/// The party that requests an execution.
#[derive(Clone)]
pub enum Requester {
    /// A client without a token.
    Anonymous,
    /// A user with a valid token.
    Viewer(Arc<Viewer>),
    /// A user on a connection that outlives the request, with the viewer of the session's newest token.
    Session(Arc<Session>, Arc<Viewer>),
    /// A user to whom an event of one of their chats is delivered, with the session of the connection.
    EventRecipient(Option<Arc<Session>>, Arc<Viewer>, Arc<EventAccess>),
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

    /// Returns the same user as the recipient of an event, with the newest token of a session.
    pub fn for_event(&self, event_access: Option<Arc<EventAccess>>) -> Self {
        let (session, viewer) = match self {
            Self::Viewer(viewer) => (None, viewer.clone()),
            Self::Session(session, _) => (Some(session.clone()), session.viewer()),
            Self::Anonymous | Self::EventRecipient(..) | Self::Shared(_) => return self.clone(),
        };
        match (event_access, session) {
            (Some(event_access), session) => Self::EventRecipient(session, viewer, event_access),
            (None, Some(session)) => Self::Session(session, viewer),
            (None, None) => Self::Viewer(viewer),
        }
    }

    /// Returns the session of the connection, if the connection outlives the request.
    pub fn session(&self) -> Option<&Arc<Session>> {
        match self {
            Self::Session(session, _) => Some(session),
            Self::EventRecipient(session, ..) => session.as_ref(),
            Self::Anonymous | Self::Viewer(_) | Self::Shared(_) => None,
        }
    }

    /// Returns the access of an event's recipient.
    pub fn event_access(&self) -> Option<&EventAccess> {
        match self {
            Self::EventRecipient(_, _, event_access) => Some(event_access),
            _ => None,
        }
    }

    /// Returns the user who requests the execution, and taints a shared one.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the requester is anonymous or the execution is shared.
    pub fn viewer(&self) -> Result<&Arc<Viewer>> {
        match self {
            Self::Viewer(viewer) | Self::Session(_, viewer) | Self::EventRecipient(_, viewer, _) => Ok(viewer),
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

    /// Returns the party on whose behalf the execution reads; `None` for a client without a token.
    pub fn reader(&self) -> Option<Reader> {
        match self {
            Self::Anonymous => None,
            Self::Viewer(viewer) | Self::Session(_, viewer) | Self::EventRecipient(_, viewer, _) => {
                Some(Reader { organization: viewer.organization().clone(), user: Some(viewer.id().clone()) })
            }
            Self::Shared(scope) => Some(Reader { organization: scope.organization.clone(), user: None }),
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
