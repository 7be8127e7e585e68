//! The messages between 3 to 100 nodes, simulated in one process with the server's own routing and encoding.
//!
//! Redis is a table of subscriptions that counts what it would deliver. The nodes have no database and no sockets:
//! what is measured is how many messages reach each node, and what it costs to encode, authenticate and decode them. A
//! payload is decoded once, and the time counts for each of its receivers.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use parlor::domain::ids::{ChatId, OrganizationId, UserId};
use parlor::realtime::cluster::authentication::MessageKey;
use parlor::realtime::cluster::channels::{Channel, Channels};
use parlor::realtime::cluster::codec::{self, ClusterEnvelope, EnvelopeHeader};
use parlor::realtime::cluster::message::ClusterMessage;
use parlor::realtime::cluster::routing::by_channel;
use parlor::realtime::cluster::sent::SentNumbers;
use serde_json::json;

use crate::tools::Result;
use crate::tools::report::{Table, number, share, whole};

const NODE_COUNTS: [usize; 4] = [3, 10, 30, 100];
/// The numbers of channels of chats. With one channel, every node receives everything.
const CHANNEL_COUNTS: [u32; 4] = [1, 1_024, 16_384, 65_536];
/// The users who are connected to each node. Each has an inbox feed, which follows all of their chats.
const USERS_PER_NODE: usize = 1_000;
const USERS_PER_ORGANIZATION: usize = 100;
const CHATS_PER_USER: usize = 20;
const MEMBERS_PER_CHAT: usize = 10;
/// The messages that each node sends between two batches, a tenth of a second apart.
const SENDS_PER_BATCH: usize = 10;
/// The batches: two seconds.
const BATCHES: usize = 20;
const BATCHES_PER_HEARTBEAT: usize = 10;
const TIME: &str = "2026-01-01T00:00:00.123456Z";

/// Where the users of an organization are connected.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Placement {
    /// At any node.
    Random,
    /// All at one node.
    ByOrganization,
}

/// The users and chats of all nodes.
struct Population {
    users: Vec<User>,
    chats: Vec<Chat>,
}

struct User {
    organization: OrganizationId,
    id: UserId,
    node: usize,
}

struct Chat {
    id: ChatId,
    members: Vec<usize>,
}

/// The work of Redis and of the nodes for a number of messages that users sent.
#[derive(Default)]
struct Totals {
    sends: usize,
    /// The copies of a sent message that reached another node.
    copies: usize,
    /// The copies that reached a node with a listener of the chat.
    wanted: usize,
    /// All bytes that Redis delivered, and those on the channel of all nodes.
    bytes: usize,
    common_bytes: usize,
    sending: Duration,
    reading: Duration,
    /// The channels to which the nodes subscribe.
    subscriptions: usize,
}

/// Prints the tables.
pub fn run(quick: bool) -> Result<()> {
    println!(
        "## Messages between nodes, simulated\n\n\
         Each node has {} connected users in organizations of {USERS_PER_ORGANIZATION}, each in {CHATS_PER_USER} chats \
         of {MEMBERS_PER_CHAT}, with an inbox feed, and sends {} messages per second. `heard` is the share of the \
         messages of other nodes that a node receives, `wanted` that of the messages for which it has a listener. \
         CPU is of one core for each message that a user sends; `reading` is that of all other nodes together.\n",
        whole(USERS_PER_NODE as f64),
        SENDS_PER_BATCH * 10,
    );
    let mut table = Table::new(&[
        "nodes",
        "users connect",
        "channels",
        "subscribed per node",
        "heard",
        "wanted",
        "copies/message",
        "KiB/message",
        "of them to all nodes",
        "sending µs",
        "reading µs",
    ]);
    let node_counts = if quick { &NODE_COUNTS[..2] } else { &NODE_COUNTS[..] };
    for &nodes in node_counts {
        for placement in [Placement::Random, Placement::ByOrganization] {
            let population = Population::create(nodes, placement)?;
            for count in CHANNEL_COUNTS {
                eprintln!("mesh: {nodes} nodes, {count} channels");
                let totals = Simulation::new(nodes, count, &population).run(&population)?;
                let per_send = |total: f64| total / totals.sends as f64;
                let to_others = (totals.sends * (nodes - 1)) as f64;
                table.row([
                    nodes.to_string(),
                    match placement {
                        Placement::Random => "anywhere".to_owned(),
                        Placement::ByOrganization => "by organization".to_owned(),
                    },
                    if count == 1 { "1 (all hear all)".to_owned() } else { whole(count.into()) },
                    whole(totals.subscriptions as f64 / nodes as f64),
                    share(totals.copies as f64, to_others),
                    share(totals.wanted as f64, to_others),
                    number(per_send(totals.copies as f64)),
                    number(per_send(totals.bytes as f64) / 1_024.0),
                    number(per_send(totals.common_bytes as f64) / 1_024.0),
                    number(per_send(totals.sending.as_secs_f64()) * 1e6),
                    number(per_send(totals.reading.as_secs_f64()) * 1e6),
                ]);
            }
        }
    }
    println!("{table}");
    print_formats()
}

