//! The page of GraphiQL that loads the editor from a CDN.

use async_graphql::http::GraphiQLSource;

/// Renders the page for an endpoint, with the `Authorization` header that the editor sends.
pub fn render(endpoint: &str, authorization: &str) -> String {
    GraphiQLSource::build()
        .endpoint(endpoint)
        .subscription_endpoint(endpoint)
        .title("Parlor")
        .header("Authorization", authorization)
        .ws_connection_param("Authorization", authorization)
        .finish()
}
