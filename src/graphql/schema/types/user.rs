//! Users and organisations of the host application.

use async_graphql::{Context, ID, Object};

use crate::domain::ids::{OrganizationId, UserId};
use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::scalars::{CountedUrl, DateTime, Text, Unchecked};
use crate::graphql::schema::types::call::{CallStatistics, StatisticsPeriod};
use crate::graphql::schema::types::objects::{Presence, User};
use crate::service;

impl User {
    /// Returns a user whose id comes from the database.
    ///
    /// # Errors
    ///
    /// Returns [`Error::NotFound`] if the user does not exist, and the errors of the loader.
    pub async fn load(ctx: &Context<'_>, id: &UserId) -> Result<Self> {
        let user = ctx.loaders().load_one(id.clone()).await?;
        user.map(Self).ok_or(Error::NotFound("user"))
    }

    /// Returns users whose ids come from the database, in the order of the ids.
    ///
    /// # Errors
    ///
    /// Returns the errors of the loader.
    pub async fn load_all(ctx: &Context<'_>, ids: Vec<UserId>) -> Result<Vec<Self>> {
        let mut users = ctx.loaders().load_many(ids.clone()).await?;
        Ok(ids.into_iter().filter_map(|id| users.remove(&id)).map(Self).collect())
    }
}

/// A user of the host application, as their newest token describes them.
#[Object]
impl User {
    /// The id of the user: the subject of their token.
    pub async fn id(&self) -> ID {
        self.0.id.to_string().into()
    }

    /// The display name from the token, or the id if the token has no name.
    async fn name(&self) -> Text<&str> {
        Text(&self.0.name)
    }

    /// The URL of the user's picture.
    /// Null if the token has none.
    async fn avatar_url(&self) -> Option<CountedUrl<&str>> {
        self.0.avatar_url.as_deref().map(CountedUrl)
    }

    /// The presence of the user.
    /// Fails with `FORBIDDEN` if the token lacks `chat.view`.
    async fn presence(&self, ctx: &Context<'_>) -> Result<Presence> {
        ctx.require_chat_view()?;
        Ok(Presence(service::presence::snapshot_of(ctx.app(), &self.0)))
    }
}

/// The type `Organization`.
pub struct Organization(pub OrganizationId);

/// An organisation of the host application.
/// Its data is not visible to other organisations.
#[Object]
impl Organization {
    /// The id of the organisation: `org_` followed by the organisation of the token.
    pub async fn id(&self) -> ID {
        self.0.to_string().into()
    }

    /// Statistics of the organisation's calls, one element for each period.
    /// Fails with `FORBIDDEN` if the token lacks `organization.admin`.
    async fn call_statistics(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Includes calls that started at or after this time.")] since: Unchecked<DateTime>,
        #[graphql(desc = "Includes calls that started before this time, which must be after `since` and at most \
                          400 periods later.")]
        until: Unchecked<DateTime>,
        #[graphql(desc = "The length of a period. The first period starts at `since`, the last one may be shorter. \
                          Defaults to `DAY`.")]
        period: Option<StatisticsPeriod>,
    ) -> Option<Result<Vec<CallStatistics>>> {
        let period = period.unwrap_or(StatisticsPeriod::Day).length();
        let statistics = async {
            let range = (since.check("since")?, until.check("until")?);
            service::calls::history::statistics(ctx.app(), ctx.viewer()?, range, period).await
        };
        Some(statistics.await.map(|statistics| statistics.into_iter().map(Into::into).collect()))
    }
}
