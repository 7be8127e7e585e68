//! The HTTP layer: routes and transports; the only layer that uses axum.
//!
//! [`router`] lists the routes, and [`server`] runs them until the server stops. `/graphql` serves one GraphQL
//! API by three transports: [`graphql_http`], [`event_stream`] and [`websocket`].

pub mod bearer;
pub mod connections;
pub mod content_negotiation;
pub mod descriptors;
pub mod event_format;
pub mod event_stream;
pub mod graphiql;
pub mod graphql_http;
pub mod health;
pub mod http1;
pub mod listener;
pub mod request_id;
pub mod router;
pub mod routes;
pub mod server;
mod session_watch;
pub mod settings;
pub mod shutdown;
pub mod state;
pub mod tcp_stream;
mod unsent_frames;
pub mod websocket;
