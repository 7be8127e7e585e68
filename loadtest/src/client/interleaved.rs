//! Two requests, asked in turns, so that what the machine does meanwhile falls on both.

use std::time::Instant;

use super::population::TestPopulation;
use crate::Scale;
use crate::tools::Result;
use crate::tools::latency::Latencies;

/// Asks two requests, each of a person by their number, one after the other until the time is up.
pub async fn interleaved(
    population: &TestPopulation,
    requests: [(usize, &str); 2],
    scale: Scale,
) -> Result<[Latencies; 2]> {
    let mut latencies = [Latencies::default(), Latencies::default()];
    let start = Instant::now();
    while start.elapsed() < scale.warm_up + scale.duration {
        for ((person, body), latencies) in requests.into_iter().zip(&mut latencies) {
            let asked = Instant::now();
            population.api.post(&population.tokens[person], body.into()).await?;
            if start.elapsed() > scale.warm_up {
                latencies.record(asked.elapsed());
            }
        }
    }
    Ok(latencies)
}
