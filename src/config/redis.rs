//! The settings of the connection between nodes.

use crate::config::reader::Reader;
use crate::realtime::cluster::channels::Channels;
use crate::realtime::cluster::redis::RedisSettings;
use crate::realtime::settings::ClusterSettings;

pub(super) fn read(reader: &mut Reader) -> ClusterSettings {
    reader.section("Redis and nodes");
    let addresses = reader.list(
        "REDIS_URL",
        "Redis between the nodes of one installation",
        "redis://HOST:PORT or rediss://HOST:PORT",
        "",
        |url| match url.starts_with("redis://") || url.starts_with("rediss://") {
            true => Ok(url.to_owned()),
            false => Err("must begin with redis:// or rediss://"),
        },
    );
    reader.describe_default("none: this node is the only one");
    let is_cluster =
        reader.value("PARLOR_REDIS_CLUSTER", "Use of a Redis Cluster, with sharded channels", "true or false", "false");
    let channel_prefix = reader.value(
        "PARLOR_REDIS_PREFIX",
        "Beginning of the names of channels; one per installation in a Redis",
        "text",
        "parlor",
    );
    let channel_count = reader.value_with(
        "PARLOR_REDIS_CHANNELS",
        "Redis channels of chats, and as many of users; equal on all nodes",
        "a power of two from 1 to 65536",
        "16384",
        parse_channel_count,
    );
    let node_name =
        reader.text("PARLOR_NODE_NAME", "Name of this node for other nodes and logs", "text", "a random id");
    let redis =
        (!addresses.is_empty()).then_some(RedisSettings { addresses, is_cluster, channel_prefix, channel_count });
    ClusterSettings { node_name, redis }
}

fn parse_channel_count(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|count: &u32| count.is_power_of_two() && *count <= Channels::MAX_COUNT);
    count.ok_or_else(|| format!("must be a power of two from 1 to {}", Channels::MAX_COUNT))
}
