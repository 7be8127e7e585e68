//! Transports and tokens: HTTP, WebSocket, Server-Sent Events, multipart, and the server as a process.

mod adversarial_documents;
mod budgets;
pub mod conformance_corpus;
mod connections;
mod html_rendering;
mod http;
mod http_documents;
mod http_server;
mod multipart;
mod observability;
mod process_lifecycle;
mod quotas;
mod scalar_inputs;
mod server_process;
pub mod session_end;
mod sessions;
mod sse;
mod token_keys;
pub mod tokens;
pub mod websocket;
mod websocket_lifecycle;
