//! Chats of objects of the host application, whose members the host's service sets.

use std::collections::HashMap;

use crate::access::ChatAccess;
use crate::domain::chats::{Chat, ChatDetails, ChatKind, Resource};
use crate::domain::ids::UserId;
use crate::domain::members::{Member, MemberList, Role};
use crate::domain::messages::SystemMessageKind;
use crate::domain::rights::require_permission;
use crate::domain::users::{Permission, Viewer};
use crate::error::{Error, Result};
use crate::service::bans;
use crate::service::chat_transaction::ChatTransaction;
use crate::service::chats::{NewChat, insert};
use crate::service::context::AppContext;
use crate::service::members::{end_membership, insert_members, require_known_users, set_role};
use crate::storage::connection::Conn;
use crate::storage::{chats, members};

/// Returns the chat of a resource of the host application, with exactly the listed users as members.
///
/// The chat is created at the first request. Later requests remove every member who is not listed, owners included, and
/// end the bans of listed users. The viewer is a member only if the list has them.
///
/// # Errors
///
/// Returns [`Error::Forbidden`] if the viewer is not an administrator of the organisation, whether the chat exists or
/// not, [`Error::UnknownUsers`] if a user is unknown, and [`Error::RateLimited`] after too many new chats.
pub async fn ensure(
    app: &AppContext,
    viewer: &Viewer,
    resource: Resource,
    title: String,
    list: MemberList,
) -> Result<Chat> {
    require_permission(&viewer.permissions, Permission::ChatView)?;
    require_permission(&viewer.permissions, Permission::OrganizationAdmin)?;
    app.rate_limits.check_write(viewer)?;
    let mut conn = app.database.write().await?;
    let outcome = conn
        .transaction(async move |conn| {
            let id = resource.chat_id(viewer.organization());
            let mut chat = chats::lock_one(conn, id).await?;
            if chat.is_none() {
                let listed: Vec<UserId> = list.users().cloned().collect();
                require_known_users(conn, viewer, "memberIds", &listed).await?;
                let new = NewChat {
                    kind: ChatKind::Group,
                    details: ChatDetails { title: Some(title), ..ChatDetails::default() },
                    members: list.members_of_new_chat(viewer.id()),
                    resource: Some(resource),
                    derived_id: Some(id),
                    fingerprint: None,
                };
                if let Some(outcome) = insert(conn, app, viewer, new).await? {
                    return Ok(outcome);
                }
                // Another request has created it meanwhile.
                chat = chats::lock_one(conn, id).await?;
            }
            let chat = chat.ok_or(Error::NotFound("chat"))?;
            // The rights of an administrator do not depend on a membership.
            let mut transaction = ChatTransaction::new(ChatAccess { chat, membership: None }, app.clock.now());
            sync_members(conn, app, &mut transaction, viewer, &list).await?;
            transaction.commit_changes(conn).await
        })
        .await?;
    Ok(app.publish_outcome(outcome))
}

/// Makes the members of a chat equal to a list.
async fn sync_members(
    conn: &mut Conn,
    app: &AppContext,
    transaction: &mut ChatTransaction,
    viewer: &Viewer,
    list: &MemberList,
) -> Result<()> {
    let present = members::active_members(conn, transaction.chat().id).await?;
    let present: HashMap<UserId, Member> = present.into_iter().map(|member| (member.user.clone(), member)).collect();
    let missing: Vec<UserId> = list.users().filter(|user| !present.contains_key(*user)).cloned().collect();
    require_known_users(conn, viewer, "memberIds", &missing).await?;
    bans::lift(conn, transaction, &missing).await?;
    let added = missing.into_iter().map(|user| {
        let role = list.role(&user).unwrap_or(Role::Member);
        (user, role)
    });
    insert_members(conn, transaction, added.collect(), viewer.id()).await?;
    let mut present: Vec<Member> = present.into_values().collect();
    present.sort_by(|one, other| one.user.cmp(&other.user));
    for member in present {
        match (list.contains(&member.user), list.role(&member.user)) {
            (false, _) => {
                end_membership(conn, app, transaction, member, SystemMessageKind::MemberRemoved, None, viewer.id())
                    .await?;
            }
            (true, Some(role)) if role != member.role => {
                set_role(conn, transaction, member, role, viewer.id()).await?;
            }
            (true, _) => {}
        }
    }
    Ok(())
}
