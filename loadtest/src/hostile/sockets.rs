//! Attacks over WebSockets.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Target, error_code, require};
use crate::client::sender::SEND;
use crate::client::socket::{Socket, subscribe};
use crate::tools::{Error, Result, TIMEOUT, within};

/// The time after which a revoked session must receive nothing more.
const REVOCATION_TIMEOUT: Duration = Duration::from_secs(1);
/// The delay of a slow reader before each message.
const READER_DELAY: Duration = Duration::from_millis(5);
/// The default rate of sends, which may all come at once.
const SENDS_PER_MINUTE: u64 = 3_000;
/// The default number of sockets of one user.
const MAX_SOCKETS: usize = 100;

/// A slow reader of a busy chat whose sessions are revoked.
pub async fn reads_after_revocation(target: &Target) -> Result<String> {
    let (writer, reader) = (target.token("busy"), target.token("slow"));
    target.request(&reader, "{ viewer { user { id } } }", json!({})).await?;
    let chat = target.chat(&writer, "GROUP", &["slow"]).await?;
    let mut socket = Socket::open(target.address, &reader).await?;
    let feed = "subscription($id: ID!) { messageAdded(chatId: $id) { message { text } } }";
    socket.send(subscribe("feed", feed, json!({ "id": chat }))).await?;
    let start = Instant::now();
    let writing = async {
        loop {
            // The text contains the time at which the message was sent, and fills the buffers of the connection.
            let text = format!("{} {}", start.elapsed().as_millis(), "x".repeat(4_000));
            target.api.ask(&writer, SEND, json!({ "input": { "chatId": chat, "text": text } })).await?;
        }
    };
    let reading = async {
        sleep(REVOCATION_TIMEOUT).await;
        target.mutate(&target.administrator(), "revokeSessions", json!({ "userId": "slow" })).await?;
        let revoked = start.elapsed();
        let deadline = revoked + REVOCATION_TIMEOUT;
        let mut late = 0;
        // The server ends the connection; an error is the end.
        while let Ok(Ok(message)) = timeout(TIMEOUT, socket.next()).await {
            let message: Value = serde_json::from_str(&message)?;
            let text = message["payload"]["data"]["messageAdded"]["message"]["text"].as_str().unwrap_or_default();
            let sent = text.split(' ').next().and_then(|millis| millis.parse().ok()).map(Duration::from_millis);
            late += usize::from(sent.is_some_and(|sent| sent > deadline));
            sleep(READER_DELAY).await;
        }
        require(late == 0, || format!("{late} messages were received that were sent a second after the revocation"))?;
        Ok(format!("ended {} ms after the revocation", (start.elapsed() - revoked).as_millis()))
    };
    tokio::select! {
        result = writing => result,
        result = reading => result,
    }
}

/// Mutations that are completed at once, so that they might run without being counted.
pub async fn completed_operations(target: &Target) -> Result<String> {
    let token = target.token("hasty");
    let chat = target.chat(&token, "GROUP", &[]).await?;
    let mut started = 0;
    let mut socket = Socket::open(target.address, &token).await?;
    let work = async {
        for number in 0..target.scaled(40_000) {
            let id = number.to_string();
            let variables = json!({ "input": { "chatId": chat, "text": "x".repeat(1_000) } });
            // The server may close the socket, or read no further.
            socket.send(subscribe(&id, SEND, variables)).await?;
            socket.send(json!({ "id": id, "type": "complete" }).to_string()).await?;
            started += 1;
        }
        Ok::<_, Error>(())
    };
    drop(timeout(Duration::from_secs(10), work).await);
    Ok(format!("{started} operations started and completed"))
}

/// Edits of one message as fast as possible.
pub async fn edit_flood(target: &Target) -> Result<String> {
    let token = target.token("editor");
    let chat = target.chat(&token, "GROUP", &[]).await?;
    let message = target.fill(&token, &chat, "first", 1).await?;
    let (start, mut edits, mut refused) = (Instant::now(), 0, 0);
    let edit = "mutation($input: EditMessageInput!) { editMessage(input: $input) { message { id } } }";
    for number in 0..target.scaled(3_500) {
        let text = format!("{number} {}", "x".repeat(4_000));
        let response = target.request(&token, edit, json!({ "input": { "messageId": message, "text": text } })).await?;
        match error_code(&response) {
            None => edits += 1,
            Some("RATE_LIMITED") => {
                refused += 1;
                if refused == 10 {
                    break;
                }
            }
            code => return Err(format!("expected RATE_LIMITED, received {code:?}").into()),
        }
    }
    // The limit admits this number again meanwhile, with a second for rounding.
    let refill = (start.elapsed().as_secs() + 1) * SENDS_PER_MINUTE / 60;
    require(edits <= SENDS_PER_MINUTE + refill, || format!("{edits} edits succeeded"))?;
    Ok(format!("{edits} edits succeeded, {refused} were refused"))
}

/// As many sockets of one user as possible.
pub async fn many_sockets(target: &Target) -> Result<String> {
    let token = target.token("opener");
    let mut sockets = Vec::new();
    let mut refused = 0;
    for _ in 0..target.scaled(2_000) {
        match Socket::open(target.address, &token).await {
            Ok(socket) => sockets.push(socket),
            Err(_) => refused += 1,
        }
        if refused == 20 {
            break;
        }
    }
    require(sockets.len() <= MAX_SOCKETS, || format!("{} sockets were accepted", sockets.len()))?;
    Ok(format!("{} sockets accepted, {refused} refused", sockets.len()))
}

/// Operation ids of 60 kB, which the server would hold as long as the operations run.
pub async fn long_operation_ids(target: &Target) -> Result<String> {
    let token = target.token("verbose");
    let chat = target.chat(&token, "GROUP", &[]).await?;
    let mut socket = Socket::open(target.address, &token).await?;
    let query = "subscription($id: ID!) { typing(chatId: $id) { __typename } }";
    socket.send(subscribe(&"i".repeat(60_000), query, json!({ "id": chat }))).await?;
    let answer = within(TIMEOUT, "the refusal", async { Ok(socket.next().await) }).await?;
    let is_refused = answer.as_ref().map_or(true, |message| message.contains("\"error\""));
    require(is_refused, || format!("the operation was accepted: {answer:?}"))?;
    Ok("refused".into())
}
