//! `pgark verify`: what is damaged in a repository is found, whatever it is, and whom it concerns; what is whole is not
//! complained of.

#![allow(clippy::unwrap_used, reason = "what goes wrong here ends the test")]

mod common;

use std::path::{Path, PathBuf};

use fs_err as fs;
use pgark_testkit::s3::{Call, Effect, Fault, Policy, Refusal, S3Server};
use pgark_testkit::{Finished, Server, faults};
use serde_json::Value;

use crate::common::{Site, Transcript};

fn verify(site: &Site, arguments: &[&str]) -> Finished {
    site.pgark(&[&["verify", "--output=json", "--process-max=2"], arguments].concat())
}

/// The report of a run that ended with this code.
#[track_caller]
fn report(site: &Site, code: i32, arguments: &[&str]) -> Value {
    let finished = verify(site, arguments).expect_code(code);
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.report()))
}

/// What is wrong in the first repository.
fn findings(report: &Value) -> &[Value] {
    report[0]["repo"][0]["finding"].as_array().unwrap()
}

fn texts(values: &Value) -> Vec<&str> {
    values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

/// A cluster with a table, two backups, and WAL before, between and after them.
fn site(passphrase: Option<&str>) -> (Site, [String; 2]) {
    let builder = Site::builder(&Server::get(17));
    let site = match passphrase {
        Some(passphrase) => builder.passphrase(passphrase).start(),
        None => builder.start(),
    };
    site.cluster.sql("create table numbers as select generate_series(1, 20000) as number");
    let first = site.backup(&["--annotation=why=test"]);
    site.pgark(&["annotate", &format!("--set={first}"), "--annotation=more=text"]).expect_success();
    site.cluster.sql("insert into numbers select generate_series(1, 20000)");
    site.archive_segment();
    let second = site.backup(&[]);
    site.cluster.sql("insert into numbers values (0)");
    site.archive_segment();
    site.archive_segment();
    (site, [first, second])
}

/// The name of an object, as findings have it.
fn name_of(site: &Site, object: &Path) -> String {
    object.strip_prefix(site.repository()).unwrap().to_str().unwrap().to_owned()
}

/// An object is changed for the time of `during`.
fn while_changed(object: &Path, change: impl FnOnce(&Path), during: impl FnOnce()) {
    let whole = fs::read(object).unwrap();
    change(object);
    during();
    fs::write(object, whole).unwrap();
}

/// Objects of every kind, each with what its findings are about.
fn one_of_each_kind(site: &Site) -> Vec<PathBuf> {
    let all = ["/cluster/1", "/pack/", "/manifest", "/note/", "/wal/", ".backup"].map(|part| site.objects(part));
    all.iter().map(|objects| objects[objects.len() / 2].clone()).collect()
}

#[test]
fn whole_repositories_are_valid() {
    let (site, _) = site(Some("secret"));
    let mut transcript = Transcript::default();
    let text = |arguments: &[&str]| site.pgark(&[&["verify", "--output=text"], arguments].concat());
    transcript.add("quick", 0, text(&["--quick"]));
    transcript.add("all", 0, text(&[]));
    transcript.add("in detail", 0, text(&["--verbose"]));
    transcript.add("nothing to say", 0, site.pgark(&["verify"]));
    transcript.add("no such set", 75, text(&["--set=20200101-000000F"]));
    transcript.add("no set at all", 75, text(&["--set=latest"]));
    transcript.add("contradictory options", 31, text(&["--quick", "--max-duration=1m"]));
    transcript.add("no stanza", 37, pgark_testkit::run(&mut site.command(&["verify"])));
    assert_output!("whole", steady(&transcript.text()));
    assert_eq!(findings(&report(&site, 0, &[])), &[] as &[Value]);
}

/// That this object and no other is said to be wrong. Without a cluster there is no stanza to verify.
#[track_caller]
fn assert_found(site: &Site, name: &str) {
    if name.contains("/cluster/") {
        let finished = site.pgark(&["verify"]);
        let is_refused = matches!(finished.code(), Some(26 | 29)) && finished.stdout.contains(name);
        assert!(is_refused, "{}", finished.report());
        return;
    }
    let report = report(site, 26, &[]);
    let objects: Vec<_> = findings(&report).iter().map(|finding| finding["object"].as_str().unwrap()).collect();
    assert_eq!(objects, [name], "{report}");
}

/// The report without numbers that depend on how much the server happens to write.
fn steady(text: &str) -> String {
    let counts = [
        "total WAL checked: ",
        "WAL: ",
        " files: ",
        "verified now: ",
        " of ",
        "total files checked: ",
        "total valid files: ",
    ];
    let members = ["\"bytes\": ", "\"checked\": ", "\"total\": ", "\"valid\": "];
    let mut steady = text.to_owned();
    for before in counts.into_iter().chain(members) {
        let parts: Vec<_> = steady.split(before).collect();
        let digits = |part: &str| part.len() - part.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
        let rest = parts[1..].iter().map(|part| match digits(part) {
            0 => (*part).to_owned(),
            count => format!("[count]{}", &part[count..]),
        });
        steady = std::iter::once(parts[0].to_owned()).chain(rest).collect::<Vec<_>>().join(before);
    }
    steady
}

/// Every kind of object, changed in many places.
fn changed_bytes_are_found(passphrase: Option<&str>) {
    let (site, [first, second]) = site(passphrase);
    for object in one_of_each_kind(&site) {
        let length = fs::metadata(&object).unwrap().len();
        let name = name_of(&site, &object);
        for position in [0, 12, 40, 70, length / 3, length / 2, length - 250, length - 180, length - 1] {
            while_changed(&object, |object| faults::flip_byte(object, position), || assert_found(&site, &name));
        }
        for length in [length - 1, 0] {
            while_changed(
                &object,
                |object| faults::truncate(object, length),
                || {
                    assert_found(&site, &name);
                    if name.contains("/pack/") {
                        report(&site, 26, &["--quick"]);
                    }
                },
            );
        }
    }
    // Which backups it is about: the pack of the first backup is none of the second's, and the other way round.
    for (label, other) in [(&first, &second), (&second, &first)] {
        let manifest = site.object(&format!("{label}/manifest"));
        while_changed(
            &manifest,
            |object| faults::flip_byte(object, 1000),
            || {
                let report = report(&site, 26, &[]);
                assert_eq!(texts(&findings(&report)[0]["backup"]), [label.as_str()], "{report}");
                self::report(&site, 0, &[&format!("--set={other}")]);
                self::report(&site, 26, &[&format!("--set={label}")]);
            },
        );
    }
    assert_eq!(findings(&report(&site, 0, &[])), &[] as &[Value]);
}

#[test]
fn changed_bytes_are_found_in_plain_repositories() {
    changed_bytes_are_found(None);
}

#[test]
fn changed_bytes_are_found_in_encrypted_repositories() {
    changed_bytes_are_found(Some("secret"));
}

#[test]
fn missing_and_exchanged_objects_are_found() {
    let (site, [first, second]) = site(None);
    let aside = site.scratch.path().join("aside");
    let without = |object: &Path, during: &dyn Fn()| {
        fs::rename(object, &aside).unwrap();
        during();
        fs::rename(&aside, object).unwrap();
    };
    for pack in site.objects("/pack/") {
        without(&pack, &|| {
            for arguments in [&["--quick"][..], &[]] {
                let report = report(&site, 26, arguments);
                let finding = &findings(&report)[0];
                assert_eq!((findings(&report).len(), &finding["kind"]), (1, &Value::from("missing")), "{report}");
                assert_eq!(finding["object"], name_of(&site, &pack).as_str());
                let backups = texts(&finding["backup"]);
                assert!(!backups.is_empty() && finding["file"]["total"].as_u64().unwrap() > 0, "{report}");
            }
        });
    }
    // WAL in the middle: needed by both backups to be consistent, by one, by none of them.
    let segments: Vec<PathBuf> =
        site.objects("/wal/").into_iter().filter(|path| path.file_name().unwrap().len() == 24).collect();
    let wal = |label: &str| {
        let json = site.pgark(&["info", "--output=json"]).expect_success().stdout;
        let json: Value = serde_json::from_str(&json).unwrap();
        let backups = json[0]["backup"].as_array().unwrap().clone();
        let archive = &backups.iter().find(|backup| backup["label"] == label).unwrap()["archive"];
        (archive["start"].as_str().unwrap().to_owned(), archive["stop"].as_str().unwrap().to_owned())
    };
    let (of_first, of_second) = (wal(&first), wal(&second));
    for (place, segment) in segments.iter().enumerate() {
        let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
        without(segment, &|| {
            let mut broken = Vec::new();
            let mut cut_short = Vec::new();
            for (label, (start, stop)) in [(&first, &of_first), (&second, &of_second)] {
                if *start <= name && name <= *stop {
                    broken.push(label.as_str());
                } else if *start <= name {
                    cut_short.push(label.as_str());
                }
            }
            // What was before the first backup, and what comes last, nobody misses.
            let is_last = place + 1 == segments.len();
            let is_missed = !broken.is_empty() || !cut_short.is_empty() && !is_last;
            // Where all of the WAL between the two backups is gone, retention may have removed it.
            let is_thinned = place > 0
                && is_missed
                && broken.is_empty()
                && segments[place - 1].ends_with(&of_first.1)
                && segments.get(place + 1).is_some_and(|next| next.ends_with(&of_second.0));
            let report = report(&site, if is_missed && !is_thinned { 26 } else { 0 }, &["--quick"]);
            if is_missed && !is_thinned {
                let finding = &findings(&report)[0];
                assert_eq!((texts(&finding["backup"]), texts(&finding["cut-short"])), (broken, cut_short), "{report}");
                assert_eq!(finding["object"], name_of(&site, segment).as_str());
            }
        });
    }
    // An object under the name of another of its kind.
    for part in ["/pack/", "/manifest", "/wal/17-1/0000000100000000/0000"] {
        let objects = site.objects(part);
        let [one, other] = [&objects[0], &objects[1]];
        while_changed(
            one,
            |one| assert!(fs::copy(other, one).is_ok()),
            || {
                let report = report(&site, 26, &[]);
                let objects: Vec<_> = findings(&report).iter().map(|finding| finding["object"].clone()).collect();
                assert!(objects.contains(&Value::from(name_of(&site, one))), "{report}");
            },
        );
    }
    assert_eq!(findings(&report(&site, 0, &[])), &[] as &[Value]);
}

/// Short runs, each of which goes on where the ones before it have ended.
#[test]
fn short_runs_cover_everything() {
    let (site, _) = site(None);
    let coverage = |report: &Value, member: &str| report[0]["repo"][0]["coverage"][member].as_u64().unwrap();
    let short = |code: i32| report(&site, code, &["--max-duration=100ms"]);
    let mut runs = 1;
    let mut last = short(0);
    while coverage(&last, "never") > 0 {
        let next = short(0);
        assert!(coverage(&next, "never") < coverage(&last, "never"), "nothing was done: {next}");
        assert!(coverage(&next, "checked") > 0);
        (last, runs) = (next, runs + 1);
    }
    assert_eq!(last[0]["repo"][0]["backup"][0]["status"], "valid", "{last}");
    assert_eq!(site.objects("/checked/").len(), 1, "one record says it all");

    // What is damaged now is found when its turn comes, and from then on at once.
    let objects = coverage(&last, "total");
    let pack = site.objects("/pack/").into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    while_changed(
        &pack,
        |pack| faults::flip_byte(pack, fs::metadata(pack).unwrap().len() / 2),
        || {
            let found = (0..=objects).find(|_| verify(&site, &["--max-duration=100ms"]).code() == Some(26));
            assert!(found.is_some(), "not found in {objects} runs");
            for _ in 0..2 {
                assert_eq!(findings(&short(26))[0]["object"], name_of(&site, &pack).as_str());
            }
        },
    );
    // A new backup comes before what was verified already.
    let label = site.backup(&[]);
    let next = short(0);
    assert!(runs == 1 || coverage(&next, "checked") > 0, "{next}");
    assert_eq!(next[0]["repo"][0]["backup"][2]["label"], label.as_str());
    assert_eq!(coverage(&report(&site, 0, &[]), "never"), 0);

    // Nothing depends on the record.
    for record in site.objects("/checked/") {
        fs::write(record, "nothing").unwrap();
    }
    assert_eq!(coverage(&report(&site, 0, &["--quick"]), "never"), coverage(&report(&site, 0, &["--quick"]), "total"));
    assert_eq!(coverage(&report(&site, 0, &[]), "never"), 0);
    assert_eq!(site.objects("/checked/").len(), 1);
}

/// Whatever others do at the same time, only what is wrong is called so.
#[test]
fn those_at_work_do_not_disturb() {
    let (site, _) = site(None);
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for round in 0..6 {
                site.cluster.sql("insert into numbers select generate_series(1, 5000)");
                site.archive_segment();
                let label = site.backup(&[]);
                // As an expire does it: the manifest first, then what only this backup needed.
                if round % 2 == 0 {
                    let manifest = site.object(&format!("{label}/manifest"));
                    let session = site.objects("/pack/").pop().unwrap().parent().unwrap().to_owned();
                    fs::remove_file(manifest).unwrap();
                    fs::remove_dir_all(session).unwrap();
                }
            }
        });
        let mut runs = 0;
        while !worker.is_finished() {
            for arguments in [&["--quick"][..], &[]] {
                let report = report(&site, 0, arguments);
                assert_eq!(findings(&report), &[] as &[Value]);
            }
            runs += 1;
        }
        worker.join().unwrap();
        assert!(runs > 1);
    });
    let packs = site.objects("/pack/").len();
    let manifest = site.objects("/manifest").pop().unwrap();
    fs::remove_file(manifest).unwrap();
    let report = report(&site, 0, &[]);
    let orphans = report[0]["repo"][0]["orphan"]["pack"].as_u64().unwrap();
    assert!(orphans > 0 && orphans < packs as u64, "{report}");
}

