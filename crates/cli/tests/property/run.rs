//! Running scripts.

use std::panic::{AssertUnwindSafe, catch_unwind};

use pgark_testkit::Server;

use crate::judge;
use crate::request::Request;
use crate::script::{Script, Step};
use crate::world::{World, say};

/// Runs a script, and judges every backup that it takes.
pub(crate) fn run_script(server: &Server, script: &Script) {
    run_steps(server, script, |_| false);
}

/// Runs as many scripts as are asked for, the ones after a failure too.
pub(crate) fn run_many(major: u32, request: &Request) {
    let server = Server::get(major);
    let mut failed = Vec::new();
    for seed in request.first_seed..request.first_seed + request.runs {
        say(&format!("PGARK_PROPERTY_SEED={seed} PGARK_PROPERTY_BACKUPS={}", request.backups));
        let script = Script::of_seed(seed, major, request.backups);
        let run = AssertUnwindSafe(|| run_steps(&server, &script, |step| request.leaves_out(step)));
        if catch_unwind(run).is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "on PostgreSQL {major} the scripts of these seeds fail: {failed:?}");
}

fn run_steps(server: &Server, script: &Script, left_out: impl Fn(usize) -> bool) {
    say(&format!("PostgreSQL {}: {:?}", server.version(), script.shape));
    let mut world = World::new(server, script.shape);
    for (number, step) in script.steps.iter().enumerate() {
        if left_out(number) {
            world.forgiving = true;
            continue;
        }
        say(&format!("{number:3}: {step:?}"));
        world.take(number, step);
    }
    if !world.forgiving {
        judge::much_was_told_by_the_wal_alone(&world);
    }
    if script.steps.iter().any(|step| matches!(step, Step::Expire { .. })) {
        world.sweep();
        judge::nothing_is_left_over(&world);
    }
    for moment in &world.moments {
        say(&format!("judging {}, step {}", moment.label, moment.step));
        judge::stands_alone(&world, moment);
    }
}
