//! The connections of a listener: how many there are, and which of them wait for their client.
//!
//! A connection waits in one of three ways, each with a time limit: for the head of a request, between two requests,
//! and for a client that does not read a finished response. A request that is executed, an event stream and a WebSocket
//! do not wait in this sense; they have limits of their own.
//!
//! When the table is full, the connection that has waited longest is closed in favour of the new one, so that silent
//! connections cannot keep others out. Only if none waits, the new one is refused.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::metrics::{GaugeGuard, KindLabel, METRICS};
use crate::rate_limited_log::RateLimitedLog;
use crate::tasks;

/// The time between two searches for connections that have waited too long.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(250);
/// The longest time for which a client may take to read a finished response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// The bounds of a table.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// The maximum number of connections.
    pub max_connections: usize,
    /// The maximum number of connections of one address, or of one /64 network of IPv6.
    pub max_address_connections: usize,
    /// The networks of proxies, whose addresses are not limited because they connect for many clients.
    pub trusted_proxies: Vec<IpNet>,
    /// The time in which the head of a request has to arrive.
    pub head_timeout: Duration,
    /// The time for which a connection may stay open between two requests.
    pub idle_timeout: Duration,
}

/// The reason why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The table is full, and no connection waits.
    Full,
    /// The address has too many connections, and none of them waits.
    Address,
}

impl Refusal {
    /// Returns the setting that contains the bound.
    pub fn setting(self) -> &'static str {
        match self {
            Self::Full => "PARLOR_CONNECTIONS",
            Self::Address => "PARLOR_ADDRESS_CONNECTIONS",
        }
    }
}

/// The way in which a connection waits for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Head,
    Idle,
    Response,
}

/// The phase of a connection. A waiting one has its turn in the queue of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting(Wait, u64),
    /// A request is executed, or the connection was upgraded.
    Busy,
    /// The response is complete, and a part of it may not have been written yet.
    Responded,
}

/// The open connections of one listener.
#[derive(Debug)]
pub struct ConnectionTable {
    limits: ConnectionLimits,
    /// Protects the counts and the queues. It is locked after the phase of a slot, never before it.
    state: Mutex<TableState>,
    replacement_log: RateLimitedLog,
}

#[derive(Debug, Default)]
struct TableState {
    open: usize,
    /// The numbers of connections of the addresses that are limited individually.
    by_address: HashMap<IpAddr, usize>,
    next_turn: u64,
    /// The waiting connections of each [`Wait`], the longest-waiting first.
    queues: [BTreeMap<u64, WaitingConnection>; 3],
}

#[derive(Debug)]
struct WaitingConnection {
    since: Instant,
    address: Option<IpAddr>,
    close: Arc<Notify>,
}

/// The place of one connection in the table, which its drop gives back.
#[derive(Debug)]
pub struct ConnectionSlot {
    table: Arc<ConnectionTable>,
    /// `None` if the address is not limited individually.
    address: Option<IpAddr>,
    close: Arc<Notify>,
    /// Changed by the connection's task only. A waiting phase whose turn is not in the table's queue means that the
    /// table closes the connection and has released its place.
    phase: Mutex<Phase>,
    _gauge: GaugeGuard,
}

/// A request of a connection, from its head to the end of its response.
#[derive(Debug)]
pub struct RequestGuard(Option<Arc<ConnectionSlot>>);

impl ConnectionTable {
    /// Creates a table, and starts the task that closes the connections which wait too long.
    ///
    /// The task ends when the table is dropped. If it panics, waiting connections are closed only when the table is
    /// full.
    pub fn start(limits: ConnectionLimits) -> Arc<Self> {
        let table = Arc::new(Self { limits, state: Mutex::default(), replacement_log: RateLimitedLog::default() });
        tasks::tick_while_alive(&table, EXPIRY_INTERVAL, |table| table.close_expired(Instant::now()));
        table
    }

    /// Returns the maximum number of connections.
    pub fn max_connections(&self) -> usize {
        self.limits.max_connections
    }

