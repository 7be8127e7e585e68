//! The bytes that the database needs for a message, by table and index.
//!
//! The messages are sent through the API, so every column and index has what the server writes: 100 chats of the same 20
//! users, texts of ten words from a skewed vocabulary (69 characters in the mean), and random nonces of 36 characters.

use std::path::Path;

use futures_util::{StreamExt, TryStreamExt, stream};
use testkit::Database;

use crate::Scale;
use crate::client::parlor::Parlor;
use crate::client::population::TestPopulation;
use crate::client::sender::Sender;
use crate::engines::Engine;
use crate::tools::report::{Table, number, whole};
use crate::tools::{Result, TIMEOUT, within};

const CHATS: usize = 100;
const USERS: usize = 20;
/// The number of sockets, each of which has one message in flight.
const SENDERS: usize = 100;
const WORDS_PER_TEXT: usize = 10;
const VOCABULARY: u64 = 5_000;

/// The most bytes of a message that are intended.
const POSTGRES_GOAL: f64 = 650.0;
const SQLITE_GOAL: f64 = 350.0;

/// Selects the size of the table of messages and of each of its indexes.
const POSTGRES_SIZES: &str = "SELECT relname || ' ' || pg_table_size(pg_class.oid) AS line \
     FROM pg_class LEFT JOIN pg_index ON indexrelid = pg_class.oid \
     WHERE 'messages'::regclass IN (pg_class.oid, indrelid) ORDER BY relkind DESC, pg_table_size(pg_class.oid) DESC";
const SQLITE_SIZES: &str = "SELECT name || ' ' || sum(pgsize) AS line FROM dbstat \
     WHERE name LIKE 'messages%' OR name LIKE 'message_words%' GROUP BY name ORDER BY sum(pgsize) DESC";

pub async fn run(engine: &Engine, scale: Scale) -> Result<()> {
    engine.with_database(async |database, folder| measure(engine, database, folder, scale).await).await
}

async fn measure(engine: &Engine, database: &Database, folder: &Path, scale: Scale) -> Result<()> {
    let messages = scale.stored_messages;
    eprintln!("storage: {messages} messages on {}", engine.name());
    let parlor = Parlor::start(database, folder).await?;
    let population = TestPopulation::create(parlor.address, USERS).await?;
    let mut chats = Vec::new();
    for number in 0..CHATS {
        chats.push(population.group(&format!("Chat {number}")).await?);
    }
    stream::iter(0..SENDERS)
        .map(|number| send_part(&parlor, &population, &chats, number, messages))
        .buffer_unordered(SENDERS)
        .try_for_each(async |()| Ok(()))
        .await?;
    parlor.stop().await;
    database.execute_by_engine("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM ANALYZE").await;
    report(engine, database, messages).await
}

/// Sends the messages of one socket to chats that it chooses at random.
async fn send_part(
    parlor: &Parlor,
    population: &TestPopulation,
    chats: &[String],
    number: usize,
    messages: usize,
) -> Result<()> {
    let token = &population.tokens[number % USERS];
    let mut sender = Sender::over_socket(number, parlor.address, token).await?;
    let mut random = Random(number as u64);
    for _ in 0..messages / SENDERS {
        let chat = &chats[random.below(CHATS as u64) as usize];
        let (nonce, text) = (random.nonce(), random.text());
        within(TIMEOUT, "a send", sender.send_text(chat, &nonce, &text)).await?;
    }
    Ok(())
}

async fn report(engine: &Engine, database: &Database, messages: usize) -> Result<()> {
    let (sizes, goal) = match engine.is_postgres() {
        true => (POSTGRES_SIZES, POSTGRES_GOAL),
        false => (SQLITE_SIZES, SQLITE_GOAL),
    };
    let mut table = Table::new(&["table or index", "bytes per message"]);
    let mut all = 0.0;
    for line in database.query_lines(sizes).await {
        let (name, size) = line.split_once(' ').ok_or("a name and a size")?;
        let bytes = size.parse::<f64>()? / messages as f64;
        all += bytes;
        table.row([name.to_owned(), number(bytes)]);
    }
    table.row(["**all**".to_owned(), format!("**{}**", number(all))]);
    println!(
        "## Bytes for a message on {}\n\n\
         {} messages in {CHATS} chats of {USERS} users. The goal is at most {goal} bytes.\n\n{table}",
        engine.name(),
        whole(messages as f64)
    );
    Ok(())
}

/// The generator SplitMix64, which gives the same texts in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Returns a nonce with the form of a random UUID.
    fn nonce(&mut self) -> String {
        let digits = format!("{:016x}{:016x}", self.next(), self.next());
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        parts.join("-")
    }

    fn text(&mut self) -> String {
        let words: Vec<String> = (0..WORDS_PER_TEXT).map(|_| self.word()).collect();
        words.join(" ")
    }

    /// Returns a word of three to nine letters; the first words of the vocabulary are the most frequent.
    fn word(&mut self) -> String {
        let rank = self.below(VOCABULARY).min(self.below(VOCABULARY)).min(self.below(VOCABULARY));
        let mut letters = mix(rank + 1);
        let length = 3 + letters % 7;
        let mut word = String::new();
        for _ in 0..length {
            letters /= 26;
            word.push(char::from(b'a' + (letters % 26) as u8));
        }
        word
    }
}

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