#[test]
fn what_keeps_a_repository_from_being_verified_is_told() {
    let site = Site::builder(&Server::get(17)).repositories(2).start();
    site.backup(&["--repo=1"]);
    site.backup(&["--repo=2"]);
    site.archive_segment();
    report(&site, 0, &[]);
    fs::rename(site.scratch.path().join("repository2"), site.scratch.path().join("lost")).unwrap();
    let mut transcript = Transcript::default();
    transcript.add("one of two is lost", 73, site.pgark(&["verify", "--output=text"]));
    transcript.add("the same, without a report", 73, site.pgark(&["verify"]));
    transcript.add("only the other", 0, site.pgark(&["verify", "--output=text", "--repo=1"]));
    let cluster = site.objects("/cluster/1");
    faults::flip_byte(&cluster[0], 100);
    transcript.add("a damaged cluster document", 26, site.pgark(&["verify", "--output=text", "--repo=1"]));
    assert_output!("kept", steady(&transcript.text()));
}

#[test]
fn findings_are_shown_in_every_form() {
    let (site, _) = site(None);
    let segments: Vec<_> =
        site.objects("/wal/").into_iter().filter(|path| path.file_name().unwrap().len() == 24).collect();
    fs::remove_file(&segments[segments.len() - 2]).unwrap();
    let pack = &site.objects("/pack/")[0];
    // Where it is damaged inside, and which files that hits, differs from run to run.
    faults::flip_byte(pack, fs::metadata(pack).unwrap().len() - 1);
    let mut transcript = Transcript::default();
    transcript.add("text", 26, site.pgark(&["verify", "--output=text"]));
    transcript.add("verbose", 26, site.pgark(&["verify", "--output=text", "--verbose"]));
    transcript.add("no report", 26, site.pgark(&["verify"]));
    let json = verify(&site, &[]).expect_code(26).stdout;
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_json::to_string(&value).unwrap(), json, "members are not in the order of the alphabet");
    let json = serde_json::to_string_pretty(&value).unwrap();
    assert_output!("findings", steady(&format!("{}\n# JSON\n{json}", transcript.text())));
}