impl Population {
    fn create(nodes: usize, placement: Placement) -> Result<Self> {
        let mut random = Random(nodes as u64);
        let mut users = Vec::new();
        let mut chats = Vec::new();
        for organization in 0..nodes * USERS_PER_NODE / USERS_PER_ORGANIZATION {
            let first = users.len();
            for number in 0..USERS_PER_ORGANIZATION {
                let node = match placement {
                    Placement::Random => random.below(nodes),
                    Placement::ByOrganization => organization % nodes,
                };
                let organization = format!("organization-{organization}").parse()?;
                users.push(User { organization, id: format!("user-{number}").parse()?, node });
            }
            for _ in 0..USERS_PER_ORGANIZATION * CHATS_PER_USER / MEMBERS_PER_CHAT {
                let members = (0..MEMBERS_PER_CHAT).map(|_| first + random.below(USERS_PER_ORGANIZATION)).collect();
                chats.push(Chat { id: random.chat_id()?, members });
            }
        }
        Ok(Self { users, chats })
    }
}

/// The nodes and the Redis between them.
struct Simulation {
    channels: Channels,
    key: MessageKey,
    /// The subscribers of each channel.
    subscribers: HashMap<Channel, HashSet<usize>>,
    /// The nodes with a listener of each chat.
    listeners: HashMap<ChatId, HashSet<usize>>,
    sent: Vec<SentNumbers>,
    totals: Totals,
}

impl Simulation {
    fn new(nodes: usize, channel_count: u32, population: &Population) -> Self {
        let channels = Channels::new("parlor".to_owned(), channel_count);
        let mut subscribers: HashMap<Channel, HashSet<usize>> = HashMap::new();
        let mut listeners: HashMap<ChatId, HashSet<usize>> = HashMap::new();
        subscribers.insert(Channel::Common, (0..nodes).collect());
        for user in &population.users {
            let channel = channels.of_user(&user.organization, &user.id);
            subscribers.entry(channel).or_default().insert(user.node);
        }
        for chat in &population.chats {
            let nodes: HashSet<usize> = chat.members.iter().map(|member| population.users[*member].node).collect();
            subscribers.entry(channels.of_chat(chat.id)).or_default().extend(&nodes);
            listeners.insert(chat.id, nodes);
        }
        let sent = (0..nodes).map(|_| SentNumbers::default()).collect();
        let totals = Totals {
            subscriptions: subscribers.values().map(HashSet::len).sum::<usize>() - nodes,
            ..Totals::default()
        };
        Self { channels, key: MessageKey::new(b"a key"), subscribers, listeners, sent, totals }
    }

    fn run(mut self, population: &Population) -> Result<Totals> {
        let mut random = Random(1);
        let nodes = self.sent.len();
        for batch in 1..=BATCHES {
            // Members send at the nodes to which they are connected, each node about as much.
            let mut batches: Vec<Vec<ClusterMessage>> = (0..nodes).map(|_| Vec::new()).collect();
            let mut usage: Vec<Vec<serde_json::Value>> = (0..nodes).map(|_| Vec::new()).collect();
            for _ in 0..nodes * SENDS_PER_BATCH {
                let chat = &population.chats[random.below(population.chats.len())];
                let sender = &population.users[chat.members[random.below(chat.members.len())]];
                batches[sender.node].push(message(chat, sender)?);
                batches[sender.node].push(serde_json::from_value(json!({
                    "Members": { "chat": chat.id, "members": [{ "user": sender.id, "shown": true }] }
                }))?);
                usage[sender.node].push(json!({
                    "organization": sender.organization, "user": sender.id, "limit": "messages", "times": 1
                }));
                self.totals.sends += 1;
            }
            for (node, (mut messages, usage)) in batches.into_iter().zip(usage).enumerate() {
                if !usage.is_empty() {
                    messages.push(serde_json::from_value(json!({ "Spent": usage }))?);
                }
                if batch % BATCHES_PER_HEARTBEAT == 0 {
                    let (system_time, channels) = (TIME.parse()?, self.channels.count());
                    let tails = self.sent[node].take_tails();
                    messages.push(ClusterMessage::Heartbeat { system_time, channels, tails });
                }
                self.publish(node, messages)?;
            }
        }
        Ok(self.totals)
    }

