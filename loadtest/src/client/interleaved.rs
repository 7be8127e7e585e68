//! Two requests measured alternately, so that other load on the machine affects both alike.

use std::time::Instant;

use super::population::TestPopulation;
use crate::Scale;
use crate::tools::Result;
use crate::tools::latency::Latencies;

/// Sends two requests alternately for the scale's duration. Each request has the index of its user.
pub async fn interleaved(
    population: &TestPopulation,
    requests: [(usize, &str); 2],
    scale: Scale,
) -> Result<[Latencies; 2]> {
    let mut latencies = [Latencies::default(), Latencies::default()];
    let start = Instant::now();
    while start.elapsed() < scale.warm_up + scale.duration {
        for ((user, body), latencies) in requests.into_iter().zip(&mut latencies) {
            let sent_at = Instant::now();
            population.api.post(&population.tokens[user], body.into()).await?;
            if start.elapsed() > scale.warm_up {
                latencies.record(sent_at.elapsed());
            }
        }
    }
    Ok(latencies)
}
