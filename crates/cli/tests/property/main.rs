//! Chance against a real cluster: whatever happens to it between backups, each of them comes back by itself, with
//! everything that clients saw when it was taken.
//!
//! A seed makes a script of changes, events and backups, which is printed step by step, so that whoever sees a run fail
//! sees what led there. Some scripts run always. `make property RUNS=50` runs so many more on each version, from the seed
//! in `PGARK_PROPERTY_SEED` on, or else from one that is different each time. `PGARK_PROPERTY_BACKUPS` says how many
//! backups each takes. To repeat one, set the seed that it printed, and one run. To find out which of its steps matter,
//! leave some out: `PGARK_PROPERTY_WITHOUT=3,7-12`.

mod change;
#[path = "../common/mod.rs"]
mod common;
mod hints;
mod judge;
mod model;
mod pages;
mod proposal;
mod random;
mod request;
mod run;
mod script;
mod world;

use std::collections::BTreeSet;

use pgark_testkit::Server;

use crate::request::Request;
use crate::run::{run_many, run_script};
use crate::script::Script;

/// The scripts that run always: version, seed, count of backups. Together they have in them everything that can happen.
const ALWAYS: [(u32, u64, usize); 6] =
    [(15, 7975, 5), (17, 49718, 5), (18, 56763, 5), (13, 58979, 3), (14, 58979, 3), (16, 44345, 3)];

/// Runs the script that always runs on this version.
fn run_always(major: u32) {
    let (_, seed, backups) = ALWAYS.into_iter().find(|script| script.0 == major).expect("each version has one");
    run_script(&Server::get(major), &Script::of_seed(seed, major, backups));
}

#[test]
fn every_backup_stands_alone_on_15() {
    run_always(15);
}

#[test]
fn every_backup_stands_alone_on_17() {
    run_always(17);
}

#[test]
fn every_backup_stands_alone_on_18() {
    run_always(18);
}

#[test]
fn every_backup_stands_alone_on_13() {
    run_always(13);
}

#[test]
fn every_backup_stands_alone_on_14() {
    run_always(14);
}

#[test]
fn every_backup_stands_alone_on_16() {
    run_always(16);
}

#[test]
#[ignore = "takes as long as it is told to: make property"]
fn many_scripts_on_13() {
    run_many(13, &Request::of_environment());
}

#[test]
#[ignore = "takes as long as it is told to: make property"]
fn many_scripts_on_14() {
    run_many(14, &Request::of_environment());
}

#[test]
#[ignore = "takes as long as it is told to: make property"]
fn many_scripts_on_15() {
    run_many(15, &Request::of_environment());
}

#[test]
#[ignore = "takes as long as it is told to: make property"]
fn many_scripts_on_16() {
    run_many(16, &Request::of_environment());
}

#[test]
#[ignore = "takes as long as it is told to: make property"]
fn many_scripts_on_17() {
    run_many(17, &Request::of_environment());
}

#[test]
#[ignore = "takes as long as it is told to: make property"]
fn many_scripts_on_18() {
    run_many(18, &Request::of_environment());
}

#[test]
fn the_scripts_that_run_always_have_everything_in_them() {
    let everything: BTreeSet<String> = (0..400).flat_map(|seed| Script::of_seed(seed, 17, 6).words()).collect();
    let always = ALWAYS.into_iter().flat_map(|(major, seed, backups)| Script::of_seed(seed, major, backups).words());
    let always: BTreeSet<String> = always.collect();
    let missing: Vec<_> = everything.difference(&always).collect();
    assert!(missing.is_empty(), "no script that runs always has {missing:?}");
}

#[test]
fn a_seed_gives_the_same_script_each_time() {
    let [first, second, other] = [7, 7, 8].map(|seed| format!("{:?}", Script::of_seed(seed, 17, 6)));
    assert_eq!(first, second);
    assert_ne!(first, other);
}
