//! The page of GraphiQL that loads the editor from a CDN.

use async_graphql::http::GraphiQLSource;

/// Renders the page for an endpoint, with the `Authorization` header that the editor sends.
pub fn render(endpoint: &str, authorization: &str) -> String {
    let page = GraphiQLSource::build()
        .endpoint(endpoint)
        .subscription_endpoint(endpoint)
        .title("Parlor")
        .header("Authorization", authorization)
        .ws_connection_param("Authorization", authorization)
        .finish();
    // The library's template lacks the comma between the two, and the script of the page would not run.
    page.replacen("wsConnectionParams:", ", wsConnectionParams:", 1)
}

#[cfg(test)]
mod tests {
    #[test]
    fn script_of_the_page_separates_its_options_by_one_comma() {
        let page = super::render("/graphql", "Bearer a.b.c");
        let script: String = page.split_whitespace().collect();
        let options = "headers:{'Authorization':'Bearera.b.c',},wsConnectionParams:{'Authorization':'Bearera.b.c',}});";
        assert!(script.contains(options), "{page}");
    }
}
