//! Servers, their subscribers, and who makes them tell something: what a delivery is measured on.

use std::time::{Duration, Instant};

use testkit::process::ChildProcess;
use tokio::task::JoinSet;

use super::publisher::{Publisher, micros};
use super::subscriber_pool::SubscriberPool;
use crate::tools::Result;
use crate::tools::latency::{Latencies, median};

/// How often a probe is sent until it reaches everybody.
const PROBES: usize = 30;

pub struct Harness {
    pub pool: SubscriberPool,
    pub publisher: Publisher,
}

/// How long messages flow.
#[derive(Clone, Copy)]
pub enum Window {
    Time(Duration),
    Messages(usize),
}

impl Window {
    fn is_over(self, start: Instant, sent: usize) -> bool {
        match self {
            Self::Time(time) => start.elapsed() >= time,
            Self::Messages(count) => sent >= count,
        }
    }
}

/// What flowed.
pub struct Throughput {
    pub deliveries: f64,
    pub elapsed: Duration,
    /// Of each server that was looked at.
    pub cpu: Vec<Duration>,
}

impl Throughput {
    /// The part of one server, which delivers so much of it.
    pub fn of(&self, server: usize, share: f64) -> Self {
        Self { deliveries: self.deliveries * share, elapsed: self.elapsed, cpu: vec![self.cpu[server]] }
    }
}

impl Harness {
    pub fn new(pool: SubscriberPool, publisher: Publisher) -> Self {
        Self { pool, publisher }
    }

    /// Lets the audience come, and waits until every subscription is in place: nobody says so, but
    /// messages that reach all.
    pub async fn gather(&mut self) -> Result<()> {
        self.pool.gather().await?;
        // In so many messages everybody is told something.
        let round = self.pool.groups();
        let limit = Duration::from_secs(1) + Duration::from_millis(1) * u32::try_from(self.pool.reach() * round)?;
        for _ in 0..PROBES {
            for _ in 0..round {
                let number = self.pool.announce()?;
                self.publisher.publish(number).await?;
            }
            if self.pool.complete_within(limit, round).await? {
                return Ok(());
            }
        }
        Err("a message never reached all subscribers".into())
    }

    /// Looks at the servers while messages flow, after a while uncounted.
    pub async fn measure(
        &mut self,
        servers: &[&ChildProcess],
        in_flight: usize,
        spans: [Window; 2],
    ) -> Result<Throughput> {
        let [warm_up, counted] = spans;
        self.flow(in_flight, warm_up).await?;
        self.pool.latencies();
        let cpu = || servers.iter().map(|server| server.cpu_time()).collect::<Vec<_>>();
        let (start, before) = (Instant::now(), cpu());
        let messages = self.flow(in_flight, counted).await?;
        let (elapsed, after) = (start.elapsed(), cpu());
        let cpu = after.into_iter().zip(before).map(|(after, before)| after - before).collect();
        Ok(Throughput { deliveries: (messages * self.pool.reach()) as f64, elapsed, cpu })
    }

    /// Sends messages, the next as soon as fewer than `in_flight` are under way, until all that were
    /// sent have reached everybody. Returns how many.
    async fn flow(&mut self, in_flight: usize, span: Window) -> Result<usize> {
        let start = Instant::now();
        let mut requests = JoinSet::new();
        let (mut sent, mut arrived) = (0, 0);
        while !span.is_over(start, sent) {
            if sent - arrived == in_flight {
                self.pool.one_complete().await?;
                arrived += 1;
            }
            let number = self.pool.announce()?;
            let publisher = self.publisher.clone();
            requests.spawn(async move { publisher.publish(number).await });
            sent += 1;
            while let Some(answer) = requests.try_join_next() {
                answer??;
            }
        }
        for _ in arrived..sent {
            self.pool.one_complete().await?;
        }
        while let Some(answer) = requests.join_next().await {
            answer??;
        }
        Ok(sent)
    }
}

/// What one server was measured at, in several rounds.
#[derive(Default)]
pub struct Results {
    /// Microseconds of the server's CPU for each delivery; one a round, as the others are.
    cpu: Vec<f64>,
    rates: Vec<f64>,
    /// Microseconds of the same requests alone, shared among the deliveries of each.
    requests: Vec<f64>,
    pub latencies: Latencies,
}

impl Results {
    /// A round's flow, of one server.
    pub fn add(&mut self, flow: &Throughput, latencies: &Latencies) {
        self.cpu.push(flow.cpu.iter().copied().map(micros).sum::<f64>() / flow.deliveries);
        self.rates.push(flow.deliveries / flow.elapsed.as_secs_f64());
        self.latencies.add(latencies);
    }

    /// What a request costs by itself, which tells so many.
    pub fn add_request(&mut self, micros: f64, reach: usize) {
        self.requests.push(micros / reach as f64);
    }

    pub fn cpu(&self) -> f64 {
        median(self.cpu.clone())
    }

    /// The same without the requests, where these were measured.
    pub fn without_requests(&self) -> Option<f64> {
        (!self.requests.is_empty()).then(|| self.cpu() - median(self.requests.clone()))
    }

    pub fn rate(&self) -> f64 {
        median(self.rates.clone())
    }
}
