//! The words that an organisation doesn't want to read.

use crate::domain::blocklist::{BlockAction, Blocklist, MAX_WORDS, normalize_word};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::context::AppContext;
use crate::storage::blocklist;
use crate::storage::connection::Conn;

/// The organisation's list, for its moderators.
pub async fn list(app: &AppContext, viewer: &Viewer) -> Result<Blocklist> {
    require_permission(&viewer.permissions, Permission::ChatModerate)?;
    let mut conn = app.database.read().await?;
    load_for_viewer(&mut conn, viewer).await
}

/// Puts words on the list, or changes what becomes of them.
pub async fn block(app: &AppContext, viewer: &Viewer, words: &[String], action: BlockAction) -> Result<Blocklist> {
    let words = validate(viewer, words)?;
    let mut conn = app.database.write().await?;
    conn.transaction(async move |conn| {
        blocklist::block(conn, viewer.organization(), &words, action).await?;
        let list = load_for_viewer(conn, viewer).await?;
        if list.0.len() > MAX_WORDS {
            return Err(Error::bad_input("words", format!("would be more than {MAX_WORDS} on the list")));
        }
        Ok(list)
    })
    .await
}

/// Takes words off the list; what isn't on it changes nothing.
pub async fn unblock(app: &AppContext, viewer: &Viewer, words: &[String]) -> Result<Blocklist> {
    let words = validate(viewer, words)?;
    let mut conn = app.database.write().await?;
    conn.transaction(async move |conn| {
        blocklist::unblock(conn, viewer.organization(), &words).await?;
        load_for_viewer(conn, viewer).await
    })
    .await
}

fn validate(viewer: &Viewer, words: &[String]) -> Result<Vec<String>> {
    require_permission(&viewer.permissions, Permission::ChatModerate)?;
    if words.is_empty() || words.len() > MAX_WORDS {
        return Err(Error::bad_input("words", format!("must be 1 to {MAX_WORDS}")));
    }
    let mut words = words.iter().map(|text| normalize_word(text)).collect::<Result<Vec<_>>>()?;
    words.sort();
    words.dedup();
    Ok(words)
}

/// The list of the viewer's organisation.
pub(super) async fn load_for_viewer(conn: &mut Conn, viewer: &Viewer) -> Result<Blocklist> {
    let organization = viewer.organization();
    Ok(blocklist::by_organizations(conn, &[organization]).await?.remove(organization).unwrap_or_default())
}
