//! Two chats against a model: random sends, threads, mentions, edits, deletes, reactions, reads,
//! comings, goings, roles and reconnects; after each, what people see is what the model says.

mod client_view;
mod harness;
mod reference_model;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use testkit::{Database, Engine, TestApp, engine_test};

use harness::World;
use reference_model::MEMBER;

const PEOPLE: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

/// What somebody does in one of the chats.
#[derive(Debug, Clone)]
struct Step {
    who: usize,
    standing: Standing,
    room: usize,
    deed: Deed,
}

/// Another does it in their place who is in, or who owns the chat, so that less is refused.
#[derive(Debug, Clone, Copy)]
enum Standing {
    Any,
    Member,
    Owner,
}

/// Numbers choose among the messages that there are, by remainder.
#[derive(Debug, Clone)]
enum Deed {
    /// Perhaps in a thread, and then perhaps in the chat too.
    Send {
        mentions: BTreeSet<usize>,
        everyone: bool,
        reply: Option<(usize, bool)>,
    },
    Edit {
        which: usize,
    },
    Delete {
        which: usize,
    },
    React {
        which: usize,
    },
    /// Up to a message, or the newest.
    Read {
        which: Option<usize>,
        privately: bool,
    },
    Unread {
        which: Option<usize>,
    },
    Add {
        whom: usize,
        role: usize,
    },
    Join,
    Kick {
        whom: usize,
    },
    Leave,
    GiveRole {
        whom: usize,
        role: usize,
    },
    Reconnect {
        which: usize,
    },
    Wait,
}

fn deed() -> impl Strategy<Value = Deed> {
    let (whom, which) = (0..PEOPLE.len(), 0..1000_usize);
    let mentions = prop::collection::btree_set(whom.clone(), 0..3);
    let mentions = prop_oneof![2 => Just(BTreeSet::new()), 1 => mentions];
    let everyone = prop::bool::weighted(0.15);
    let reply = prop::option::weighted(0.4, (which.clone(), any::<bool>()));
    let some = prop::option::weighted(0.7, which.clone());
    let privately = prop::bool::weighted(0.3);
    prop_oneof![
        24 => (mentions, everyone, reply).prop_map(|(mentions, everyone, reply)| Deed::Send { mentions, everyone, reply }),
        4 => which.clone().prop_map(|which| Deed::Edit { which }),
        5 => which.clone().prop_map(|which| Deed::Delete { which }),
        4 => which.clone().prop_map(|which| Deed::React { which }),
        6 => (some.clone(), privately).prop_map(|(which, privately)| Deed::Read { which, privately }),
        4 => some.prop_map(|which| Deed::Unread { which }),
        4 => (whom.clone(), MEMBER..3).prop_map(|(whom, role)| Deed::Add { whom, role }),
        3 => Just(Deed::Join),
        3 => whom.clone().prop_map(|whom| Deed::Kick { whom }),
        1 => Just(Deed::Leave),
        4 => (whom, MEMBER..4).prop_map(|(whom, role)| Deed::GiveRole { whom, role }),
        4 => which.prop_map(|which| Deed::Reconnect { which }),
        1 => Just(Deed::Wait),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    (0..PEOPLE.len(), 0..10_usize, 0..2_usize, deed()).prop_map(|(who, luck, room, deed)| {
        let standing = match deed {
            Deed::Join | Deed::Reconnect { .. } => Standing::Any,
            // Most people may not say who is in, nor delete what others said.
            Deed::Add { .. } | Deed::Kick { .. } | Deed::GiveRole { .. } if luck < 7 => Standing::Owner,
            Deed::Delete { .. } if luck < 4 => Standing::Owner,
            _ if luck < 8 => Standing::Member,
            _ => Standing::Any,
        };
        Step { who, standing, room, deed }
    })
}

async fn live(engine: Engine, steps: Vec<Step>) {
    let app = TestApp::start(Database::create(engine).await, &[]).await;
    let mut world = World::start(&app).await;
    for (turn, step) in steps.into_iter().enumerate() {
        let room = step.room;
        world.take(&app, step).await;
        world.check(turn, room).await;
        if turn % 25 == 24 {
            world.settle().await;
        }
    }
    world.settle().await;
    app.stop().await;
}

/// `PARLOR_TEST_SEED` repeats a run, and `PARLOR_TEST_CASES` makes it longer.
#[engine_test]
fn client_views_match_reference_model(engine: Engine) {
    let set = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let seed = set("PARLOR_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    let cases = set("PARLOR_TEST_CASES").and_then(|cases| u32::try_from(cases).ok()).unwrap_or(6);
    eprintln!("PARLOR_TEST_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let rng_seed = RngSeed::Fixed(seed);
    let config = Config { cases, rng_seed, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let run = TestRunner::new(config).run(&prop::collection::vec(step(), 1..70), |steps| {
        runtime.block_on(live(engine, steps));
        Ok(())
    });
    if let Err(error) = run {
        panic!("on {engine:?} with PARLOR_TEST_SEED={seed}: {error}");
    }
}
