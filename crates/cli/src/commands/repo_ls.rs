//! `pgark repo-ls [path]`

use pgark_config::{Configuration, option};
use pgark_engine::objects::{self, Listed, Order};
use pgark_engine::{Error, ErrorKind};
use pgark_storage::EntryKind;
use regex::Regex;
use serde::Serialize;

use crate::failure::{Failure, Result};
use crate::output::Output;
use crate::settings;

/// Lists what lies at a path of the first repository, or of the one that `--repo` names.
pub(crate) fn run(configuration: &Configuration) -> Result<()> {
    let repository = settings::first_repository(configuration)?;
    let path = configuration.parameters().first().map_or("", String::as_str);
    let place = objects::place(path, settings::repository_path(configuration, repository.key))?;
    let order = match configuration.text(&option::SORT) {
        "desc" => Order::Descending,
        _ => Order::Ascending,
    };
    let filter = filter(configuration)?;
    let is_wanted = |path: &str| filter.as_ref().is_none_or(|filter| filter.is_match(path));
    let is_json = configuration.text(&option::REPO_LS_OUTPUT) == "json";
    let mut output = Output::new();
    let mut separator = "{";
    let listed =
        objects::list(&repository, place.as_ref(), configuration.boolean(&option::RECURSE), order, &mut |listed| {
            if !is_wanted(listed.path) {
                return Ok(());
            }
            if is_json {
                output.put(&format!("{separator}{}", member(&listed)?))?;
                separator = ",";
            } else if listed.path != "." || matches!(listed.kind, EntryKind::Object(_)) {
                output.put(&format!("{}\n", listed.path))?;
            }
            Ok(())
        });
    output.unless_closed(listed)?;
    if is_json {
        let empty = if separator == "{" { "{" } else { "" };
        output.put(&format!("{empty}}}\n"))?;
    }
    output.finish()
}

fn filter(configuration: &Configuration) -> Result<Option<Regex>> {
    let Some(expression) = configuration.optional_text(&option::FILTER) else { return Ok(None) };
    Regex::new(expression).map(Some).map_err(|error| {
        let reason = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Failure::option_value(format!("'{expression}' is not a regular expression: {reason}"))
    })
}

/// What is told of a name, in pgBackRest's order.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Told {
    Path,
    File { size: u64, time: i64 },
}

/// `"backup":{"type":"path"}`
fn member(listed: &Listed<'_>) -> Result<String, Error> {
    let told = match listed.kind {
        EntryKind::Directory => Told::Path,
        EntryKind::Object(info) => Told::File { size: info.size, time: info.modified.as_second() },
    };
    let json = |value: serde_json::Result<String>| {
        value.map_err(|error| Error::new(ErrorKind::Runtime, "failed to write JSON").source(error))
    };
    Ok(format!("{}:{}", json(serde_json::to_string(listed.path))?, json(serde_json::to_string(&told))?))
}
