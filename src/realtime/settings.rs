//! The settings of delivery and feeds. `config` reads them from the environment.

use std::time::Duration;

use crate::realtime::cluster::redis::RedisSettings;

/// The limits of feeds and presence, and the connection to other nodes.
#[derive(Debug, Clone)]
pub struct RealtimeSettings {
    /// The connection to other nodes.
    pub cluster: ClusterSettings,
    /// The number of changes up to which a resuming feed sends each change. A feed that is further behind is reset.
    pub max_catch_up_changes: usize,
    /// The maximum number of feeds that read the database at the same time.
    pub max_concurrent_catch_ups: usize,
    /// The time for which a user without a connection still counts as online.
    pub presence_grace_period: Duration,
}

/// The name of this node, and its connection to other nodes.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// The name by which other nodes and the logs know this node. A node without a name has an id only.
    pub node_name: Option<String>,
    /// The Redis between the nodes. Without it this node is the only one.
    pub redis: Option<RedisSettings>,
}
