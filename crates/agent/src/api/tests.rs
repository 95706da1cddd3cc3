use serde_json::{Map, Value};

use super::*;
use crate::digest::tests::info;
use crate::dropped::tests::dropped;
use crate::health::tests::{job, now, well};
use crate::job::Kind;
use crate::late::Late;
use crate::status::{Board, JobState, Level};

/// Checks a value against a schema, as far as the description uses JSON Schema. It is strict: a schema that this does not
/// know is an error.
fn check(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let fail = |why: String| Err(format!("{place}: {why}: {value}"));
    for (word, wanted) in schema.as_object().expect("a schema is an object") {
        match word.as_str() {
            "$ref" => {
                let path = wanted.as_str().unwrap().trim_start_matches('#');
                check(root, root.pointer(path).expect("a reference leads somewhere"), value, place)?;
            }
            "type" => {
                let types = wanted.as_array().cloned().unwrap_or_else(|| vec![wanted.clone()]);
                if !types.iter().any(|name| is_of_type(value, name.as_str().unwrap())) {
                    return fail(format!("is not {wanted}"));
                }
            }
            "enum" if !wanted.as_array().unwrap().contains(value) => return fail(format!("is none of {wanted}")),
            "const" if wanted != value => return fail(format!("is not {wanted}")),
            "minimum" if value.is_number() && value.as_f64() < wanted.as_f64() => {
                return fail("is too small".to_owned());
            }
            "format" if value.is_string() && value.as_str().unwrap().parse::<Timestamp>().is_err() => {
                return fail("is not a time".to_owned());
            }
            "oneOf" => {
                let fitting = wanted.as_array().unwrap().iter().filter(|one| check(root, one, value, place).is_ok());
                if fitting.count() != 1 {
                    return fail("does not fit exactly one".to_owned());
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, wanted, item, &format!("{place}/{index}"))?;
                }
            }
            "required" => {
                if let Some(missing) =
                    wanted.as_array().unwrap().iter().find(|name| value.get(name.as_str().unwrap()).is_none())
                {
                    return fail(format!("lacks {missing}"));
                }
            }
            "properties" => {
                for (name, member) in value.as_object().unwrap_or(&Map::new()) {
                    let schema =
                        wanted.get(name).ok_or_else(|| format!("{place}: has {name}, which is not described"))?;
                    check(root, schema, member, &format!("{place}/{name}"))?;
                }
            }
            "enum" | "const" | "minimum" | "format" | "description" | "additionalProperties" => {}
            other => panic!("{place}: this does not know {other}"),
        }
    }
    Ok(())
}

fn is_of_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

fn description() -> Value {
    serde_json::from_str(OPENAPI).unwrap()
}

/// A status with everything in it that there can be.
fn everything() -> Value {
    let board = Board::new("pgark 1.2.3", "db1", now());
    let mut stanzas = vec![well().0, well().0, well().0];
    stanzas[0].repositories.info = Some(std::sync::Arc::new(info()));
    stanzas[0].jobs = vec![job(Kind::Full, 0, 0), job(Kind::Incr, 56, 2), job(Kind::Verify, 0, 0)];
    stanzas[0].jobs[1].state = JobState::Waiting { due: now() };
    stanzas[0].jobs[2].state =
        JobState::Running { due: now(), started: now(), process: 7, size: Some(9), size_complete: None };
    let lates = [
        Late::TooOld { kind: Kind::Incr, last_good: None, due: now(), second: now() },
        Late::Overrun { kind: Kind::Verify, seconds: 9, interval_seconds: 1, running: true },
    ];
    stanzas[0].late =
        lates.into_iter().map(|late| LateStatus { late, message: late.to_string(), since: now() }).collect();
    stanzas[0].dropped = vec![dropped()];
    stanzas[1].wal = None;
    stanzas[1].jobs[0].last = None;
    stanzas[2].repositories = crate::status::RepositoriesStatus { error: Some("no".to_owned()), ..Default::default() };
    board.change(|status| status.stanzas = stanzas);
    board.tell(now(), Level::Warning, Some("main"), "a message");
    board.tell(now(), Level::Info, None, "another");
    serde_json::to_value(document(board.read(), now())).unwrap()
}

#[test]
fn the_status_is_as_it_is_described() {
    let (root, status) = (description(), everything());
    let path = "/paths/~1api~1status/get/responses/200/content/application~1json/schema";
    check(&root, root.pointer(path).unwrap(), &status, "").unwrap();
}

#[test]
fn what_is_not_described_is_found() {
    let (root, status) = (description(), everything());
    let schema = serde_json::json!({"$ref": "#/components/schemas/Status"});
    let spoilt = |pointer: &str, value: Value| {
        let mut status = status.clone();
        *status.pointer_mut(pointer).unwrap() = value;
        check(&root, &schema, &status, "").unwrap_err()
    };
    assert!(spoilt("/now", "yesterday".into()).contains("/now: is not a time"));
    assert!(spoilt("/stanzas/0/jobs/0/kind", "other".into()).contains("is none of"));
    assert!(
        spoilt("/stanzas/0/jobs/2/state", serde_json::json!({"state": "idle", "due": "x"})).contains("exactly one")
    );
    assert!(spoilt("/stanzas/0/repositories/0/backups/0", serde_json::json!({})).contains("lacks"));
    assert!(
        spoilt("/stanzas/1/wal", serde_json::json!({"segments": 1, "oldest": null, "more": 1})).contains("exactly one")
    );
}
