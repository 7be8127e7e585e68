//! The counts in which an operation takes part while it runs.

use std::sync::Arc;

use crate::service::quotas::QuotaGuard;

/// The counts of a transport that an operation holds, each until its drop.
#[derive(Default)]
pub struct OperationGuards {
    /// Held until the execution of a query, of a mutation or of a subscription's start has ended.
    pub execution: Option<QuotaGuard>,
    /// Held until both the execution and the stream of responses have ended.
    pub operation: Option<Arc<dyn Send + Sync>>,
}
