//! Users of the viewer's organisation.

use std::collections::HashMap;

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::pagination::{Page, PageArgs, PageEnd, RootList};
use crate::domain::text;
use crate::domain::users::{NameKey, User, Viewer};
use crate::error::{Error, Result};
use crate::service::context::AppContext;
use crate::service::known_users::Knowledge;
use crate::storage::connection::Conn;
use crate::storage::replica_reads::Known;
use crate::storage::users;

/// The maximum length of a search for users, in characters.
const MAX_SEARCH_CHARS: usize = 200;

/// Returns the viewer for whom a token was issued.
///
/// The first request of a user creates the rows of the user and of the organisation. The viewer is described by the
/// newest token of the user, be it this one or not.
///
/// # Errors
///
/// Returns [`Error::Unauthenticated`] if the token is not valid or was revoked, [`Error::Moved`] if another server has the
/// organisation, and [`Error::Unavailable`] if it is being imported or deleted, or is frozen and does not know the user.
pub async fn authenticate(app: &AppContext, token: &str) -> Result<Viewer> {
    let mut viewer = app.authenticator.verify(token).await?;
    app.organization_moves.require_served(viewer.organization())?;
    let now = app.clock.now();
    if app.known_users.check_cached(&mut viewer, now)? == Knowledge::Unknown {
        if let Err(error) = app.organization_moves.require_writable(viewer.organization()) {
            return authenticate_without_writing(app, viewer).await.and_then(|known| known.ok_or(error));
        }
        let mut conn = app.database.write().await?;
        let (user, token) = (viewer.user.clone(), viewer.token_order());
        let stored = conn.transaction(async move |conn| users::upsert_seen(conn, &user, token, now).await).await?;
        app.known_users.insert(&mut viewer, stored, now)?;
    }
    app.known_users.check_revocation(&viewer)?;
    Ok(viewer)
}

/// Returns the viewer as an earlier token described them, or `None` if none did.
///
/// The organisation is frozen, so the row cannot be written; the next token after that is.
async fn authenticate_without_writing(app: &AppContext, mut viewer: Viewer) -> Result<Option<Viewer>> {
    let Some(stored) = users::find_seen(&mut app.database.read().await?, &viewer.user).await? else { return Ok(None) };
    app.known_users.insert(&mut viewer, stored, app.clock.now())?;
    app.known_users.check_revocation(&viewer)?;
    Ok(Some(viewer))
}

/// Checks that the token of an authenticated viewer is still valid.
///
/// # Errors
///
/// Returns [`Error::Unauthenticated`] if the token was revoked or has expired since.
pub fn require_valid(app: &AppContext, viewer: &Viewer) -> Result<()> {
    app.known_users.check_revocation(viewer)?;
    match viewer.expires_at > app.clock.now() {
        true => Ok(()),
        false => Err(Error::Unauthenticated { message: "the token has expired".into(), retryable: true }),
    }
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
/// Returns [`Error::BadUserInput`] if the search is too long or an argument of the page is not valid.
pub async fn page(app: &AppContext, viewer: &Viewer, search: Option<&str>, args: &PageArgs) -> Result<Page<User>> {
    let window = args.window::<RootList, NameKey>(&RootList::Users, PageEnd::First)?;
    let search = text::validate_optional_line("search", search, MAX_SEARCH_CHARS)?;
    let read = async |conn: &mut Conn| users::page(conn, viewer.organization(), search.as_deref(), &window).await;
    let fetched = app.database.read_from_replica(Known::AllCommits, read).await?;
    Ok(window.to_page(fetched))
}
