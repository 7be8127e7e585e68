//! People of the viewer's organisation.

use std::collections::HashMap;

use quick_cache::sync::Cache;

use crate::app::App;
use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::pages::{End, Page, PageArgs};
use crate::domain::text;
use crate::domain::users::{User, Viewer};
use crate::error::Result;
use crate::storage::users;

/// People whose row is known to be as their token shows them, so that a request of theirs writes
/// nothing.
pub struct Seen(Cache<(OrganizationId, UserId), User>);

impl Default for Seen {
    fn default() -> Self {
        Self(Cache::new(100_000))
    }
}

/// Who a token speaks for; they and their organisation exist from now on.
pub async fn authenticate(app: &App, token: &str) -> Result<Viewer> {
    let viewer = app.auth.verify(token).await?;
    let key = (viewer.organization().clone(), viewer.id().clone());
    if app.seen.0.get(&key).as_ref() != Some(&viewer.user) {
        let mut conn = app.store.write().await?;
        let (user, now) = (viewer.user.clone(), app.clock.now());
        conn.transaction(async move |conn| users::see(conn, &user, now).await).await?;
        app.seen.0.insert(key, viewer.user.clone());
    }
    Ok(viewer)
}

pub async fn by_ids(app: &App, organization: &OrganizationId, ids: &[UserId]) -> Result<HashMap<UserId, User>> {
    let mut conn = app.store.read().await?;
    let users = users::by_ids(&mut conn, organization, ids).await?;
    Ok(users.into_iter().map(|user| (user.id.clone(), user)).collect())
}

pub fn by_name(user: &User) -> users::ByName {
    (text::folded(&user.name), user.id.to_string())
}

/// People of the organisation by name.
pub async fn page(app: &App, viewer: &Viewer, search: Option<&str>, args: &PageArgs) -> Result<Page<User>> {
    let window = args.window::<users::ByName>(End::First)?;
    let search = match search.map(str::trim) {
        None | Some("") => None,
        Some(words) => Some(text::line("search", words, 200)?),
    };
    let mut conn = app.store.read().await?;
    let fetched = users::page(&mut conn, viewer.organization(), search.as_deref(), &window).await?;
    Ok(window.page(fetched))
}
