//! The settings of the GraphQL layer. `config` reads them from the environment.

use std::time::Duration;

/// The limits of operations.
#[derive(Debug, Clone)]
pub struct GraphqlSettings {
    /// The maximum number of nested fields in an operation.
    pub max_depth: usize,
    /// The maximum cost of an operation: the fields that it may resolve, weighted by their size.
    pub max_complexity: usize,
    /// The maximum size of a response or of an event of a subscription.
    pub max_response_bytes: usize,
    /// The maximum number of bytes of texts that one execution reads from the database.
    pub max_read_bytes: usize,
    /// The time after which a query, the start of a subscription or the execution of an event is given up.
    pub query_timeout: Duration,
    /// The time after which the client of a mutation stops waiting for it.
    pub mutation_timeout: Duration,
    /// True if introspection needs no token, as on a development server.
    pub is_introspection_public: bool,
}
