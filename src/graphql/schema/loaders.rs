//! The lookups of resolvers: one service call for all keys of a kind that one level of a query needs.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use async_graphql::dataloader::{DataLoader, Loader};

use crate::access::{ChatAccess, ReadScope};
use crate::domain::bans::{Ban, BansQuery};
use crate::domain::calls::Call;
use crate::domain::ids::{CallId, ChatId, MemberId, MessageId, NotificationId, ReportId, UserId};
use crate::domain::member_queries::{MembersQuery, ReadersQuery};
use crate::domain::members::{Member, UnreadCounts};
use crate::domain::message_queries::{
    CountKey, MessagesQuery, PinnedQuery, ReactorsQuery, RevisionsQuery, VotersQuery,
};
use crate::domain::messages::Message;
use crate::domain::notifications::Notification;
use crate::domain::pagination::Page;
use crate::domain::polls::PollResults;
use crate::domain::reactions::ReactionCount;
use crate::domain::reports::Report;
use crate::domain::revisions::Revision;
use crate::domain::threads::ThreadState;
use crate::domain::users::{User, Viewer};
use crate::error::{Error, Result};
use crate::graphql::execution::load_waves::{LoadQueue, NoDelay};
use crate::graphql::execution::requester::Requester;
use crate::service;
use crate::service::context::AppContext;
use crate::service::receipts::{DeliveryStatus, ReceiptQuery};
use crate::storage::read_budget::charge_rows;

/// The number of texts that are rendered before their HTML is charged to the read budget of the execution.
const MAX_HTML_BATCH: usize = 64;

/// The loaders of one execution, which read on behalf of its requester.
pub struct Loaders {
    app: Arc<AppContext>,
    requester: Requester,
    /// Users of the organization who are known without a lookup.
    preloaded_users: Vec<User>,
}

impl Loaders {
    /// Creates the loaders of one execution, whose loads run as `loads` schedules them.
    pub fn data_loader(
        app: Arc<AppContext>,
        requester: Requester,
        preloaded_users: Vec<User>,
        loads: LoadQueue,
    ) -> DataLoader<Self> {
        DataLoader::new(Self { app, requester, preloaded_users }, loads, NoDelay)
    }

    fn viewer(&self) -> Result<&Viewer> {
        self.requester.viewer().map(|viewer| &**viewer)
    }

    /// Returns the scope in which these chats are read: their members in common, or the viewer.
    fn scope<K>(&self, keys: &[K], chat_of: impl Fn(&K) -> ChatId) -> Result<ReadScope<'_>> {
        match self.requester.shared_chat() {
            Some((organization, chat)) if keys.iter().all(|key| chat_of(key) == chat) => {
                Ok(ReadScope::ChatMembers(organization, chat))
            }
            _ => {
                let viewer = self.viewer()?;
                Ok(match self.requester.event_access() {
                    Some(event_access) => ReadScope::EventRecipient(viewer, event_access),
                    None => ReadScope::Viewer(viewer),
                })
            }
        }
    }
}

/// The key of a member's unread counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UnreadKey(pub MemberId);

/// The key of the active call of a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ActiveCallKey(pub ChatId);

/// The key of the users who are typing in a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypingKey(pub ChatId);

/// The key of the HTML of a message with a text.
#[derive(Debug, Clone)]
pub struct HtmlKey(pub Arc<Message>);

impl PartialEq for HtmlKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id && self.0.text == other.0.text
    }
}

impl Eq for HtmlKey {}

impl Hash for HtmlKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

/// The key of the users that a message mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MentionsKey(pub MessageId);

/// The key of the thread that a message started, as the viewer sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ThreadKey(pub MessageId);

/// The key of the results of a message's poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PollResultsKey(pub MessageId);

/// The key of the viewer's votes in a message's poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnVotesKey(pub MessageId);

/// The key of the reactions to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ReactionsKey(pub MessageId);

/// The key of the viewer's own reactions to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnReactionsKey(pub MessageId);

impl Loader<UserId> for Loaders {
    type Value = User;
    type Error = Error;

