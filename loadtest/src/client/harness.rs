//! Measurement of deliveries: a publisher sends messages, and a pool of subscribers receives them.

use std::time::{Duration, Instant};

use testkit::process::ChildProcess;
use tokio::task::JoinSet;

use super::publisher::{Publisher, micros};
use super::subscriber_pool::SubscriberPool;
use crate::tools::Result;
use crate::tools::latency::{Latencies, median};

/// The number of attempts to reach every subscriber with probe messages.
const PROBES: usize = 30;

/// A pool of subscribers, and the publisher whose messages they receive.
pub struct Harness {
    pub pool: SubscriberPool,
    pub publisher: Publisher,
}

/// The length of a measurement.
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

/// The result of one measurement.
pub struct Throughput {
    pub deliveries: f64,
    pub elapsed: Duration,
    /// The CPU time that each measured server used.
    pub cpu: Vec<Duration>,
}

impl Throughput {
    /// Returns the part of one server, which made this share of the deliveries.
    pub fn of_server(&self, server: usize, share: f64) -> Self {
        Self { deliveries: self.deliveries * share, elapsed: self.elapsed, cpu: vec![self.cpu[server]] }
    }
}

impl Harness {
    /// Creates a harness whose subscribers are not connected yet.
    pub fn new(pool: SubscriberPool, publisher: Publisher) -> Self {
        Self { pool, publisher }
    }

    /// Connects the subscribers, and waits until every subscription is active.
    ///
    /// The protocol does not acknowledge a subscription, so probe messages are sent until one round reaches everyone.
    pub async fn connect(&mut self) -> Result<()> {
        self.pool.connect().await?;
        // One message to each chat reaches every subscriber.
        let round = self.pool.chats();
        let deliveries = u32::try_from(self.pool.recipients() * round)?;
        let limit = Duration::from_secs(1) + Duration::from_millis(1) * deliveries;
        for _ in 0..PROBES {
            for _ in 0..round {
                let number = self.pool.start_message()?;
                self.publisher.publish(number).await?;
            }
            if self.pool.complete_within(limit, round).await? {
                return Ok(());
            }
        }
        Err(format!("no probe of {PROBES} reached all subscribers").into())
    }

    /// Runs a warm-up window and a measured window, and returns the throughput and CPU time of the latter.
    pub async fn measure(
        &mut self,
        servers: &[&ChildProcess],
        in_flight: usize,
        windows: [Window; 2],
    ) -> Result<Throughput> {
        let [warm_up, measured] = windows;
        self.run_window(in_flight, warm_up).await?;
        self.pool.take_latencies();
        let cpu = || servers.iter().map(|server| server.cpu_time()).collect::<Vec<_>>();
        let (start, before) = (Instant::now(), cpu());
        let messages = self.run_window(in_flight, measured).await?;
        let (elapsed, after) = (start.elapsed(), cpu());
        let cpu = after.into_iter().zip(before).map(|(after, before)| after - before).collect();
        Ok(Throughput { deliveries: (messages * self.pool.recipients()) as f64, elapsed, cpu })
    }

    /// Sends messages for a window, and waits until all subscribers have received them.
    ///
    /// At most `in_flight` messages are sent but not yet received by all. Returns the number of messages.
    async fn run_window(&mut self, in_flight: usize, window: Window) -> Result<usize> {
        let start = Instant::now();
        let mut requests = JoinSet::new();
        let (mut sent, mut completed) = (0, 0);
        while !window.is_over(start, sent) {
            if sent - completed == in_flight {
                self.pool.wait_for_one().await?;
                completed += 1;
            }
            let number = self.pool.start_message()?;
            let publisher = self.publisher.clone();
            requests.spawn(async move { publisher.publish(number).await });
            sent += 1;
            while let Some(response) = requests.try_join_next() {
                response??;
            }
        }
        for _ in completed..sent {
            self.pool.wait_for_one().await?;
        }
        while let Some(response) = requests.join_next().await {
            response??;
        }
        Ok(sent)
    }
}

/// The measurements of one server in several rounds.
#[derive(Default)]
pub struct Results {
    /// Server CPU per delivery in microseconds, by round.
    cpu: Vec<f64>,
    /// Deliveries per second, by round.
    rates: Vec<f64>,
    /// Server CPU per delivery that the request itself costs, in microseconds, by round.
    requests: Vec<f64>,
    pub latencies: Latencies,
}

impl Results {
    /// Adds a round.
    pub fn add(&mut self, throughput: &Throughput, latencies: &Latencies) {
        self.cpu.push(throughput.cpu.iter().copied().map(micros).sum::<f64>() / throughput.deliveries);
        self.rates.push(throughput.deliveries / throughput.elapsed.as_secs_f64());
        self.latencies.add(latencies);
    }

    /// Adds a round's CPU time of a request without subscribers, which is divided by the recipients of one.
    pub fn add_request(&mut self, micros: f64, recipients: usize) {
        self.requests.push(micros / recipients as f64);
    }

    /// Returns the median CPU time per delivery in microseconds.
    pub fn cpu(&self) -> f64 {
        median(self.cpu.clone())
    }

    /// Returns the median CPU time per delivery without the request's, if the latter was measured.
    pub fn without_requests(&self) -> Option<f64> {
        (!self.requests.is_empty()).then(|| self.cpu() - median(self.requests.clone()))
    }

    /// Returns the median number of deliveries per second.
    pub fn rate(&self) -> f64 {
        median(self.rates.clone())
    }
}
