//! Mutations of the viewer's notifications.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::viewer::UnreadTotals;
use crate::service;

/// The input of `markNotificationsRead`.
#[derive(InputObject)]
struct MarkNotificationsReadInput {
    /// The ids of the viewer's notifications to mark, at most 100.
    /// Defaults to all notifications.
    ids: Option<Vec<ID>>,
}

/// The result of `markNotificationsRead`.
#[derive(SimpleObject)]
struct MarkNotificationsReadPayload {
    /// The viewer's unread totals after the mutation.
    unread: UnreadTotals,
}

/// The mutations of this module.
#[derive(Default)]
pub struct NotificationMutation;

#[Object]
impl NotificationMutation {
    /// Marks notifications of the viewer as read.
    /// Read positions of chats do not change. Fails with `NOT_FOUND`, without marking any, if one of the ids is not a
    /// notification of the viewer.
    async fn mark_notifications_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `markNotificationsRead`.")] input: MarkNotificationsReadInput,
    ) -> Option<Result<MarkNotificationsReadPayload>> {
        Some(mark_read(ctx, input).await)
    }
}

async fn mark_read(ctx: &Context<'_>, input: MarkNotificationsReadInput) -> Result<MarkNotificationsReadPayload> {
    let viewer = ctx.viewer()?;
    let ids = input.ids.map(|ids| ids.iter().map(|id| parse_id(id, "notification")).collect::<Result<Vec<_>>>());
    let unread = service::notifications::mark_read(ctx.app(), viewer, ids.transpose()?).await?;
    Ok(MarkNotificationsReadPayload { unread: unread.into() })
}
