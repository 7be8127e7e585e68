//! The metrics that a server reports.

use crate::http_client;

/// Returns the value of a metric, whose name includes its labels, in the text of all metrics.
#[track_caller]
pub fn metric_value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
}

/// Returns the value of a metric that the server at this URL reports now.
pub async fn fetch_metric(url: &str, name: &str) -> f64 {
    let text = http_client().get(url).send().await.expect("an answer").text().await.expect("a text");
    metric_value(&text, name)
}
