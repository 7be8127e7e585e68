//! Properties of all operations together: authorization, order, delivery, caches, clusters and crashes.

mod authorization_matrix;
mod authorization_matrix_rows;
mod clocks;
pub mod cluster;
mod cluster_convergence;
mod cluster_messages;
mod cluster_soak;
mod concurrency;
mod crash;
mod database_conditions;
mod database_outages;
mod databases;
mod dataloader_concurrency;
mod feed_cache_convergence;
mod golden;
mod locked_rows;
mod migrations;
mod model;
mod poolers;
mod query_counts;
mod shared_execution;
mod slow_subscribers;
