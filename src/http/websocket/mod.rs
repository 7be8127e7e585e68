//! GraphQL over WebSocket, in the subprotocol graphql-transport-ws.
//!
//! The protocol is <https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>.
//!
//! [`upgrade`] accepts a socket, and [`connection`] serves it. The rules of the subprotocol are a state machine
//! without I/O in [`protocol`]. [`operations`] has the operations of a socket, and [`message_encoder`] encodes the
//! messages of one operation. A connection ends by the handshake in [`close`], with a code of [`close_status`].

pub mod close;
pub mod close_status;
pub mod connection;
pub mod message_encoder;
pub mod operations;
pub mod protocol;
mod running_operations;
pub mod upgrade;
