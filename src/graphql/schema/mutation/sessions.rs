use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::scalars::DateTime;
use crate::service;

/// A fresh token.
#[derive(InputObject)]
struct RenewSessionInput {
    /// A token of the same person and organisation, without `Bearer`.
    token: String,
}

/// How long the connection goes on.
#[derive(SimpleObject)]
struct RenewSessionPayload {
    /// When the fresh token ends, the leeway for clocks included.
    expires_at: DateTime,
}

/// Whose tokens are to hold no more.
#[derive(InputObject)]
struct RevokeSessionsInput {
    /// The person; one whom no token showed yet may be named too.
    user_id: ID,
}

/// Whose tokens hold no more.
#[derive(SimpleObject)]
struct RevokeSessionsPayload {
    /// The person.
    user_id: ID,
    /// Tokens whose `iat` is up to this moment hold no more, and those without one. `iat` is in whole
    /// seconds, so a fresh token is to be made in the next second.
    revoked_before: DateTime,
}

#[derive(Default)]
pub struct SessionMutation;

#[Object]
impl SessionMutation {
    /// A fresh token for the WebSocket that carries this request: its subscriptions go on. BAD_USER_INPUT
    /// where the token doesn't hold, or where the request came over plain HTTP; FORBIDDEN where it is of
    /// another person, or may not chat.
    async fn renew_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The fresh token.")] input: RenewSessionInput,
    ) -> Option<Result<RenewSessionPayload>> {
        Some(renew_session(ctx, input).await)
    }

    /// Ends all that a person has open within a second, on all nodes, and refuses their tokens of before:
    /// sockets are closed with 4403, and with 4401 those who come back with a revoked token. Needs the
    /// permission `organization.admin`.
    async fn revoke_sessions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Whose.")] input: RevokeSessionsInput,
    ) -> Option<Result<RevokeSessionsPayload>> {
        Some(revoke_sessions(ctx, input).await)
    }
}

async fn renew_session(ctx: &Context<'_>, input: RenewSessionInput) -> Result<RenewSessionPayload> {
    ctx.viewer()?;
    let session = ctx.session().ok_or_else(|| Error::bad_input("token", "is renewed over a WebSocket alone"))?;
    let expires_at = service::sessions::renew(ctx.app(), session, &input.token).await?;
    Ok(RenewSessionPayload { expires_at: DateTime(expires_at) })
}

async fn revoke_sessions(ctx: &Context<'_>, input: RevokeSessionsInput) -> Result<RevokeSessionsPayload> {
    let user = parse_id(&input.user_id, "user")?;
    let before = service::sessions::revoke(ctx.app(), ctx.viewer()?, user).await?;
    Ok(RevokeSessionsPayload { user_id: input.user_id, revoked_before: DateTime(before) })
}
