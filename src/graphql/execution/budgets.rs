//! The budgets of one execution: the bytes that it reads, the bytes of its response, and its time.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::byte_budget::ByteBudget;
use crate::domain::users::UserKey;
use crate::error::{Error, Result};
use crate::graphql::admission::operation_kind::OperationKind;
use crate::graphql::settings::GraphqlSettings;
use crate::metrics::{KindLabel, METRICS};
use crate::service::quotas::{Quota, QuotaGuard};
use crate::storage::read_budget::over_read_budget;

/// The unit in which the texts of all executions of a user are counted, in bytes.
const MEMORY_UNIT: usize = 1024 * 1024;

/// The memory that a field occupies while it waits for a lookup, in bytes.
const WAITING_FIELD_BYTES: usize = 4 * 1024;

/// The memory of the fields of one execution that have waited for lookups.
pub struct WaitingFields(pub Arc<ByteBudget>);

impl WaitingFields {
    /// Counts a field that waits for a lookup.
    pub fn count_one(&self) {
        self.0.charge(WAITING_FIELD_BYTES);
    }
}

/// The bytes that the values of a response may have, which resolvers find in the request's data.
pub struct ResponseBudget(pub Arc<ByteBudget>);

/// The budgets of one execution.
pub struct ExecutionBudgets {
    pub read: Arc<ByteBudget>,
    pub response: Arc<ByteBudget>,
    /// It has no limit of its own, because the cost limits the number of fields.
    pub waiting_fields: Arc<ByteBudget>,
    /// `None` if the execution belongs to no single user.
    pub memory: Option<MemoryShare>,
}

/// The part that an execution holds of the memory which one user may occupy.
pub struct MemoryShare {
    quota: Arc<Quota>,
    user: UserKey,
    held: Vec<QuotaGuard>,
    /// True if the execution ends when the user's memory is used up.
    ///
    /// A mutation goes on, because it may have committed.
    ends_execution: bool,
}

impl ExecutionBudgets {
    /// Creates unused budgets of the sizes that the settings have.
    pub fn new(settings: &GraphqlSettings, memory: Option<MemoryShare>) -> Self {
        Self {
            read: Arc::new(ByteBudget::new(settings.max_read_bytes)),
            response: Arc::new(ByteBudget::new(settings.max_response_bytes)),
            waiting_fields: Arc::new(ByteBudget::new(usize::MAX)),
            memory,
        }
    }

    /// Returns the error with which the execution has to end if it has exceeded a budget.
    pub fn excess(&mut self) -> Option<Error> {
        if self.response.is_exceeded() {
            return Some(over_response_budget(self.response.limit()));
        }
        if self.read.is_exceeded() {
            METRICS.operations_rejected.get_or_create(&KindLabel { kind: "read_bytes" }).inc();
            return Some(over_read_budget(self.read.limit()));
        }
        let used = self.read.used() + self.response.used() + self.waiting_fields.used();
        self.memory.as_mut().and_then(|memory| memory.grow_to(used).err())
    }
}

impl MemoryShare {
    /// Creates a share of a user that holds nothing yet.
    pub fn new(quota: Arc<Quota>, user: UserKey, kind: OperationKind) -> Self {
        Self { quota, user, held: Vec::new(), ends_execution: kind != OperationKind::Mutation }
    }

    /// Holds as many units as the bytes fill.
    fn grow_to(&mut self, bytes: usize) -> Result<()> {
        while self.held.len() < bytes / MEMORY_UNIT {
            match self.quota.acquire(&self.user) {
                Ok(guard) => self.held.push(guard),
                Err(error) if self.ends_execution => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// Returns the error of an operation whose response is larger than its budget, and counts it.
pub fn over_response_budget(limit: usize) -> Error {
    METRICS.operations_rejected.get_or_create(&KindLabel { kind: "response_bytes" }).inc();
    let message = format!("the response has more than {limit} bytes: select fewer fields or smaller pages");
    Error::OverLimit { message, limit }
}

/// Returns the error of an operation that took longer than `limit`, and counts it.
pub fn over_deadline(kind: OperationKind, limit: Duration) -> Error {
    METRICS.operations_rejected.get_or_create(&KindLabel { kind: "deadline" }).inc();
    let seconds = limit.as_secs();
    let message = match kind {
        OperationKind::Mutation => {
            format!("the mutation took longer than {seconds} seconds; it may have been carried out, or still be")
        }
        OperationKind::Query | OperationKind::Subscription => {
            format!("the operation took longer than {seconds} seconds")
        }
    };
    Error::TimedOut { message, retry_after: Duration::from_secs(1) }
}
