//! Users of the host application, and the viewer of a request.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::text;

/// A user as described by their newest token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub organization: OrganizationId,
    pub id: UserId,
    pub name: String,
    pub avatar_url: Option<String>,
    /// The time at which the user was last online.
    ///
    /// `None` if the user comes from a token, which doesn't include it.
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// The key of a user.
pub type UserKey = (OrganizationId, UserId);

/// A permission across an organisation, spelled as in the claim `permissions` of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumString, EnumIter, IntoStaticStr)]
pub enum Permission {
    #[strum(serialize = "chat.view")]
    ChatView,
    #[strum(serialize = "chat.create_group")]
    ChatCreateGroup,
    #[strum(serialize = "chat.manage_group")]
    ChatManageGroup,
    #[strum(serialize = "chat.delete")]
    ChatDelete,
    #[strum(serialize = "chat.initiate_call")]
    ChatInitiateCall,
    #[strum(serialize = "chat.moderate")]
    ChatModerate,
    #[strum(serialize = "support.agent")]
    SupportAgent,
    #[strum(serialize = "audit.read")]
    AuditRead,
    #[strum(serialize = "organization.admin")]
    OrganizationAdmin,
}

/// The permissions of a token.
pub type Permissions = BTreeSet<Permission>;

/// The user who makes a request, as authenticated by one valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    pub user: User,
    pub permissions: Permissions,
    /// The time at which the token was issued, if it has one.
    pub issued_at: Option<DateTime<Utc>>,
    /// The time at which the token expires.
    pub expires_at: DateTime<Utc>,
}

/// The key by which a user's tokens are ordered from the oldest to the newest.
///
/// The token that was issued last describes the user, and of those the one that expires last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenOrder {
    /// The time of issue; the start of 1970 for a token without one.
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
}

/// A user's row.
#[derive(Debug, Clone)]
pub struct StoredUser {
    /// The user as a token describes them, without the time at which they were last online.
    pub user: User,
    /// The order of that token; `None` if no token has described the user yet.
    pub token_order: Option<TokenOrder>,
    /// The time up to which the user's tokens were revoked when the row was read.
    pub revoked_before: Option<DateTime<Utc>>,
}

impl Viewer {
    pub fn token_order(&self) -> TokenOrder {
        TokenOrder { issued_at: self.issued_at.unwrap_or(DateTime::UNIX_EPOCH), expires_at: self.expires_at }
    }

    pub fn id(&self) -> &UserId {
        &self.user.id
    }

    /// Returns whether the token is revoked if all tokens issued until `revoked_until` are.
    ///
    /// A token has whole seconds, so one of the same second is revoked too, and so is one without a time of issue.
    pub fn is_revoked(&self, revoked_until: DateTime<Utc>) -> bool {
        self.issued_at.is_none_or(|issued_at| issued_at <= revoked_until)
    }

    pub fn organization(&self) -> &OrganizationId {
        &self.user.organization
    }

    pub fn key(&self) -> UserKey {
        (self.organization().clone(), self.id().clone())
    }
}

/// The key of lists of users: the case-folded name, and the id.
pub type NameKey = (String, String);

/// Returns a user's key in a list that is sorted by name.
pub fn name_key(user: &User) -> NameKey {
    (text::fold_case(&user.name), user.id.to_string())
}
