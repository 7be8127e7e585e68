//! What resolvers look up, a statement for all that a level asks of a kind.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_graphql::dataloader::{DataLoader, Loader};

use crate::access::{Access, Reader};
use crate::domain::calls::Call;
use crate::domain::ids::{CallId, ChatId, MemberId, MessageId, NotificationId, ReportId, UserId};
use crate::domain::members::{Member, Unread};
use crate::domain::messages::{Message, Revision};
use crate::domain::notifications::Notification;
use crate::domain::pagination::Page;
use crate::domain::polls::Tally;
use crate::domain::reactions::ReactionCount;
use crate::domain::reports::Report;
use crate::domain::users::{User, Viewer};
use crate::error::{Error, Result};
use crate::graphql::execution::load_waves::{AtOnce, Loads};
use crate::graphql::schema::context::Asker;
use crate::service;
use crate::service::context::App;
use crate::service::receipts::{DeliveryStatus, Shown};
use crate::storage::members::{MembersQuery, ReadersQuery};
use crate::storage::messages::{Counted, MessagesQuery, PinnedQuery};
use crate::storage::polls::VotersQuery;
use crate::storage::reactions::ReactorsQuery;

pub struct Loaders {
    app: Arc<App>,
    asker: Asker,
    /// People of the organisation who need not be looked up.
    people: Vec<User>,
}

impl Loaders {
    pub fn batching(app: Arc<App>, asker: Asker, people: Vec<User>, loads: Loads) -> DataLoader<Self> {
        DataLoader::new(Self { app, asker, people }, loads, AtOnce)
    }

    fn viewer(&self) -> Result<&Viewer> {
        self.asker.viewer().map(|viewer| &**viewer)
    }

    /// Who reads what is in these chats.
    fn reader<K>(&self, keys: &[K], chat_of: impl Fn(&K) -> ChatId) -> Result<Reader<'_>> {
        match self.asker.members_of() {
            Some((organization, chat)) if keys.iter().all(|key| chat_of(key) == chat) => {
                Ok(Reader::Members(organization, chat))
            }
            _ => self.viewer().map(Reader::One),
        }
    }
}

/// The unread messages of a member.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnreadOf(pub MemberId);

/// The call that is on in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallOn(pub ChatId);

/// The former texts of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RevisionsOf(pub MessageId);

/// Whom a message mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MentionsIn(pub MessageId);

/// How a message's poll stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TallyOf(pub MessageId);

/// What the viewer chose in a message's poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChoicesIn(pub MessageId);

/// The reactions to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReactionsTo(pub MessageId);

/// The viewer's own reactions to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnReactionsTo(pub MessageId);

impl Loader<UserId> for Loaders {
    type Value = User;
    type Error = Error;

    async fn load(&self, keys: &[UserId]) -> Result<HashMap<UserId, User>> {
        let known = |id: &UserId| self.people.iter().find(|user| user.id == *id);
        let unknown: Vec<UserId> = keys.iter().filter(|id| known(id).is_none()).cloned().collect();
        let mut found = match unknown.as_slice() {
            [] => HashMap::new(),
            unknown => service::users::by_ids(&self.app, self.asker.organization()?, unknown).await?,
        };
        found.extend(keys.iter().filter_map(|id| Some((id.clone(), known(id)?.clone()))));
        Ok(found)
    }
}

impl Loader<ChatId> for Loaders {
    type Value = Arc<Access>;
    type Error = Error;

    async fn load(&self, keys: &[ChatId]) -> Result<HashMap<ChatId, Arc<Access>>> {
        let found = service::chats::by_ids(&self.app, self.reader(keys, |key| *key)?, keys).await?;
        Ok(found.into_iter().map(|(id, access)| (id, Arc::new(access))).collect())
    }
}

impl Loader<MessageId> for Loaders {
    type Value = Arc<Message>;
    type Error = Error;

