//! The HTML of messages, which is rendered once per text and shared by all operations.
//!
//! Rendering takes up to 0.7 µs for each byte of a hostile text, so long texts are rendered on threads that may block.
//! Their number is limited, so that the threads which serve requests keep processor time.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::thread::available_parallelism;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::domain::ids::MessageId;
use crate::domain::markdown::render_html;
use crate::domain::messages::Message;
use crate::error::{Error, Result};
use crate::metrics::METRICS;

/// The maximum size of the cached HTML with its keys, in bytes.
const MAX_CACHED_BYTES: u64 = 16 * 1024 * 1024;
/// The number of messages of ordinary length that fit [`MAX_CACHED_BYTES`].
const MAX_CACHED_MESSAGES: usize = 50_000;
/// The size that an entry has in addition to its HTML, in bytes.
const ENTRY_BYTES: u64 = 100;
/// The size of texts up to which they are rendered at once, in bytes; the worst ones take 0.2 ms.
const MAX_INLINE_BYTES: usize = 256;
/// The size of texts after which a thread lets other requests render, in bytes. The worst texts take 45 ms.
const BATCH_BYTES: usize = 64 * 1024;

/// The rendered texts of messages.
pub struct MessageHtml {
    cache: Cache<HtmlKey, Arc<str>, HtmlWeighter>,
    text_hasher: RandomState,
    /// The threads that may render at the same time.
    render_permits: Arc<Semaphore>,
}

/// The key of a rendered text.
///
/// It depends on the text and not on the message's version, which reactions and replies change too. A changed text has
/// another key, so the cache is never stale.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct HtmlKey {
    message: MessageId,
    text_hash: u64,
}

/// Weighs an entry by its size in bytes.
#[derive(Clone)]
struct HtmlWeighter;

impl Weighter<HtmlKey, Arc<str>> for HtmlWeighter {
    fn weight(&self, _: &HtmlKey, html: &Arc<str>) -> u64 {
        html.len() as u64 + ENTRY_BYTES
    }
}

impl Default for MessageHtml {
    fn default() -> Self {
        // Half of the processors, so that the threads that serve requests are never outnumbered.
        let threads = available_parallelism().map_or(1, |processors| processors.get().div_ceil(2));
        Self {
            cache: Cache::with_weighter(MAX_CACHED_MESSAGES, MAX_CACHED_BYTES, HtmlWeighter),
            text_hasher: RandomState::new(),
            render_permits: Arc::new(Semaphore::new(threads)),
        }
    }
}

impl MessageHtml {
    /// Returns the HTML of messages with a text, in their order.
    ///
    /// # Errors
    ///
    /// Fails only if the renderer panics.
    pub async fn load(self: &Arc<Self>, messages: &[Arc<Message>]) -> Result<Vec<Arc<str>>> {
        let mut html = Vec::with_capacity(messages.len());
        let mut remaining = messages;
        while !remaining.is_empty() {
            let (batch, rest) = remaining.split_at(batch_len(remaining));
            html.extend(self.load_batch(batch).await?);
            remaining = rest;
        }
        Ok(html)
    }

    async fn load_batch(self: &Arc<Self>, batch: &[Arc<Message>]) -> Result<Vec<Arc<str>>> {
        let cached: Vec<Option<Arc<str>>> = batch.iter().map(|message| self.cache.get(&self.key(message))).collect();
        let missing = batch.iter().zip(&cached).filter(|(_, html)| html.is_none()).map(|(message, _)| message.clone());
        let missing: Vec<Arc<Message>> = missing.collect();
        let rendered = match missing.iter().map(|message| text_of(message).len()).sum::<usize>() {
            0..=MAX_INLINE_BYTES => self.render_all(&missing),
            _ => {
                let permit = self.render_permits.clone().acquire_owned().await.map_err(Error::internal)?;
                let this = self.clone();
                let render = move || {
                    let _permit = permit;
                    this.render_all(&missing)
                };
                spawn_blocking(render).await.map_err(Error::internal)?
            }
        };
        let mut rendered = rendered.into_iter();
        Ok(cached.into_iter().filter_map(|html| html.or_else(|| rendered.next())).collect())
    }

    fn render_all(&self, messages: &[Arc<Message>]) -> Vec<Arc<str>> {
        messages.iter().map(|message| self.render(message)).collect()
    }

    /// Renders a message, or waits for the thread that renders the same one.
    fn render(&self, message: &Message) -> Arc<str> {
        let render = || {
            METRICS.message_renders.inc();
            Ok::<_, Infallible>(Arc::from(render_html(text_of(message))))
        };
        match self.cache.get_or_insert_with(&self.key(message), render) {
            Ok(html) => html,
            Err(never) => match never {},
        }
    }

    fn key(&self, message: &Message) -> HtmlKey {
        HtmlKey { message: message.id, text_hash: self.text_hasher.hash_one(text_of(message)) }
    }
}

fn text_of(message: &Message) -> &str {
    message.text.as_deref().unwrap_or_default()
}

/// Returns the number of messages, at least one, with which their texts reach [`BATCH_BYTES`].
fn batch_len(messages: &[Arc<Message>]) -> usize {
    let mut bytes = 0;
    let full = messages.iter().position(|message| {
        bytes += text_of(message).len();
        bytes >= BATCH_BYTES
    });
    full.map_or(messages.len(), |last| last + 1)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::ids::ChatId;
    use crate::domain::messages::{SystemMessage, SystemMessageKind};

    fn message(seq: i64, text: &str) -> Arc<Message> {
        let content = SystemMessage::new(SystemMessageKind::Welcome);
        let id = MessageId { chat: ChatId(uuid::Uuid::nil()), seq };
        Arc::new(Message { text: Some(text.to_owned()), ..Message::system(id, content, DateTime::UNIX_EPOCH) })
    }

    #[tokio::test]
    async fn html_is_in_order_of_messages_whether_cached_or_not() {
        let html = Arc::new(MessageHtml::default());
        let messages: Vec<_> = (0..500).map(|seq| message(seq, &format!("{seq} {}", "x".repeat(400)))).collect();
        let expected: Vec<_> = messages.iter().map(|message| render_html(text_of(message))).collect();
        html.load(&messages[100..200]).await.unwrap();
        for _ in 0..2 {
            let found = html.load(&messages).await.unwrap();
            assert!(found.iter().map(|html| &**html).eq(expected.iter().map(String::as_str)));
        }
    }

    #[tokio::test]
    async fn changed_text_of_message_has_other_html() {
        let html = Arc::new(MessageHtml::default());
        let [first, second] = [message(1, "*a*"), message(1, "*b*")];
        let found = html.load(&[first.clone(), second, first]).await.unwrap();
        assert_eq!(
            found.iter().map(|html| &**html).collect::<Vec<_>>(),
            ["<p><em>a</em></p>", "<p><em>b</em></p>", "<p><em>a</em></p>"]
        );
    }

    #[tokio::test]
    async fn cache_stays_within_its_bytes() {
        let html = Arc::new(MessageHtml::default());
        let text = "x".repeat(100_000);
        for seq in 0..300 {
            html.load(&[message(seq, &text)]).await.unwrap();
        }
        assert!(html.cache.weight() <= MAX_CACHED_BYTES, "{}", html.cache.weight());
        assert!(!html.cache.is_empty());
    }
}
