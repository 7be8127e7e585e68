use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::Result;
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::types::viewer::UnreadTotals;
use crate::service;

/// Which notifications were read.
#[derive(InputObject)]
struct MarkNotificationsReadInput {
    /// At most 100 of the viewer's own. All, if left out.
    ids: Option<Vec<ID>>,
}

/// What is left to read.
#[derive(SimpleObject)]
struct MarkNotificationsReadPayload {
    /// What the viewer has not read.
    unread: UnreadTotals,
}

#[derive(Default)]
pub struct NotificationMutation;

#[Object]
impl NotificationMutation {
    /// Marks notifications of the viewer's as read. Messages stay as they were.
    async fn mark_notifications_read(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Which.")] input: MarkNotificationsReadInput,
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
