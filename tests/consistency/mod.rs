//! Properties of all operations together: authorization, order, delivery, caches, clusters and crashes.

mod authorization_matrix;
mod authorization_matrix_rows;
pub mod cluster;
mod cluster_soak;
mod concurrency;
mod crash;
mod databases;
mod dataloader_concurrency;
mod feed_cache_convergence;
mod golden;
mod model;
mod query_counts;
mod shared_execution;
mod slow_subscribers;
