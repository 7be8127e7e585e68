//! Attacks by repeated changes of membership.

use serde_json::json;

use super::{Target, error_code, require};
use crate::tools::Result;

/// The largest number of system messages that one user's joining and leaving may cause.
const MAX_SYSTEM_MESSAGES: usize = 20;

/// Joining and leaving one channel as fast as possible.
pub async fn joins_and_leaves(target: &Target) -> Result<String> {
    let (owner, visitor) = (target.token("owner"), target.token("visitor"));
    let chat = target.chat(&owner, "CHANNEL", &[]).await?;
    let mut refused = 0;
    for _ in 0..target.scaled(1_500) {
        for field in ["joinChannel", "leaveChat"] {
            let response = target.mutate(&visitor, field, json!({ "chatId": chat })).await?;
            refused += usize::from(error_code(&response) == Some("RATE_LIMITED"));
        }
        if refused >= 10 {
            break;
        }
    }
    let query = "query($id: ID!) { chat(id: $id) { messages(last: 100) { nodes { kind } } } }";
    let page = target.api.ask(&owner, query, json!({ "id": chat })).await?;
    let nodes = page["chat"]["messages"]["nodes"].as_array().ok_or("no page")?;
    let messages = nodes.iter().filter(|node| node["kind"] == "SYSTEM").count();
    require(messages <= MAX_SYSTEM_MESSAGES, || format!("there are {messages} system messages"))?;
    Ok(format!("{messages} system messages, {refused} requests refused"))
}
