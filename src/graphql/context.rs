//! What resolvers take from their context.

use std::sync::Arc;

use async_graphql::Context;
use async_graphql::dataloader::DataLoader;

use super::loaders::Loaders;
use crate::app::App;
use crate::domain::users::Viewer;
use crate::error::{Error, Result};

/// Who asks, where a valid token said so.
#[derive(Clone, Default)]
pub struct Asker(pub Option<Arc<Viewer>>);

impl Asker {
    pub fn viewer(&self) -> Result<&Arc<Viewer>> {
        self.0.as_ref().ok_or_else(|| Error::unauthenticated("a token is needed"))
    }
}

pub trait ContextExt<'a> {
    fn app(&self) -> &'a Arc<App>;

    /// The one way to who is asking.
    fn viewer(&self) -> Result<&'a Arc<Viewer>>;

    /// Batches what resolvers of one level look up. Made anew for each execution.
    fn loaders(&self) -> &'a DataLoader<Loaders>;
}

impl<'a> ContextExt<'a> for Context<'a> {
    fn app(&self) -> &'a Arc<App> {
        self.data_unchecked()
    }

    fn viewer(&self) -> Result<&'a Arc<Viewer>> {
        self.data_unchecked::<Asker>().viewer()
    }

    fn loaders(&self) -> &'a DataLoader<Loaders> {
        self.data_unchecked()
    }
}
