//! Attacks by single requests.

use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use super::{Target, error_code, require};
use crate::tools::{Error, Result};

/// The number of hostile requests at the same time.
const CONCURRENCY: usize = 8;
/// The default maximum of a response, with some room for the error in it.
const MAX_RESPONSE: usize = 5 << 20;

/// Requests of a few kilobytes whose responses would have gigabytes.
pub async fn large_responses(target: &Target) -> Result<String> {
    let token = target.token("reader");
    let chat = target.chat(&token, "GROUP", &[]).await?;
    target.fill(&token, &chat, &"text ".repeat(1_600), 100).await?;
    let aliases: Vec<String> = (0..40)
        .map(|number| {
            format!("a{number}: nodes(ids: $ids) {{ ... on Chat {{ messages(last: 100) {{ nodes {{ text }} }} }} }}")
        })
        .collect();
    let many = format!("query($ids: [ID!]!) {{ {} }}", aliases.join(" "));
    // One page of 100 messages is 800 kB, so ten of them exceed the budget at a low cost.
    let few = format!("query($ids: [ID!]!) {{ {} }}", aliases[..10].join(" "));
    let requests = (0..target.scaled(40)).flat_map(|_| [(&many, 100), (&few, 1)]);
    let largest: usize = stream::iter(requests)
        .map(async |(query, ids)| {
            let response = target.request_text(&token, query, json!({ "ids": vec![&chat; ids] })).await?;
            let code = error_code(&serde_json::from_str(&response)?).map(str::to_owned);
            require(code.as_deref() == Some("BAD_USER_INPUT"), || {
                format!("expected BAD_USER_INPUT, received {code:?}")
            })?;
            Ok::<_, Error>(response.len())
        })
        .buffer_unordered(CONCURRENCY)
        .try_fold(0, async |largest, length| Ok(usize::max(largest, length)))
        .await?;
    require(largest <= MAX_RESPONSE, || format!("a response had {largest} bytes"))?;
    Ok(format!("refused, the largest response had {largest} bytes"))
}

/// Pages of messages whose Markdown is as expensive as possible.
pub async fn costly_markdown(target: &Target) -> Result<String> {
    let token = target.token("writer");
    let mut chats = Vec::new();
    for text in ["<".repeat(8_000), "[".repeat(8_000), "> ".repeat(4_000), "*a ".repeat(2_600), "`a".repeat(4_000)] {
        let chat = target.chat(&token, "GROUP", &[]).await?;
        target.fill(&token, &chat, &text, target.scaled(100)).await?;
        chats.push(chat);
    }
    let query = "query($id: ID!) { chat(id: $id) { messages(last: 100) { nodes { html } } } }";
    let requests = chats.iter().cycle().take(target.scaled(100));
    let answered = stream::iter(requests)
        .map(async |chat| target.request_text(&token, query, json!({ "id": chat })).await)
        .buffer_unordered(CONCURRENCY)
        .try_fold(0, async |count, _| Ok(count + 1))
        .await?;
    Ok(format!("{answered} pages answered"))
}

/// Searches from an organisation without messages, each as expensive as a document allows.
pub async fn search_flood(target: &Target) -> Result<String> {
    let token = target.token("searcher");
    let aliases: Vec<String> = (0..50)
        .map(|number| format!("a{number}: searchMessages(query: \"meeting room\") {{ nodes {{ id }} }}"))
        .collect();
    let single = "{ searchMessages(query: \"meeting room\") { nodes { id } } }".to_owned();
    let many = format!("{{ {} }}", aliases.join(" "));
    target.api.ask(&token, &single, json!({})).await?;
    let requests = (0..target.scaled(1_000)).map(|number| if number % 2 == 0 { &many } else { &single });
    let refused = stream::iter(requests)
        .map(async |query| target.request(&token, query, json!({})).await)
        .buffer_unordered(4 * CONCURRENCY)
        .try_fold(0, async |count, response| Ok(count + usize::from(response.get("errors").is_some())))
        .await?;
    Ok(format!("{refused} requests refused"))
}

/// A user without administrative permissions claims the chat of an object of the host application.
pub async fn resource_chat(target: &Target) -> Result<String> {
    let resource = json!({ "type": "order", "id": "1" });
    let input = json!({ "resource": resource, "title": "Order", "memberIds": [] });
    let claim =
        async |token: &str| -> Result<Value> { target.mutate(token, "ensureResourceChat", input.clone()).await };
    let first = claim(&target.token("claimant")).await?;
    require(error_code(&first) == Some("FORBIDDEN"), || format!("expected FORBIDDEN, received {first}"))?;
    let host = claim(&target.administrator()).await?;
    require(host.get("errors").is_none(), || format!("the host's request failed: {host}"))?;
    let second = claim(&target.token("claimant")).await?;
    require(second == first, || format!("the answers differ when the chat exists: {second}"))?;
    Ok("refused alike before and after the chat exists".into())
}
