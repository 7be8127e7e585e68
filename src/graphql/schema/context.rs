//! What resolvers take from their context.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_graphql::Context;
use async_graphql::dataloader::DataLoader;

use crate::domain::ids::{ChatId, OrganizationId};
use crate::domain::users::Viewer;
use crate::error::{Error, Result};
use crate::graphql::schema::loaders::Loaders;
use crate::realtime::sessions::Session;
use crate::service::context::AppContext;

/// Who asks.
#[derive(Clone)]
pub enum Requester {
    /// Nobody who is known: there was no token.
    Anonymous,
    /// One person by a valid token.
    Viewer(Arc<Viewer>),
    /// One person on a connection that outlives the request.
    Session(Arc<Session>, Arc<Viewer>),
    /// All who asked the same of an event, together.
    Shared(Arc<SharedScope>),
}

/// Those who share an execution. None of them is the viewer: to ask for one taints the execution, and
/// its result is thrown away.
#[derive(Debug)]
pub struct SharedScope {
    organization: OrganizationId,
    /// The chat of which all of them are members.
    chat: Option<ChatId>,
    tainted: AtomicBool,
}

impl SharedScope {
    pub fn new(organization: OrganizationId, chat: Option<ChatId>) -> Self {
        Self { organization, chat, tainted: AtomicBool::new(false) }
    }

    /// Whether something depends on who asks.
    pub fn is_tainted(&self) -> bool {
        self.tainted.load(Ordering::Relaxed)
    }
}

impl Requester {
    /// One on a connection, by their newest token.
    pub fn from_session(session: Arc<Session>) -> Self {
        let viewer = session.viewer();
        Self::Session(session, viewer)
    }

    pub fn viewer(&self) -> Result<&Arc<Viewer>> {
        match self {
            Self::Viewer(viewer) | Self::Session(_, viewer) => Ok(viewer),
            Self::Anonymous => Err(Error::unauthenticated("a token is needed")),
            Self::Shared(everyone) => {
                everyone.tainted.store(true, Ordering::Relaxed);
                // Thrown away with the rest, and no fault that the log has to tell of.
                Err(Error::unauthenticated("there is no viewer in a shared execution"))
            }
        }
    }

    /// The organisation of which something is looked up.
    pub fn organization(&self) -> Result<&OrganizationId> {
        match self {
            Self::Shared(everyone) => Ok(&everyone.organization),
            _ => self.viewer().map(|viewer| viewer.organization()),
        }
    }

    /// The chat whose members ask together.
    pub fn shared_chat(&self) -> Option<(&OrganizationId, ChatId)> {
        match self {
            Self::Shared(everyone) => everyone.chat.map(|chat| (&everyone.organization, chat)),
            _ => None,
        }
    }

    pub fn is_anonymous(&self) -> bool {
        matches!(self, Self::Anonymous)
    }
}

pub trait ContextExt<'a> {
    fn app(&self) -> &'a Arc<AppContext>;

    /// The one way to who is asking.
    fn viewer(&self) -> Result<&'a Arc<Viewer>>;

    /// The connection that carries the request, where it outlives it.
    fn session(&self) -> Option<&'a Arc<Session>>;

    /// Batches what resolvers of one level look up. Made anew for each execution.
    fn loaders(&self) -> &'a DataLoader<Loaders>;
}

impl<'a> ContextExt<'a> for Context<'a> {
    fn app(&self) -> &'a Arc<AppContext> {
        self.data_unchecked()
    }

    fn viewer(&self) -> Result<&'a Arc<Viewer>> {
        self.data_unchecked::<Requester>().viewer()
    }

    fn session(&self) -> Option<&'a Arc<Session>> {
        match self.data_unchecked::<Requester>() {
            Requester::Session(session, _) => Some(session),
            _ => None,
        }
    }

    fn loaders(&self) -> &'a DataLoader<Loaders> {
        self.data_unchecked()
    }
}