    /// Publishes a batch of one node, and has the subscribers read it.
    fn publish(&mut self, node: usize, messages: Vec<ClusterMessage>) -> Result<()> {
        let sent_at = TIME.parse()?;
        let start = Instant::now();
        let mut payloads = Vec::new();
        for (channel, messages) in by_channel(&self.channels, messages) {
            let (number, previous_sent_at) = self.sent[node].next(channel, sent_at);
            let header = EnvelopeHeader { node: format!("node-{node}"), number, sent_at, previous_sent_at };
            let name = self.channels.name(channel);
            let payload = codec::encode(&self.key, &name, &ClusterEnvelope { header, messages })?;
            payloads.push((channel, name, payload));
        }
        self.totals.sending += start.elapsed();
        for (channel, name, payload) in payloads {
            let subscribers = self.subscribers.get(&channel).into_iter().flatten();
            let receivers: HashSet<usize> = subscribers.copied().filter(|receiver| *receiver != node).collect();
            if receivers.is_empty() {
                continue;
            }
            let start = Instant::now();
            let decoded = codec::decode(&self.key, &name, &payload)?;
            // Every receiver does the same.
            self.totals.reading += start.elapsed() * u32::try_from(receivers.len())?;
            self.totals.bytes += payload.len() * receivers.len();
            if channel == Channel::Common {
                self.totals.common_bytes += payload.len() * receivers.len();
            }
            for message in decoded.envelope.messages {
                if let ClusterMessage::Chat(event) = message {
                    self.totals.copies += receivers.len();
                    self.totals.wanted +=
                        self.listeners.get(&event.chat).map_or(0, |nodes| nodes.intersection(&receivers).count());
                }
            }
        }
        Ok(())
    }
}

/// Returns the message between nodes about a text of average length.
fn message(chat: &Chat, sender: &User) -> Result<ClusterMessage> {
    let message = json!({
        "id": { "chat": chat.id, "seq": 1_234 }, "version": 5_678, "kind": "Text", "sender": sender.id,
        "nonce": "5f9c2d1e-8a7b-4c3d-9e0f-112233445566", "text": "See you at the station at half past nine tomorrow?",
        "content": {}, "reply_to_seq": null, "thread_root_seq": null, "in_timeline": true, "reply_count": 0,
        "mentions_everyone": false, "pinned": null, "created_at": TIME, "edited_at": null, "deleted_at": null,
        "fingerprint": [85, 53, 10, 118, 180, 206, 159, 249]
    });
    let user = json!({
        "organization": sender.organization, "id": sender.id, "name": "Ada Lovelace",
        "avatar_url": "https://example.com/avatars/ada.png", "last_seen_at": TIME
    });
    let event = json!({ "Chat": {
        "organization": sender.organization, "chat": chat.id, "at": TIME,
        "what": { "Changed": { "after": 5_677, "changes": [{ "Message": [message, "Added"] }], "end": 5_678 } },
        "people": [user]
    } });
    Ok(serde_json::from_value(event)?)
}

/// Prints what a message costs in the format of nodes, and as JSON.
fn print_formats() -> Result<()> {
    const ROUNDS: u32 = 20_000;
    let population = Population::create(1, Placement::Random)?;
    let (chat, sender) = (&population.chats[0], &population.users[0]);
    let (key, name, sent_at) = (MessageKey::new(b"a key"), "parlor:chats:1024:77", TIME.parse()?);
    let header = || EnvelopeHeader { node: "node-1".into(), number: 1_000, sent_at, previous_sent_at: Some(sent_at) };
    let envelope = ClusterEnvelope { header: header(), messages: vec![message(chat, sender)?] };
    let payload = codec::encode(&key, name, &envelope)?;
    let json = serde_json::to_vec(&envelope.messages)?;
    let per_round = |start: Instant| number(start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS));
    let mut table = Table::new(&["format", "bytes", "encoding µs", "decoding µs"]);

    let start = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(codec::encode(&key, name, &envelope)?);
    }
    let encoding = per_round(start);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(codec::decode(&key, name, &payload)?);
    }
    table.row([
        "envelope with its code (MessagePack)".to_owned(),
        payload.len().to_string(),
        encoding,
        per_round(start),
    ]);

    let start = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(serde_json::to_vec(&envelope.messages)?);
    }
    let encoding = per_round(start);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(serde_json::from_slice::<Vec<ClusterMessage>>(&json)?);
    }
    table.row([
        "the same message as JSON, without a code".to_owned(),
        json.len().to_string(),
        encoding,
        per_round(start),
    ]);
    println!("## One message between nodes\n\nA text of 50 characters, with its sender.\n\n{table}");
    Ok(())
}

/// A generator of random numbers (splitmix64), the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn chat_id(&mut self) -> Result<ChatId> {
        let [high, low] = [self.next(), self.next()];
        let (head, tail) = (format!("{high:016x}"), format!("{low:016x}"));
        let id = format!("{}-{}-8{}-8{}-{}", &head[..8], &head[8..12], &head[13..], &tail[1..4], &tail[4..]);
        Ok(serde_json::from_value(json!(id))?)
    }
}
