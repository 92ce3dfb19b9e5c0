//! Workers that are killed, stopped and woken up in any order: what the leader takes for the whole table is
//! the whole table, each row once.

mod world;

use proptest::prelude::*;

use super::coverage::{Stage, stage};
use world::{Found, PIECES, ROWS, SEGMENTS, World};

#[derive(Clone, Debug)]
enum Act {
    Claim,
    Finish,
    Answer,
    /// The lease ends, and the process works on as if it had not.
    Stall,
    /// The process is gone, and another one comes.
    Die,
    Lead,
}

fn any_act() -> impl Strategy<Value = (usize, Act)> {
    let acts =
        [(6, Act::Claim), (6, Act::Finish), (4, Act::Answer), (1, Act::Stall), (1, Act::Die), (4, Act::Lead)];
    let one = acts.map(|(weight, act)| (weight, Just(act).boxed()));
    (0..3_usize, prop::strategy::Union::new_weighted(one.to_vec()))
}

proptest! {
    #[test]
    fn whatever_becomes_of_workers_each_row_is_compared_once(
        acts in prop::collection::vec(any_act(), 0..160),
    ) {
        let mut world = World::new(3);
        for (worker, act) in acts {
            match act {
                Act::Claim => world.claim(worker),
                Act::Finish => world.finish(worker),
                Act::Answer => world.answer(worker),
                Act::Stall => _ = world.live.remove(&world.workers[worker].id),
                Act::Die => {
                    world.live.remove(&world.workers[worker].id);
                    world.rejoin(worker);
                }
                Act::Lead if world.found.is_none() => world.lead(),
                Act::Lead => {}
            }
        }
        world.finish_all();
        let names = |places: &[u64]| places.iter().map(|place| place.to_string().into_bytes()).collect();
        let expected: Found = (ROWS - 2, names(&[7, 11]), names(&[ROWS]));
        prop_assert_eq!(world.found, Some(expected));
    }
}

#[test]
fn an_answer_that_holds_what_another_one_has_read_again_is_not_taken() {
    let mut world = World::new(2);
    assert_eq!(stage(&[], &[]), Stage::Reading, "nothing is not a table");
    for _ in 0..PIECES + SEGMENTS {
        world.claim(0);
        world.finish(0);
    }
    world.lead();
    world.answer(0);
    let answers = vec![world.answers[0].answer.clone()];
    assert_eq!(stage(&world.pieces, &answers), Stage::Whole(answers.clone()));
    // Its lease ends, and one of its pieces is another's.
    world.live.clear();
    world.rejoin(1);
    world.claim(1);
    assert_eq!(stage(&world.pieces, &answers), Stage::Reading);
    world.finish(1);
    for piece in &mut world.pieces {
        piece.held = piece.worker == Some(world.workers[1].id);
    }
    assert_eq!(stage(&world.pieces, &answers), Stage::Reading, "the others are free");
    for _ in 1..PIECES + SEGMENTS {
        world.claim(1);
        world.finish(1);
    }
    world.pieces.iter_mut().for_each(|piece| piece.held = true);
    assert_eq!(stage(&world.pieces, &answers), Stage::Answering, "the old answer is of no piece any more");
}
