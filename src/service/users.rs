//! Users of the viewer's organisation.

use std::collections::HashMap;

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::pagination::{Page, PageArgs, PageEnd};
use crate::domain::text;
use crate::domain::users::{NameKey, User, Viewer};
use crate::error::Result;
use crate::service::context::AppContext;
use crate::storage::users;

/// The maximum length of a search for users, in characters.
const MAX_SEARCH_CHARS: usize = 200;

/// Returns the viewer for whom a token was issued.
///
/// The first request of a user creates the rows of the user and of the organisation.
///
/// # Errors
///
/// Returns [`Error::Unauthenticated`](crate::error::Error::Unauthenticated) if the token is not valid or was revoked.
pub async fn authenticate(app: &AppContext, token: &str) -> Result<Viewer> {
    let viewer = app.authenticator.verify(token).await?;
    if !app.known_users.check_cached(&viewer)? {
        let mut conn = app.database.write().await?;
        let (user, now) = (viewer.user.clone(), app.clock.now());
        let revoked_before = conn.transaction(async move |conn| users::upsert_seen(conn, &user, now).await).await?;
        app.known_users.insert(&viewer, revoked_before)?;
    }
    app.known_users.check_revocation(&viewer)?;
    Ok(viewer)
}

/// Returns the users with the given ids, by id; unknown ids are left out.
///
/// # Errors
///
/// Fails only if the database does.
pub async fn by_ids(app: &AppContext, organization: &OrganizationId, ids: &[UserId]) -> Result<HashMap<UserId, User>> {
    let mut conn = app.database.read().await?;
    let users = users::by_ids(&mut conn, organization, ids).await?;
    Ok(users.into_iter().map(|user| (user.id.clone(), user)).collect())
}

/// Returns a page of the organisation's users, by name, of those whose name matches the search.
///
/// # Errors
///
/// Returns [`Error::BadUserInput`](crate::error::Error::BadUserInput) if the search is too long or an argument of the
/// page is not valid.
pub async fn page(app: &AppContext, viewer: &Viewer, search: Option<&str>, args: &PageArgs) -> Result<Page<User>> {
    let window = args.window::<NameKey>(PageEnd::First)?;
    let search = match search.map(str::trim) {
        None | Some("") => None,
        Some(search) => Some(text::validate_line("search", search, MAX_SEARCH_CHARS)?),
    };
    let mut conn = app.database.read().await?;
    let fetched = users::page(&mut conn, viewer.organization(), search.as_deref(), &window).await?;
    Ok(window.to_page(fetched))
}
