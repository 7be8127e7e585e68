//! People of the host application, and who is asking.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{EnumIter, EnumString, IntoStaticStr};

use crate::domain::ids::{OrganizationId, UserId};
use crate::domain::text;

/// A person as their newest token showed them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub organization: OrganizationId,
    pub id: UserId,
    pub name: String,
    pub avatar_url: Option<String>,
    /// When they were last there, where their row was read: a token doesn't know.
    pub last_seen_at: Option<DateTime<Utc>>,
}

/// By what a person is known.
pub type UserKey = (OrganizationId, UserId);

/// What a token allows across an organisation, spelled as in its `permissions`.
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

pub type Permissions = BTreeSet<Permission>;

/// Who is asking: one valid token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    pub user: User,
    pub permissions: Permissions,
    /// When the token was made; none where it doesn't say.
    pub issued_at: Option<DateTime<Utc>>,
    /// When the token ends.
    pub expires_at: DateTime<Utc>,
}

impl Viewer {
    pub fn id(&self) -> &UserId {
        &self.user.id
    }

    /// Whether a revocation of all tokens made up to this moment concerns this one. A token tells whole
    /// seconds, so one of the same second is revoked too; and so is one that doesn't say.
    pub fn is_revoked(&self, before: DateTime<Utc>) -> bool {
        self.issued_at.is_none_or(|at| at <= before)
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
