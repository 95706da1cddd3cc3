//! Manifests whose bytes are whole and which make no sense: `pgark verify` finds what would come back wrong, or not at all.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

mod common;

use fs_err as fs;
use pgark_repository::PackId;
use pgark_repository::manifest::{Content, Entry, EntryKind};
use pgark_repository::map::{PageMap, Run, Source};
use pgark_testkit::Server;
use serde_json::Value;

use crate::common::Site;
use crate::common::forging::{Change, file, forge, insert};

/// Puts the runs of a file's map through `change`.
fn change_map(entries: &mut [Entry], path: &str, change: impl Fn(usize, Run) -> Run) {
    let entry = entries.iter_mut().find(|entry| entry.path == path.as_bytes()).unwrap();
    let EntryKind::File { content: Content::Map(map), .. } = &mut entry.kind else {
        panic!("{path} has its map elsewhere")
    };
    let mut changed = PageMap::default();
    map.runs().enumerate().for_each(|(place, run)| changed.push(change(place, run)));
    *map = changed;
}

/// A run that lies in frames, changed.
fn in_frames(run: Run, change: impl Fn(&mut PackId, &mut u32, &mut u16, &mut u16)) -> Run {
    match run.source {
        Source::Zeros => run,
        Source::Frames { mut pack, mut block, mut slot, mut stride } => {
            change(&mut pack, &mut block, &mut slot, &mut stride);
            Run { source: Source::Frames { pack, block, slot, stride }, ..run }
        }
    }
}

#[test]
fn maps_that_lead_elsewhere_are_found() {
    let site = Site::start(&Server::get(18));
    site.cluster.sql("create table numbers as select generate_series(1, 20000) as number");
    let relation = site.cluster.sql("select pg_relation_filepath('numbers')");
    let original = site.backup(&[]);
    let path = relation.as_str();
    let cases: [(&str, &Change<'_>); 10] = [
        ("which holds pages of 'base/", &|_, entries, _| {
            change_map(entries, path, |_, run| in_frames(run, |_, block, _, _| *block -= 1));
        }),
        ("which holds another page of the file", &|_, entries, _| {
            change_map(
                entries,
                path,
                |place, run| if place == 0 { in_frames(run, |_, block, _, _| *block += 1) } else { run },
            );
        }),
        ("but the frame has only", &|_, entries, _| {
            change_map(entries, path, |_, run| in_frames(run, |_, _, slot, stride| (*slot, *stride) = (10, 64)));
        }),
        ("which is no frame", &|_, entries, _| {
            change_map(entries, path, |_, run| in_frames(run, |_, block, _, _| *block = 1 << 30));
        }),
        ("which is not in the manifest's list", &|_, entries, _| {
            change_map(entries, path, |_, run| in_frames(run, |pack, _, _, _| pack.number += 9999));
        }),
        ("bytes are", &|_, entries, _| {
            let entry = entries.iter_mut().find(|entry| entry.path == b"PG_VERSION").unwrap();
            let EntryKind::File { size, .. } = &mut entry.kind else { panic!() };
            *size += 1;
        }),
        ("'zzz/new' lies in no directory", &|_, entries, _| entries.push(file("zzz/new"))),
        ("an entry with the path '../outside'", &|_, entries, _| entries.push(file("../outside"))),
        ("'base/1/a' comes twice, or too late", &|_, entries, _| insert(entries, [file("base/1/a"), file("base/1/a")])),
        ("'global/pg_control' is missing", &|_, _, late| drop(late.pop())),
    ];
    for (number, (message, change)) in cases.into_iter().enumerate() {
        let label = format!("20300101-0000{number:02}F");
        forge(&site, &original, &label, change);
        let finished = site.pgark(&["verify", "--output=json"]).expect_code(26);
        let report: Value = serde_json::from_str(&finished.stdout).unwrap();
        let found = report[0]["repo"][0]["finding"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{message}: {report}");
        assert_eq!(found[0]["object"], format!("stanza/demo/backup/{label}/manifest"), "{message}: {report}");
        assert_eq!(found[0]["backup"], serde_json::json!([label]));
        assert!(found[0]["message"].as_str().unwrap().contains(message), "{message}: {report}");
        // The good one stays good beside it.
        site.pgark(&["verify", &format!("--set={original}")]).expect_success();
        fs::remove_file(site.object(&format!("{label}/manifest"))).unwrap();
    }
    site.pgark(&["verify"]).expect_success();
}
