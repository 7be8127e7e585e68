//! Access to the data that every resolver can take from its context.

use std::sync::Arc;

use async_graphql::Context;
use async_graphql::dataloader::DataLoader;
use chrono::{DateTime, Utc};

use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::Result;
use crate::graphql::execution::budgets::WaitingFields;
use crate::graphql::execution::requester::Requester;
use crate::graphql::schema::loaders::Loaders;
use crate::realtime::sessions::Session;
use crate::service::context::AppContext;

/// The time at which an execution starts, before it reads anything.
///
/// `None` for an event of a subscription, whose payload does not depend on the time at which it is rendered.
pub struct ExecutionStart(pub Option<DateTime<Utc>>);

/// Typed access to the data of an execution.
pub trait ContextExt<'a> {
    /// Returns the components of the server.
    fn app(&self) -> &'a Arc<AppContext>;

    /// Returns the user who requests the execution, and taints a shared execution.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unauthenticated`] if the requester is anonymous or the execution is shared.
    ///
    /// [`Error::Unauthenticated`]: crate::error::Error::Unauthenticated
    fn viewer(&self) -> Result<&'a Arc<Viewer>>;

    /// Checks that the requester may view chats, which all subscribers of a shared execution may.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Forbidden`] if the viewer's token lacks the permission `chat.view`, and
    /// [`Error::Unauthenticated`] if the requester is anonymous.
    ///
    /// [`Error::Forbidden`]: crate::error::Error::Forbidden
    /// [`Error::Unauthenticated`]: crate::error::Error::Unauthenticated
    fn require_chat_view(&self) -> Result<()>;

    /// Returns a time before the first read of the execution, unless it renders an event.
    fn started_at(&self) -> Option<DateTime<Utc>>;

    /// Returns the session of the connection, if the connection outlives the request.
    fn session(&self) -> Option<&'a Arc<Session>>;

    /// Returns the loaders of this execution, which batch the lookups of each level of a query.
    ///
    /// Counts the caller as a field that waits for a lookup.
    fn loaders(&self) -> &'a DataLoader<Loaders>;
}

impl<'a> ContextExt<'a> for Context<'a> {
    fn app(&self) -> &'a Arc<AppContext> {
        self.data_unchecked()
    }

    fn viewer(&self) -> Result<&'a Arc<Viewer>> {
        self.data_unchecked::<Requester>().viewer()
    }

    fn require_chat_view(&self) -> Result<()> {
        match self.data_unchecked::<Requester>() {
            Requester::Shared(_) => Ok(()),
            requester => Ok(require_permission(&requester.viewer()?.permissions, Permission::ChatView)?),
        }
    }

    fn started_at(&self) -> Option<DateTime<Utc>> {
        self.data_unchecked::<ExecutionStart>().0
    }

    fn session(&self) -> Option<&'a Arc<Session>> {
        self.data_unchecked::<Requester>().session()
    }

    fn loaders(&self) -> &'a DataLoader<Loaders> {
        self.data_unchecked::<WaitingFields>().count_one();
        self.data_unchecked()
    }
}
