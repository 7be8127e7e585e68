//! The settings of the GraphQL layer. `config` reads them from the environment.

/// The limits of operations.
#[derive(Debug, Clone)]
pub struct GraphqlSettings {
    /// The maximum number of nested fields in an operation.
    pub max_depth: usize,
    /// The maximum number of fields that an operation may resolve, where a page counts each of its items.
    pub max_complexity: usize,
    /// True if introspection needs no token, as on a development server.
    pub is_introspection_public: bool,
}
