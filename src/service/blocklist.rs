//! The blocklist: words that an organisation censors or rejects in messages.

use crate::domain::blocklist::{BlockAction, Blocklist, MAX_WORDS, normalize_word};
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::context::AppContext;
use crate::storage::blocklist;
use crate::storage::connection::Conn;

/// Returns the blocklist of the viewer's organisation.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer is not a moderator.
pub async fn list(app: &AppContext, viewer: &Viewer) -> Result<Blocklist> {
    require_permission(&viewer.permissions, Permission::ChatModerate)?;
    let mut conn = app.database.read().await?;
    load_for_viewer(&mut conn, viewer).await
}

/// Adds words to the blocklist, or changes the action for words on it, and returns the list.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer is not a moderator, and [`Error::BadUserInput`] if a word is not valid or
/// the list would be too long.
pub async fn block(app: &AppContext, viewer: &Viewer, words: &[String], action: BlockAction) -> Result<Blocklist> {
    let words = validate(viewer, words)?;
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    conn.transaction(async move |conn| {
        blocklist::block(conn, viewer.organization(), &words, action).await?;
        let list = load_for_viewer(conn, viewer).await?;
        if list.0.len() > MAX_WORDS {
            return Err(Error::bad_input("words", format!("must not bring the blocklist above {MAX_WORDS} words")));
        }
        Ok(list)
    })
    .await
}

/// Removes words from the blocklist and returns the list; words that are not on it change nothing.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer is not a moderator, and [`Error::BadUserInput`] if a word is not valid.
pub async fn unblock(app: &AppContext, viewer: &Viewer, words: &[String]) -> Result<Blocklist> {
    let words = validate(viewer, words)?;
    app.rate_limits.check_write(viewer)?;
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
        return Err(Error::bad_input("words", format!("must have 1 to {MAX_WORDS} words")));
    }
    let mut words = words.iter().map(|word| normalize_word(word)).collect::<Result<Vec<_>>>()?;
    words.sort();
    words.dedup();
    Ok(words)
}

/// Returns the blocklist of the viewer's organisation inside a transaction.
pub(super) async fn load_for_viewer(conn: &mut Conn, viewer: &Viewer) -> Result<Blocklist> {
    let organization = viewer.organization();
    Ok(blocklist::by_organizations(conn, &[organization]).await?.remove(organization).unwrap_or_default())
}