    /// Returns a place for a new connection, which first waits for the head of a request.
    ///
    /// # Errors
    ///
    /// Returns the bound that is reached if no connection under this bound waits.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Arc<ConnectionSlot>, Refusal> {
        let address = self.limits.counted_address(address);
        let mut state = self.state.lock();
        let is_address_full = address.is_some_and(|address| {
            state.by_address.get(&address).is_some_and(|number| *number >= self.limits.max_address_connections)
        });
        if is_address_full && !state.close_longest_waiting(address) {
            return Err(Refusal::Address);
        }
        // A connection of the address that was closed has left its place already.
        let is_full = state.open >= self.limits.max_connections;
        if is_full && !state.close_longest_waiting(None) {
            return Err(Refusal::Full);
        }
        state.open += 1;
        if let Some(address) = address {
            *state.by_address.entry(address).or_default() += 1;
        }
        let close = Arc::<Notify>::default();
        let turn = state.enqueue(Wait::Head, address, &close);
        drop(state);
        if is_address_full || is_full {
            self.log_replacement(if is_full { Refusal::Full } else { Refusal::Address });
        }
        let phase = Mutex::new(Phase::Waiting(Wait::Head, turn));
        let gauge = GaugeGuard::increment(&METRICS.open_connections);
        Ok(Arc::new(ConnectionSlot { table: self.clone(), address, close, phase, _gauge: gauge }))
    }

    /// Closes the connection that has waited longest, if one waits.
    pub fn close_longest_waiting(&self) {
        self.state.lock().close_longest_waiting(None);
    }

    fn log_replacement(&self, bound: Refusal) {
        if let Some(occurrences) = self.replacement_log.occurrences_to_log() {
            let max_connections = self.limits.max_connections;
            let bound = bound.setting();
            tracing::warn!(bound, max_connections, occurrences, "waiting connections are closed in favour of new ones");
        }
    }

    fn close_expired(&self, now: Instant) {
        let mut state = self.state.lock();
        for (wait, timeout, kind) in [
            (Wait::Head, self.limits.head_timeout, "head"),
            (Wait::Idle, self.limits.idle_timeout, "idle"),
            (Wait::Response, RESPONSE_TIMEOUT, "response"),
        ] {
            while let Some(first) = state.queues[wait as usize].first_entry()
                && now.duration_since(first.get().since) >= timeout
            {
                let expired = first.remove();
                state.close(&expired, kind);
            }
        }
    }
}

impl ConnectionLimits {
    /// Returns the address, or the network, whose connections are counted; `None` for a trusted proxy.
    fn counted_address(&self, address: IpAddr) -> Option<IpAddr> {
        let address = address.to_canonical();
        if self.trusted_proxies.iter().any(|network| network.contains(&address)) {
            return None;
        }
        Some(match address {
            IpAddr::V4(_) => address,
            // A client usually has a whole /64 network (RFC 6177).
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        })
    }
}