#[test]
fn repositories_in_s3_are_verified() {
    let (server, s3) = (Server::get(18), S3Server::start());
    let credentials = s3.credentials();
    let site = Site::builder(&server)
        .passphrase("a pass phrase")
        .global(&format!("repo1-type=s3\nrepo1-s3-uri-style=path\nrepo1-s3-bucket={}", S3Server::BUCKET))
        .global(&format!("repo1-s3-region={}\nrepo1-s3-endpoint={}", s3.region(), s3.url()))
        .global(&format!("repo1-s3-key={}\nrepo1-s3-key-secret={}", credentials.access_key, credentials.secret))
        .start();
    site.cluster.sql("create table numbers as select generate_series(1, 20000) as number");
    site.backup(&[]);
    site.archive_segment();
    site.archive_segment();
    let whole = report(&site, 0, &[]);
    let total = whole[0]["repo"][0]["coverage"]["total"].as_u64().unwrap();
    // A quick run asks for each manifest, and not for what it names.
    s3.forget_requests();
    report(&site, 0, &["--quick"]);
    let asked = s3.requests();
    assert!(asked.len() < 16, "{:#?}", asked.iter().map(|request| &request.uri).collect::<Vec<_>>());

    // Who may only read can verify.
    s3.set_policy(Policy::parse(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:GetObject","s3:ListBucket"],"Resource":"*"}]}"#,
    ));
    let finished = site.pgark(&["verify", "--log-level-console=info"]).expect_success();
    assert!(finished.stdout.contains("what was verified when is not kept"), "{}", finished.report());
    s3.clear_policy();

    for part in ["/pack/", "/manifest", "/wal/17", "/wal/18"] {
        let Some(key) = s3.keys().into_iter().find(|key| key.contains(part)) else { continue };
        let object = s3.object(&key).unwrap();
        let mut changed = object.to_vec();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for damaged in [changed, object[..object.len() - 1].to_vec()] {
            s3.put(&key, damaged);
            let report = report(&site, 26, &[]);
            assert_eq!(findings(&report).len(), 1, "{key}: {report}");
            assert!(key.ends_with(findings(&report)[0]["object"].as_str().unwrap()), "{key}: {report}");
        }
        s3.put(&key, object);
    }
    let segment = s3.keys().into_iter().filter(|key| key.rsplit('/').next().unwrap().len() == 24).nth_back(1).unwrap();
    let object = s3.object(&segment).unwrap();
    s3.remove(&segment);
    assert_eq!(findings(&report(&site, 26, &["--quick"]))[0]["kind"], "missing");
    s3.put(&segment, object);
    assert_eq!(report(&site, 0, &[])[0]["repo"][0]["coverage"]["total"].as_u64(), Some(total));

    // A server that does not answer is no finding: nothing can be said.
    s3.inject(Fault::new(Effect::Refuse(Refusal::SLOW_DOWN)).on(Call::GetObject).key_containing("/pack/").always());
    report(&site, 101, &["--io-timeout=1s"]);
    // And what a listing leaves out is not missing for that.
    s3.heal();
    s3.inject(Fault::new(Effect::EndListing(0)).on(Call::ListObjects).key_containing("/pack").always());
    report(&site, 0, &[]);
}

