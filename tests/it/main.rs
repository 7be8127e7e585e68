//! The stories of the server, told through its public API, each on both engines.
//!
//! `tests/run` sets up what they need.

mod support;

mod archive;
mod capabilities;
mod chats;
mod concurrency;
mod content;
mod corpus;
mod crash;
mod engines;
mod feeds;
mod forwards;
mod hostile;
mod hostile_values;
mod http;
mod http_documents;
mod http_server;
mod layering;
mod limits;
mod matrix;
mod matrix_rows;
mod members;
mod mentions;
mod messages;
mod model;
mod moderation;
mod nodes;
mod nodes_load;
mod notices;
mod notifications;
mod pins;
mod polls;
mod presence;
mod process;
mod receipts;
mod resources;
mod roles;
mod schema;
mod search;
mod sessions;
mod sharing;
mod silence;
mod slow;
mod sockets;
mod sockets_life;
mod statements;
mod strangers;
mod threads;
mod tokens;
mod tokens_keys;
mod typing;
mod unread;
mod upserts;
mod waves;
