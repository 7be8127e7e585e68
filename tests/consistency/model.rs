//! Compares two chats with a reference model.
//!
//! Random users send messages, replies and mentions, edit, delete, react, read, join, leave, change roles and
//! reconnect. After each action, every user's view of the chats equals the model's.

mod client_view;
mod harness;
mod reference_model;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use testkit::{Database, Engine, TestApp, engine_test};

use harness::Harness;
use reference_model::MEMBER;

const USER_IDS: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// The number of steps after which every client has to hold the whole state.
const QUIESCE_INTERVAL: usize = 25;

/// One action of one user in one of the chats.
#[derive(Debug, Clone)]
struct Step {
    user: usize,
    actor: ActorChoice,
    chat: usize,
    action: Action,
}

/// The user that acts: another one than the step's may take over, so that fewer actions are rejected.
#[derive(Debug, Clone, Copy)]
enum ActorChoice {
    AsDrawn,
    Member,
    Owner,
}

/// An action. An index selects one of the existing messages, by its remainder.
#[derive(Debug, Clone)]
enum Action {
    /// Sends a message, possibly as a reply in a thread, which may also appear in the chat.
    Send {
        mentions: BTreeSet<usize>,
        mentions_everyone: bool,
        reply: Option<(usize, bool)>,
    },
    Edit {
        index: usize,
    },
    Delete {
        index: usize,
    },
    React {
        index: usize,
    },
    /// Marks messages as read up to a message, or up to the newest.
    Read {
        index: Option<usize>,
        privately: bool,
    },
    /// Marks a thread as read.
    ReadThread {
        index: usize,
    },
    MarkUnread {
        index: Option<usize>,
    },
    Add {
        target: usize,
        role: usize,
    },
    Join,
    Remove {
        target: usize,
    },
    Leave,
    ChangeRole {
        target: usize,
        role: usize,
    },
    Reconnect {
        index: usize,
    },
    AdvanceClock,
}

fn action() -> impl Strategy<Value = Action> {
    let (target, index) = (0..USER_IDS.len(), 0..1000_usize);
    let mentions = prop::collection::btree_set(target.clone(), 0..3);
    let mentions = prop_oneof![2 => Just(BTreeSet::new()), 1 => mentions];
    let mentions_everyone = prop::bool::weighted(0.15);
    let reply = prop::option::weighted(0.4, (index.clone(), any::<bool>()));
    let optional_index = prop::option::weighted(0.7, index.clone());
    let privately = prop::bool::weighted(0.3);
    prop_oneof![
        24 => (mentions, mentions_everyone, reply).prop_map(|(mentions, mentions_everyone, reply)| {
            Action::Send { mentions, mentions_everyone, reply }
        }),
        4 => index.clone().prop_map(|index| Action::Edit { index }),
        5 => index.clone().prop_map(|index| Action::Delete { index }),
        4 => index.clone().prop_map(|index| Action::React { index }),
        6 => (optional_index.clone(), privately).prop_map(|(index, privately)| Action::Read { index, privately }),
        4 => index.clone().prop_map(|index| Action::ReadThread { index }),
        4 => optional_index.prop_map(|index| Action::MarkUnread { index }),
        4 => (target.clone(), MEMBER..3).prop_map(|(target, role)| Action::Add { target, role }),
        3 => Just(Action::Join),
        3 => target.clone().prop_map(|target| Action::Remove { target }),
        1 => Just(Action::Leave),
        4 => (target, MEMBER..4).prop_map(|(target, role)| Action::ChangeRole { target, role }),
        4 => index.prop_map(|index| Action::Reconnect { index }),
        1 => Just(Action::AdvanceClock),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (0..USER_IDS.len(), 0..10_usize, 0..2_usize, action()).prop_map(|(user, luck, chat, action)| {
        let actor = match action {
            Action::Join | Action::Reconnect { .. } => ActorChoice::AsDrawn,
            // Most users may neither change the members of a chat nor delete the messages of others.
            Action::Add { .. } | Action::Remove { .. } | Action::ChangeRole { .. } if luck < 7 => ActorChoice::Owner,
            Action::Delete { .. } if luck < 4 => ActorChoice::Owner,
            _ if luck < 8 => ActorChoice::Member,
            _ => ActorChoice::AsDrawn,
        };
        Step { user, actor, chat, action }
    })
}

async fn run(engine: Engine, steps: Vec<Step>) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let mut harness = Harness::start(&app).await;
    for (number, step) in steps.into_iter().enumerate() {
        let chat = step.chat;
        harness.apply(&app, step).await;
        harness.assert_matches(number, chat).await;
        if number % QUIESCE_INTERVAL == QUIESCE_INTERVAL - 1 {
            harness.quiesce().await;
        }
    }
    harness.quiesce().await;
    app.stop().await;
}

/// `PARLOR_TEST_SEED` repeats a run, and `PARLOR_TEST_CASES` makes it longer.
#[engine_test]
fn client_views_match_reference_model(engine: Engine) {
    let setting = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seed = setting("PARLOR_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    let cases = setting("PARLOR_TEST_CASES").and_then(|cases| u32::try_from(cases).ok()).unwrap_or(6);
    eprintln!("PARLOR_TEST_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let rng_seed = RngSeed::Fixed(seed);
    let config = Config { cases, rng_seed, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let result = TestRunner::new(config).run(&prop::collection::vec(step(), 1..70), |steps| {
        runtime.block_on(run(engine, steps));
        Ok(())
    });
    if let Err(error) = result {
        panic!("on {engine:?} with PARLOR_TEST_SEED={seed}: {error}");
    }
}
