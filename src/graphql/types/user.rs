use async_graphql::{Context, ID, Object};

use super::super::context::ContextExt;
use super::super::scalars::Url;
use super::Presence;
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::users;
use crate::error::{Error, Result};
use crate::service;

pub struct User(pub users::User);

impl User {
    /// A person whom a row names.
    pub async fn load(ctx: &Context<'_>, id: &UserId) -> Result<Self> {
        let user = ctx.loaders().load_one(id.clone()).await?;
        user.map(Self).ok_or(Error::NotFound("user"))
    }

    /// People whom rows name, in their order.
    pub async fn load_all(ctx: &Context<'_>, ids: Vec<UserId>) -> Result<Vec<Self>> {
        let mut users = ctx.loaders().load_many(ids.clone()).await?;
        Ok(ids.into_iter().filter_map(|id| users.remove(&id)).map(Self).collect())
    }
}

/// A person of the host application, as their newest token showed them.
#[Object]
impl User {
    /// The subject of the person's token.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The name to show, from the token; the id where it has none.
    async fn name(&self) -> &str {
        &self.0.name
    }

    /// A picture of the person, where the token has one.
    async fn avatar_url(&self) -> Option<Url> {
        self.0.avatar_url.clone().map(Url)
    }

    /// How the person is there.
    async fn presence(&self, ctx: &Context<'_>) -> Presence {
        Presence(service::presence::of(ctx.app(), &self.0))
    }
}

pub struct Organization(pub OrganizationId);

/// An organisation of the host application. Nothing of it is visible to another.
#[Object]
impl Organization {
    /// The organisation's word in tokens, behind `org_`.
    pub async fn id(&self) -> ID {
        self.0.to_string().into()
    }
}
