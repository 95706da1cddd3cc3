//! Rules that concern more than one option.

use std::collections::BTreeMap;

use crate::compression;
use crate::configuration::{Configuration, shown};
use crate::error::{Error, ErrorKind};
use crate::option::{self, Definition};
use crate::resolve::Resolved;
use crate::value::Value;

/// Checks a configuration as a whole; gives what is odd about it, but no reason not to go on.
pub(crate) fn check(configuration: &Configuration) -> Result<Vec<String>, Error> {
    check_stanza(configuration)?;
    check_repository_choice(configuration)?;
    check_repository_paths(configuration)?;
    check_compression_level(configuration)?;
    let odd = odd_compression(configuration).into_iter().chain(idle_network_limit(configuration));
    Ok(odd.chain(overwritten(configuration)).collect())
}

/// A limit of what goes over the network, where nothing does.
fn idle_network_limit(configuration: &Configuration) -> Option<String> {
    let limited = &option::NETWORK_LIMIT;
    if configuration.command().is_run_by_server()
        || !configuration.takes(limited)
        || configuration.optional_size(limited).is_none()
    {
        return None;
    }
    let is_remote = |key: &u32| configuration.text(option::REPO_TYPE.at(*key)) != "posix";
    (!configuration.repository_keys().iter().any(is_remote)).then(|| {
        "'network-limit' option holds nothing back: no repository is reached over the network\n\
         HINT: a mounted file system is a directory like any other: see io-limit"
            .to_owned()
    })
}

/// Values of options with keys that another value of the same key takes the place of.
fn overwritten(configuration: &Configuration) -> Vec<String> {
    let mut warnings = Vec::new();
    let maps = configuration.values.iter().filter_map(|(address, resolved)| Some((address, resolved.as_ref()?)));
    for (address, Resolved { written, .. }) in maps.filter(|(_, resolved)| matches!(resolved.value, Value::Map(_))) {
        let mut known = BTreeMap::new();
        for (key, value) in written.iter().filter_map(|text| text.split_once('=')) {
            if let Some(before) = known.insert(key, value) {
                let (before, value) = (shown(before), shown(value));
                warnings
                    .push(format!("key '{key}' value '{before}' is overwritten with '{value}' for '{address}' option"));
            }
        }
    }
    warnings
}

/// The name of a stanza is a section of files and a directory of repositories.
fn check_stanza(configuration: &Configuration) -> Result<(), Error> {
    let Some(stanza) = configuration.optional_text(&option::STANZA) else { return Ok(()) };
    let reserved = ["global", ".", ".."].contains(&stanza);
    if !reserved && !stanza.contains(|letter: char| letter == '/' || letter == ':' || letter.is_control()) {
        return Ok(());
    }
    let message = format!("'{stanza}' is not valid for '{}' option", option::STANZA.name);
    let error = Error::new(ErrorKind::OptionInvalidValue, message)
        .hint("a stanza is named like a directory, but not global, and has no colon");
    Err(configuration.source(&option::STANZA).trace(error))
}

/// `--repo` must name a repository that is configured.
fn check_repository_choice(configuration: &Configuration) -> Result<(), Error> {
    if !configuration.takes(&option::REPO) {
        return Ok(());
    }
    let configured = |key: i64| configuration.repository_keys().iter().any(|known| i64::from(*known) == key);
    match configuration.optional_integer(&option::REPO) {
        Some(key) if !configured(key) => {
            let message = format!("key '{key}' is not valid for '{}' option", option::REPO.name);
            Err(Error::new(ErrorKind::OptionInvalidValue, message))
        }
        _ => Ok(()),
    }
}

/// Two repositories in one place would be one repository that is written to twice.
fn check_repository_paths(configuration: &Configuration) -> Result<(), Error> {
    if !configuration.takes(option::REPO_PATH.at(1)) {
        return Ok(());
    }
    let keys = configuration.repository_keys();
    let path = |key: u32| configuration.path(option::REPO_PATH.at(key));
    let place = |key: u32| {
        let text = |definition: &'static Definition| configuration.optional_text(definition.at(key));
        let [kind, endpoint, bucket] =
            [&option::REPO_TYPE, &option::REPO_S3_ENDPOINT, &option::REPO_S3_BUCKET].map(text);
        (path(key), kind, endpoint, bucket)
    };
    for (index, one) in keys.iter().enumerate() {
        if let Some(other) = keys[index + 1..].iter().find(|other| place(**other) == place(*one)) {
            let kind = configuration.text(option::REPO_TYPE.at(*one));
            let what = if kind == "posix" { "local" } else { kind };
            let message = format!(
                "{what} repo{one} and repo{other} paths are both '{}' but must be different",
                path(*one).display()
            );
            return Err(Error::new(ErrorKind::OptionInvalidValue, message));
        }
    }
    Ok(())
}

/// Each type of compression has levels of its own.
fn check_compression_level(configuration: &Configuration) -> Result<(), Error> {
    if !configuration.takes(&option::COMPRESS_LEVEL) {
        return Ok(());
    }
    let Some(level) = configuration.optional_integer(&option::COMPRESS_LEVEL) else { return Ok(()) };
    let kind = configuration.text(&option::COMPRESS_TYPE);
    let Some(levels) = compression::levels(kind).filter(|levels| !levels.contains(&level)) else { return Ok(()) };
    let (level_name, kind_name) = (option::COMPRESS_LEVEL.name, option::COMPRESS_TYPE.name);
    let message = format!("'{level}' is out of range for '{level_name}' option when '{kind_name}' option = '{kind}'");
    let range = format!("allowed range is {} to {} inclusive", levels.start(), levels.end());
    let error = Error::new(ErrorKind::OptionInvalidValue, message).hint(range);
    Err(configuration.source(&option::COMPRESS_LEVEL).trace(error))
}

fn odd_compression(configuration: &Configuration) -> Option<String> {
    let is_set = |definition| configuration.takes(definition) && configuration.is_set(definition);
    (is_set(&option::COMPRESS) && is_set(&option::COMPRESS_TYPE)).then(|| {
        "'compress' and 'compress-type' options should not both be set: 'compress-type' is used, 'compress' is \
         deprecated"
            .to_owned()
    })
}