/// What was damaged on its way only is not taken for damage of what is stored.
#[test]
fn what_is_whole_when_it_is_read_again_is_no_finding() {
    let s3 = S3Server::start();
    let credentials = s3.credentials();
    let site = Site::builder(&Server::get(17))
        .global("repo1-type=s3\nrepo1-s3-uri-style=path")
        .global(&format!("repo1-s3-bucket={}\nrepo1-s3-region={}", S3Server::BUCKET, s3.region()))
        .global(&format!("repo1-s3-endpoint={}", s3.url()))
        .global(&format!("repo1-s3-key={}\nrepo1-s3-key-secret={}", credentials.access_key, credentials.secret))
        .start();
    let label = site.backup(&[]);
    let once = |part: &str| {
        let before = s3.fired();
        s3.inject(Fault::new(Effect::FlipByte(300)).on(Call::GetObject).key_containing(part));
        assert_eq!(findings(&report(&site, 0, &[])), [] as [Value; 0], "{part}");
        assert_eq!(s3.fired(), before + 1, "{part}");
    };
    for part in ["/pack/", &format!("{label}/manifest"), "/wal/"] {
        once(part);
    }
    s3.inject(Fault::new(Effect::FlipByte(300)).on(Call::GetObject).key_containing("/pack/").always());
    assert!(!findings(&report(&site, 26, &[])).is_empty(), "what is wrong each time is a finding");
}

/// A session and an entry of the log of garbage that can't be understood would keep every expire from its work.
#[test]
fn what_nobody_could_understand_is_found() {
    let (site, _) = site(None);
    for _ in 0..2 {
        site.backup(&["--repo1-retention-full=1", "--no-reuse"]);
    }
    let entry = site.objects("/gc/").pop().expect("there is garbage");
    while_changed(
        &entry,
        |path| faults::flip_byte(path, 70),
        || {
            assert_found(&site, &name_of(&site, &entry));
        },
    );
    let misplaced = entry.with_file_name("00000000000000000099");
    fs::copy(&entry, &misplaced).unwrap();
    pgark_testkit::give_to_test_user(&misplaced);
    assert_found(&site, &name_of(&site, &misplaced));
}
