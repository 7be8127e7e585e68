//! The effects of a batch's replies on the followers and the readers of threads.

use std::collections::BTreeMap;

use crate::domain::ids::{MemberId, MessageId, UserId};
use crate::domain::messages::Message;
use crate::domain::threads::{MAX_FOLLOWERS, ThreadFollower, ThreadReader};
use crate::error::Result;
use crate::service::send::state::BatchState;
use crate::storage::connection::Conn;
use crate::storage::threads;

/// The changes of thread members that the accepted replies cause.
#[derive(Default)]
pub struct ThreadWrites {
    /// The users who begin to follow a thread, each thread once.
    followers: Vec<ThreadFollower>,
    /// The users who read a thread by sending a reply there, each thread once.
    readers: BTreeMap<(MessageId, UserId), ThreadReader>,
}

impl ThreadWrites {
    /// Records that a reply was accepted.
    ///
    /// Its sender, the author of the root and the mentioned users follow the thread.
    pub fn record_reply(&mut self, state: &mut BatchState, reply: &Message, mentions: &[UserId]) {
        let Some(root) = reply.thread_root() else { return };
        let author = state.referenced_messages.get(&root).and_then(|root| root.sender.as_ref());
        let followers = state.followers.entry(root).or_default();
        for user in author.into_iter().chain(mentions).filter(|user| !reply.is_sent_by(user)) {
            if followers.len() < MAX_FOLLOWERS && followers.insert(user.clone()) {
                self.followers.push(ThreadFollower { root, user: user.clone(), after_seq: reply.id.seq - 1 });
            }
        }
        if let Some(sender) = &reply.sender {
            let follows = followers.len() < MAX_FOLLOWERS || followers.contains(sender);
            if follows {
                followers.insert(sender.clone());
            }
            let reader = ThreadReader { root, user: sender.clone(), follows, last_read_seq: reply.id.seq };
            self.readers.insert((root, sender.clone()), reader);
        }
    }

    /// Writes the rows and returns the members who have read something.
    ///
    /// # Errors
    ///
    /// Fails only if the database does.
    pub async fn write(self, conn: &mut Conn) -> Result<Vec<MemberId>> {
        let Self { followers, readers } = self;
        threads::follow(conn, &followers).await?;
        let readers: Vec<ThreadReader> = readers.into_values().collect();
        threads::record_reads(conn, &readers, None).await?;
        Ok(readers.into_iter().map(|reader| MemberId { chat: reader.root.chat, user: reader.user }).collect())
    }
}