impl TableState {
    fn enqueue(&mut self, wait: Wait, address: Option<IpAddr>, close: &Arc<Notify>) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        let waiting = WaitingConnection { since: Instant::now(), address, close: close.clone() };
        self.queues[wait as usize].insert(turn, waiting);
        turn
    }

    /// Closes the longest-waiting connection, of one address if any, and returns false if none waits.
    fn close_longest_waiting(&mut self, address: Option<IpAddr>) -> bool {
        let is_candidate = |waiting: &WaitingConnection| address.is_none() || waiting.address == address;
        let longest = self.queues.iter_mut().filter_map(|queue| {
            let turn = *queue.iter().find(|(_, waiting)| is_candidate(waiting))?.0;
            Some((turn, queue))
        });
        let Some(waiting) = longest.min_by_key(|(turn, _)| *turn).and_then(|(turn, queue)| queue.remove(&turn)) else {
            return false;
        };
        self.close(&waiting, "replaced");
        true
    }

    /// Releases the place of a connection that left its queue, and wakes its task, which closes it.
    fn close(&mut self, waiting: &WaitingConnection, kind: &'static str) {
        METRICS.connections_closed.get_or_create(&KindLabel { kind }).inc();
        self.release(waiting.address);
        waiting.close.notify_one();
    }

    fn release(&mut self, address: Option<IpAddr>) {
        self.open -= 1;
        if let Some(address) = address
            && let Some(number) = self.by_address.get_mut(&address)
        {
            *number -= 1;
            if *number == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl ConnectionSlot {
    /// Waits until the table closes this connection. It is cancel-safe.
    pub async fn closed(&self) {
        self.close.notified().await;
    }

    /// Notes that bytes have arrived: between two requests, the head of the next one begins.
    pub fn bytes_arrived(&self) {
        self.change_wait(|phase| matches!(phase, Phase::Waiting(Wait::Idle, _)), Wait::Head);
    }

    /// Notes that everything was written: after a response, the connection waits for the next request.
    pub fn flushed(&self) {
        self.change_wait(|phase| matches!(phase, Phase::Responded | Phase::Waiting(Wait::Response, _)), Wait::Idle);
    }

    /// Notes that the client has not read enough to write more.
    pub fn write_blocked(&self) {
        self.change_wait(|phase| matches!(phase, Phase::Responded), Wait::Response);
    }

    /// Begins a request; `None` if the table has closed the connection, so that it must not run.
    pub fn begin_request(self: &Arc<Self>) -> Option<RequestGuard> {
        let mut phase = self.phase.lock();
        if let Phase::Waiting(wait, turn) = *phase {
            self.table.state.lock().queues[wait as usize].remove(&turn)?;
        }
        *phase = Phase::Busy;
        Some(RequestGuard(Some(self.clone())))
    }

    /// Changes from one of some phases to waiting, unless the table has closed the connection.
    fn change_wait(&self, is_from: impl Fn(Phase) -> bool, to: Wait) {
        let mut phase = self.phase.lock();
        if !is_from(*phase) {
            return;
        }
        let mut state = self.table.state.lock();
        if let Phase::Waiting(wait, turn) = *phase
            && state.queues[wait as usize].remove(&turn).is_none()
        {
            return;
        }
        *phase = Phase::Waiting(to, state.enqueue(to, self.address, &self.close));
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut state = self.table.state.lock();
        if let Phase::Waiting(wait, turn) = *self.phase.get_mut()
            && state.queues[wait as usize].remove(&turn).is_none()
        {
            return;
        }
        state.release(self.address);
    }
}

impl RequestGuard {
    /// Keeps the connection from waiting again, because another protocol uses it from now on.
    pub fn upgrade(mut self) {
        self.0 = None;
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if let Some(slot) = &self.0 {
            *slot.phase.lock() = Phase::Responded;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const HOME: &str = "203.0.113.7";

    fn table(max_connections: usize, max_address_connections: usize) -> Arc<ConnectionTable> {
        let limits = ConnectionLimits {
            max_connections,
            max_address_connections,
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
        };
        ConnectionTable::start(limits)
    }

    fn admit(table: &Arc<ConnectionTable>, address: &str) -> Result<Arc<ConnectionSlot>, Refusal> {
        table.admit(address.parse().unwrap())
    }

    fn is_closed(slot: &ConnectionSlot) -> bool {
        tokio::task::unconstrained(slot.closed()).now_or_never().is_some()
    }

    #[tokio::test]
    async fn full_table_closes_longest_waiting_connection_and_refuses_when_all_are_busy() {
        let table = table(2, 2);
        let (first, second) = (admit(&table, HOME).unwrap(), admit(&table, "203.0.113.8").unwrap());
        let request = first.begin_request().unwrap();
        let third = admit(&table, "203.0.113.9").expect("the second connection gives its place");
        assert!(is_closed(&second) && !is_closed(&first) && !is_closed(&third));
        assert!(second.begin_request().is_none(), "a closed connection begins no request");
        let other_request = third.begin_request().unwrap();
        assert_eq!(admit(&table, "203.0.113.10").unwrap_err(), Refusal::Full);
        drop(request);
        assert_eq!(admit(&table, "203.0.113.10").unwrap_err(), Refusal::Full, "the response is not written yet");
        first.flushed();
        let fourth = admit(&table, "203.0.113.10").expect("the first connection is idle");
        assert!(is_closed(&first));
        drop((first, second, other_request, third, fourth));
        assert_eq!(table.state.lock().open, 0);
        assert!(table.state.lock().by_address.is_empty());
    }

    #[tokio::test]
    async fn address_bound_counts_ipv6_networks_and_leaves_proxies_out() {
        let table = table(100, 1);
        let kept = admit(&table, "2001:db8:1:2::1").unwrap().begin_request().unwrap();
        assert_eq!(admit(&table, "2001:db8:1:2:ffff::9").unwrap_err(), Refusal::Address);
        let neighbour = admit(&table, "2001:db8:1:3::1").unwrap().begin_request().unwrap();
        let mapped = admit(&table, "203.0.113.7").unwrap().begin_request().unwrap();
        assert_eq!(admit(&table, "::ffff:203.0.113.7").unwrap_err(), Refusal::Address);
        let proxied: Vec<_> = (0..5).map(|_| admit(&table, "10.1.2.3").unwrap().begin_request().unwrap()).collect();
        drop((kept, neighbour, mapped, proxied));
        admit(&table, "2001:db8:1:2::1").expect("the places were given back");
    }

    #[tokio::test]
    async fn waiting_connection_is_closed_after_the_timeout_of_its_phase() {
        let table = table(10, 10);
        let (silent, idle, busy) =
            (admit(&table, HOME).unwrap(), admit(&table, HOME).unwrap(), admit(&table, HOME).unwrap());
        drop(idle.begin_request());
        idle.flushed();
        let request = busy.begin_request().unwrap();
        let close_expired_in = |seconds| table.close_expired(Instant::now() + Duration::from_secs(seconds));
        close_expired_in(9);
        assert!(!is_closed(&silent));
        close_expired_in(11);
        assert!(is_closed(&silent) && !is_closed(&idle));
        idle.bytes_arrived();
        close_expired_in(9);
        assert!(!is_closed(&idle));
        close_expired_in(11);
        assert!(is_closed(&idle), "a further head has the same time as the first one");
        close_expired_in(3_600);
        drop(request);
        busy.write_blocked();
        close_expired_in(RESPONSE_TIMEOUT.as_secs() - 1);
        assert!(!is_closed(&busy));
        close_expired_in(RESPONSE_TIMEOUT.as_secs() + 1);
        assert!(is_closed(&busy));
    }
}
