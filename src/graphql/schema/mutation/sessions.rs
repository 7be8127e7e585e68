//! Mutations of sessions and tokens.

use async_graphql::{Context, ID, InputObject, Object, SimpleObject};

use crate::error::{Error, Result};
use crate::graphql::schema::context::ContextExt;
use crate::graphql::schema::mutation::parse_id;
use crate::graphql::schema::scalars::DateTime;
use crate::service;

/// The input of `renewSession`.
#[derive(InputObject)]
struct RenewSessionInput {
    /// A fresh token of the same user and organisation, without the prefix `Bearer`.
    token: String,
}

/// The result of `renewSession`.
#[derive(SimpleObject)]
struct RenewSessionPayload {
    /// The time at which the session ends unless it is renewed again.
    /// It is the token's expiry plus the leeway for clocks.
    expires_at: DateTime,
}

/// The input of `revokeSessions`.
#[derive(InputObject)]
struct RevokeSessionsInput {
    /// The id of the user.
    /// The user need not be known to the organisation yet.
    user_id: ID,
}

/// The result of `revokeSessions`.
#[derive(SimpleObject)]
struct RevokeSessionsPayload {
    /// The id of the user.
    user_id: ID,
    /// Tokens issued (`iat`) at or before this time are rejected, and so are tokens without `iat`.
    /// Because `iat` has whole seconds, issue a fresh token in the next second.
    revoked_before: DateTime,
}

/// The mutations of this module.
#[derive(Default)]
pub struct SessionMutation;

#[Object]
impl SessionMutation {
    /// Extends the session of the WebSocket that carries this request.
    /// Its subscriptions continue. Fails with `BAD_USER_INPUT` if the token is invalid or the request did not arrive
    /// over a WebSocket, and with `FORBIDDEN` if the token belongs to another user or lacks `chat.view`. The session
    /// then continues unchanged.
    async fn renew_session(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `renewSession`.")] input: RenewSessionInput,
    ) -> Option<Result<RenewSessionPayload>> {
        Some(renew_session(ctx, input).await)
    }

    /// Ends all sessions of a user within a second, on all nodes, and rejects their existing tokens.
    /// Open WebSockets are closed with 4403. Connecting with a revoked token ends with 4401. Fails with `FORBIDDEN` if
    /// the token lacks `organization.admin`.
    async fn revoke_sessions(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Parameters of `revokeSessions`.")] input: RevokeSessionsInput,
    ) -> Option<Result<RevokeSessionsPayload>> {
        Some(revoke_sessions(ctx, input).await)
    }
}

async fn renew_session(ctx: &Context<'_>, input: RenewSessionInput) -> Result<RenewSessionPayload> {
    ctx.viewer()?;
    let session = ctx.session().ok_or_else(|| Error::bad_input("token", "can only be renewed over a WebSocket"))?;
    let expires_at = service::sessions::renew(ctx.app(), session, &input.token).await?;
    Ok(RenewSessionPayload { expires_at: DateTime(expires_at) })
}

async fn revoke_sessions(ctx: &Context<'_>, input: RevokeSessionsInput) -> Result<RevokeSessionsPayload> {
    let user = parse_id(&input.user_id, "user")?;
    let revoked_before = service::sessions::revoke(ctx.app(), ctx.viewer()?, user).await?;
    Ok(RevokeSessionsPayload { user_id: input.user_id, revoked_before: DateTime(revoked_before) })
}
