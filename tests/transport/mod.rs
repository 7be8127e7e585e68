//! Transports and tokens: HTTP, WebSocket, Server-Sent Events, and the server as a process.

mod adversarial_documents;
pub mod conformance_corpus;
mod http;
mod http_documents;
mod http_server;
mod observability;
mod server_process;
mod sessions;
mod sse;
mod token_keys;
pub mod tokens;
pub mod websocket;
mod websocket_lifecycle;