    async fn load(&self, keys: &[UserId]) -> Result<HashMap<UserId, User>> {
        let known = |id: &UserId| self.preloaded_users.iter().find(|user| user.id == *id);
        let unknown: Vec<UserId> = keys.iter().filter(|id| known(id).is_none()).cloned().collect();
        let mut found = match unknown.as_slice() {
            [] => HashMap::new(),
            unknown => service::users::by_ids(&self.app, self.requester.organization()?, unknown).await?,
        };
        found.extend(keys.iter().filter_map(|id| Some((id.clone(), known(id)?.clone()))));
        Ok(found)
    }
}

impl Loader<ChatId> for Loaders {
    type Value = Arc<ChatAccess>;
    type Error = Error;

    async fn load(&self, keys: &[ChatId]) -> Result<HashMap<ChatId, Arc<ChatAccess>>> {
        let found = service::chats::by_ids(&self.app, self.scope(keys, |key| *key)?, keys).await?;
        Ok(found.into_iter().map(|(id, access)| (id, Arc::new(access))).collect())
    }
}

impl Loader<MessageId> for Loaders {
    type Value = Arc<Message>;
    type Error = Error;

    async fn load(&self, keys: &[MessageId]) -> Result<HashMap<MessageId, Arc<Message>>> {
        service::messages::by_ids(&self.app, self.scope(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<MemberId> for Loaders {
    type Value = Member;
    type Error = Error;

    async fn load(&self, keys: &[MemberId]) -> Result<HashMap<MemberId, Member>> {
        service::members::by_ids(&self.app, self.scope(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<MembersQuery> for Loaders {
    type Value = Page<Member>;
    type Error = Error;

    async fn load(&self, keys: &[MembersQuery]) -> Result<HashMap<MembersQuery, Page<Member>>> {
        service::members::pages(&self.app, self.scope(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<MessagesQuery> for Loaders {
    type Value = Page<Arc<Message>>;
    type Error = Error;

    async fn load(&self, keys: &[MessagesQuery]) -> Result<HashMap<MessagesQuery, Page<Arc<Message>>>> {
        service::messages::pages(&self.app, self.scope(keys, |key| key.list.chat())?, keys).await
    }
}

impl Loader<UnreadKey> for Loaders {
    type Value = UnreadCounts;
    type Error = Error;

    async fn load(&self, keys: &[UnreadKey]) -> Result<HashMap<UnreadKey, UnreadCounts>> {
        let ids: Vec<MemberId> = keys.iter().map(|key| key.0.clone()).collect();
        let unread_counts = service::unread::unread_counts(&self.app, &ids).await?;
        Ok(unread_counts.into_iter().map(|(id, counts)| (UnreadKey(id), counts)).collect())
    }
}

impl Loader<BansQuery> for Loaders {
    type Value = Page<Ban>;
    type Error = Error;

    async fn load(&self, keys: &[BansQuery]) -> Result<HashMap<BansQuery, Page<Ban>>> {
        service::bans::pages(&self.app, self.viewer()?, keys).await
    }
}

impl Loader<RevisionsQuery> for Loaders {
    type Value = Page<Revision>;
    type Error = Error;

    async fn load(&self, keys: &[RevisionsQuery]) -> Result<HashMap<RevisionsQuery, Page<Revision>>> {
        service::revisions::pages(&self.app, keys).await
    }
}

impl Loader<HtmlKey> for Loaders {
    type Value = Arc<str>;
    type Error = Error;

    async fn load(&self, keys: &[HtmlKey]) -> Result<HashMap<HtmlKey, Arc<str>>> {
        let mut html_by_key = HashMap::with_capacity(keys.len());
        for batch in keys.chunks(MAX_HTML_BATCH) {
            let messages: Vec<Arc<Message>> = batch.iter().map(|key| key.0.clone()).collect();
            let html = self.app.message_html.load(&messages).await?;
            charge_rows(&html)?;
            html_by_key.extend(batch.iter().cloned().zip(html));
        }
        Ok(html_by_key)
    }
}

impl Loader<ReactionsKey> for Loaders {
    type Value = Vec<ReactionCount>;
    type Error = Error;

    async fn load(&self, keys: &[ReactionsKey]) -> Result<HashMap<ReactionsKey, Vec<ReactionCount>>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::reactions::counts(&self.app, &ids).await?;
        Ok(found.into_iter().map(|(id, counts)| (ReactionsKey(id), counts)).collect())
    }
}

impl Loader<OwnReactionsKey> for Loaders {
    type Value = HashSet<String>;
    type Error = Error;

    async fn load(&self, keys: &[OwnReactionsKey]) -> Result<HashMap<OwnReactionsKey, HashSet<String>>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::reactions::by_viewer(&self.app, self.viewer()?, &ids).await?;
        Ok(found.into_iter().map(|(id, emoji)| (OwnReactionsKey(id), emoji)).collect())
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
        service::messages::pinned_pages(&self.app, self.scope(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<CountKey> for Loaders {
    type Value = i64;
    type Error = Error;

    async fn load(&self, keys: &[CountKey]) -> Result<HashMap<CountKey, i64>> {
        service::messages::counts(&self.app, self.scope(keys, CountKey::chat)?, keys).await
    }
}

impl Loader<MentionsKey> for Loaders {
    type Value = Vec<UserId>;
    type Error = Error;

    async fn load(&self, keys: &[MentionsKey]) -> Result<HashMap<MentionsKey, Vec<UserId>>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::messages::mentioned_users(&self.app, &ids).await?;
        Ok(found.into_iter().map(|(id, users)| (MentionsKey(id), users)).collect())
    }
}

impl Loader<ThreadKey> for Loaders {
    type Value = ThreadState;
    type Error = Error;

    async fn load(&self, keys: &[ThreadKey]) -> Result<HashMap<ThreadKey, ThreadState>> {
        let roots: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::threads::states(&self.app, self.viewer()?, &roots).await?;
        Ok(found.into_iter().map(|(root, state)| (ThreadKey(root), state)).collect())
    }
}

impl Loader<PollResultsKey> for Loaders {
    type Value = PollResults;
    type Error = Error;

    async fn load(&self, keys: &[PollResultsKey]) -> Result<HashMap<PollResultsKey, PollResults>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::polls::results(&self.app, &ids).await?;
        Ok(found.into_iter().map(|(id, results)| (PollResultsKey(id), results)).collect())
    }
}

impl Loader<OwnVotesKey> for Loaders {
    type Value = HashSet<u8>;
    type Error = Error;

    async fn load(&self, keys: &[OwnVotesKey]) -> Result<HashMap<OwnVotesKey, HashSet<u8>>> {
        let ids: Vec<MessageId> = keys.iter().map(|key| key.0).collect();
        let found = service::polls::viewer_votes(&self.app, self.viewer()?, &ids).await?;
        Ok(found.into_iter().map(|(id, votes)| (OwnVotesKey(id), votes)).collect())
    }
}

impl Loader<VotersQuery> for Loaders {
    type Value = Vec<UserId>;
    type Error = Error;

    async fn load(&self, keys: &[VotersQuery]) -> Result<HashMap<VotersQuery, Vec<UserId>>> {
        service::polls::voters(&self.app, keys).await
    }
}

impl Loader<ReceiptQuery> for Loaders {
    type Value = DeliveryStatus;
    type Error = Error;

    async fn load(&self, keys: &[ReceiptQuery]) -> Result<HashMap<ReceiptQuery, DeliveryStatus>> {
        service::receipts::delivery_statuses(&self.app, keys).await
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
        service::calls::history::by_ids(&self.app, self.scope(keys, |key| key.chat)?, keys).await
    }
}

impl Loader<ActiveCallKey> for Loaders {
    type Value = Arc<Call>;
    type Error = Error;

    async fn load(&self, keys: &[ActiveCallKey]) -> Result<HashMap<ActiveCallKey, Arc<Call>>> {
        let chats: Vec<ChatId> = keys.iter().map(|key| key.0).collect();
        let found = service::calls::history::active(&self.app, self.scope(keys, |key| key.0)?, &chats).await?;
        Ok(found.into_iter().map(|(chat, call)| (ActiveCallKey(chat), call)).collect())
    }
}

impl Loader<TypingKey> for Loaders {
    type Value = Vec<UserId>;
    type Error = Error;

    async fn load(&self, keys: &[TypingKey]) -> Result<HashMap<TypingKey, Vec<UserId>>> {
        let chats: Vec<ChatId> = keys.iter().map(|key| key.0).collect();
        let found = service::typing::visible_to(&self.app, self.scope(keys, |key| key.0)?, &chats).await?;
        Ok(found.into_iter().map(|(chat, users)| (TypingKey(chat), users)).collect())
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
