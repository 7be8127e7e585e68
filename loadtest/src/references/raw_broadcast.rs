//! A raw WebSocket broadcast of prepared frames, without GraphQL and without a database.

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{get, post};
use futures_util::SinkExt;
use tokio::sync::broadcast::{Receiver, Sender};

use super::BACKLOG;

type Frames = Sender<Utf8Bytes>;

pub fn router() -> Router {
    Router::new().route("/graphql", get(subscribe)).route("/publish", post(publish)).with_state(Frames::new(BACKLOG))
}

async fn publish(State(frames): State<Frames>, frame: String) {
    // Sending fails if there are no subscribers, which is not an error.
    frames.send(frame.into()).ok();
}

async fn subscribe(State(frames): State<Frames>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.read_buffer_size(4_096).protocols(["graphql-transport-ws"]).on_upgrade(async move |socket| {
        // A broken connection needs no handling.
        serve(socket, frames.subscribe()).await.ok();
    })
}

async fn serve(mut socket: WebSocket, mut frames: Receiver<Utf8Bytes>) -> Result<(), axum::Error> {
    // The minimum of the protocol that the load generator's client needs.
    socket.recv().await.transpose()?;
    socket.send(Message::text(r#"{"type":"connection_ack"}"#)).await?;
    loop {
        tokio::select! {
            frame = frames.recv() => {
                let Ok(frame) = frame else { return Ok(()) };
                socket.feed(Message::Text(frame)).await?;
                while let Ok(frame) = frames.try_recv() {
                    socket.feed(Message::Text(frame)).await?;
                }
                socket.flush().await?;
            }
            message = socket.recv() => match message {
                Some(message) => drop(message?),
                None => return Ok(()),
            },
        }
    }
}
