use async_graphql::{Context, ID, Object};

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::users;
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::scalars::{DateTime, Url};
use crate::graphql::schema::types::call::{CallStatistics, StatisticsPeriod};
use crate::graphql::schema::types::presence::Presence;
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
        Presence(service::presence::snapshot_of(ctx.app(), &self.0))
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

    /// What its calls came to, by when they began; needs the permission ORGANIZATION_ADMIN.
    #[graphql(complexity = "1 + 30 * child_complexity")]
    async fn call_statistics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Calls that began at this moment or later.")] since: DateTime,
        #[graphql(desc = "Calls that began before this moment; at most 400 periods later.")] until: DateTime,
        #[graphql(desc = "Spans that they are added up by, the first from `since` on, the last cut short; DAY \
                          where left out.")]
        period: Option<StatisticsPeriod>,
    ) -> Option<Result<Vec<CallStatistics>>> {
        let each = period.unwrap_or(StatisticsPeriod::Day).length();
        let totals = async { service::calls::statistics(ctx.app(), ctx.viewer()?, (since.0, until.0), each).await };
        Some(totals.await.map(|totals| totals.into_iter().map(Into::into).collect()))
    }
}