    async fn load(&self, keys: &[MessageId]) -> Result<HashMap<MessageId, Arc<Message>>> {
        service::messages::by_ids(&self.app, self.reader(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<MemberId> for Loaders {
    type Value = Member;
    type Error = Error;

    async fn load(&self, keys: &[MemberId]) -> Result<HashMap<MemberId, Member>> {
        service::members::by_ids(&self.app, self.reader(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<MembersQuery> for Loaders {
    type Value = Page<Member>;
    type Error = Error;

    async fn load(&self, keys: &[MembersQuery]) -> Result<HashMap<MembersQuery, Page<Member>>> {
        service::members::pages(&self.app, self.reader(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<MessagesQuery> for Loaders {
    type Value = Page<Arc<Message>>;
    type Error = Error;

    async fn load(&self, keys: &[MessagesQuery]) -> Result<HashMap<MessagesQuery, Page<Arc<Message>>>> {
        service::messages::pages(&self.app, self.reader(keys, |key| key.list.chat())?, keys).await
    }
}

impl Loader<UnreadOf> for Loaders {
    type Value = Unread;
    type Error = Error;

    async fn load(&self, keys: &[UnreadOf]) -> Result<HashMap<UnreadOf, Unread>> {
        let ids: Vec<MemberId> = keys.iter().map(|key| key.0.clone()).collect();
        let counts = service::receipts::unread(&self.app, &ids).await?;
        Ok(counts.into_iter().map(|(id, unread)| (UnreadOf(id), unread)).collect())
    }
}

impl Loader<RevisionsOf> for Loaders {
    type Value = Vec<Revision>;
    type Error = Error;

    async fn load(&self, keys: &[RevisionsOf]) -> Result<HashMap<RevisionsOf, Vec<Revision>>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::messages::revisions(&self.app, &ids).await?;
        Ok(found.into_iter().map(|(id, revisions)| (RevisionsOf(id), revisions)).collect())
    }
}

impl Loader<ReactionsTo> for Loaders {
    type Value = Vec<ReactionCount>;
    type Error = Error;

    async fn load(&self, keys: &[ReactionsTo]) -> Result<HashMap<ReactionsTo, Vec<ReactionCount>>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::reactions::counts(&self.app, &ids).await?;
        Ok(found.into_iter().map(|(id, counts)| (ReactionsTo(id), counts)).collect())
    }
}

impl Loader<OwnReactionsTo> for Loaders {
    type Value = HashSet<String>;
    type Error = Error;

    async fn load(&self, keys: &[OwnReactionsTo]) -> Result<HashMap<OwnReactionsTo, HashSet<String>>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::reactions::of_viewer(&self.app, self.viewer()?, &ids).await?;
        Ok(found.into_iter().map(|(id, emoji)| (OwnReactionsTo(id), emoji)).collect())
    }
}

impl Loader<ReactorsQuery> for Loaders {
    type Value = Vec<UserId>;
    type Error = Error;

    async fn load(&self, keys: &[ReactorsQuery]) -> Result<HashMap<ReactorsQuery, Vec<UserId>>> {
        service::reactions::reactors(&self.app, keys).await
    }
}

impl Loader<PinnedQuery> for Loaders {
    type Value = Page<Arc<Message>>;
    type Error = Error;

    async fn load(&self, keys: &[PinnedQuery]) -> Result<HashMap<PinnedQuery, Page<Arc<Message>>>> {
        service::messages::pinned(&self.app, self.reader(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<Counted> for Loaders {
    type Value = i64;
    type Error = Error;

    async fn load(&self, keys: &[Counted]) -> Result<HashMap<Counted, i64>> {
        service::messages::counts(&self.app, self.reader(keys, Counted::chat)?, keys).await
    }
}

impl Loader<MentionsIn> for Loaders {
    type Value = Vec<UserId>;
    type Error = Error;

    async fn load(&self, keys: &[MentionsIn]) -> Result<HashMap<MentionsIn, Vec<UserId>>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::messages::mentioned(&self.app, &ids).await?;
        Ok(found.into_iter().map(|(id, users)| (MentionsIn(id), users)).collect())
    }
}

impl Loader<TallyOf> for Loaders {
    type Value = Tally;
    type Error = Error;

    async fn load(&self, keys: &[TallyOf]) -> Result<HashMap<TallyOf, Tally>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::polls::tallies(&self.app, &ids).await?;
        Ok(found.into_iter().map(|(id, tally)| (TallyOf(id), tally)).collect())
    }
}

impl Loader<ChoicesIn> for Loaders {
    type Value = HashSet<u8>;
    type Error = Error;

    async fn load(&self, keys: &[ChoicesIn]) -> Result<HashMap<ChoicesIn, HashSet<u8>>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::polls::choices(&self.app, self.viewer()?, &ids).await?;
        Ok(found.into_iter().map(|(id, places)| (ChoicesIn(id), places)).collect())
    }
}

impl Loader<VotersQuery> for Loaders {
    type Value = Vec<UserId>;
    type Error = Error;

    async fn load(&self, keys: &[VotersQuery]) -> Result<HashMap<VotersQuery, Vec<UserId>>> {
        service::polls::voters(&self.app, keys).await
    }
}

impl Loader<Shown> for Loaders {
    type Value = DeliveryStatus;
    type Error = Error;

    async fn load(&self, keys: &[Shown]) -> Result<HashMap<Shown, DeliveryStatus>> {
        service::receipts::statuses(&self.app, keys).await
    }
}

impl Loader<ReadersQuery> for Loaders {
    type Value = Page<UserId>;
    type Error = Error;

    async fn load(&self, keys: &[ReadersQuery]) -> Result<HashMap<ReadersQuery, Page<UserId>>> {
        service::receipts::readers(&self.app, keys).await
    }
}

impl Loader<CallId> for Loaders {
    type Value = Arc<Call>;
    type Error = Error;

    async fn load(&self, keys: &[CallId]) -> Result<HashMap<CallId, Arc<Call>>> {
        service::calls::by_ids(&self.app, self.reader(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<CallOn> for Loaders {
    type Value = Arc<Call>;
    type Error = Error;

    async fn load(&self, keys: &[CallOn]) -> Result<HashMap<CallOn, Arc<Call>>> {
        let chats: Vec<ChatId> = keys.iter().map(|key| key.0).collect();
        let found = service::calls::live(&self.app, self.reader(keys, |key| key.0)?, &chats).await?;
        Ok(found.into_iter().map(|(chat, call)| (CallOn(chat), call)).collect())
    }
}

impl Loader<NotificationId> for Loaders {
    type Value = Notification;
    type Error = Error;

    async fn load(&self, keys: &[NotificationId]) -> Result<HashMap<NotificationId, Notification>> {
        service::notifications::by_ids(&self.app, self.viewer()?, keys).await
    }
}

impl Loader<ReportId> for Loaders {
    type Value = Report;
    type Error = Error;

    async fn load(&self, keys: &[ReportId]) -> Result<HashMap<ReportId, Report>> {
        service::reports::by_ids(&self.app, self.viewer()?, keys).await
    }
}
