//! The command by which a restored server gets WAL from the archive.

use std::path::{Path, PathBuf};

use pgark_config::{Command, Configuration, option};
use pgark_engine::{Error, ErrorKind};

use crate::failure::Result;

/// Options of a restore that its server has no use for: they are about how this one run works and talks.
const LEFT_OUT: [&str; 9] = [
    "log-format",
    "log-level-console",
    "log-level-file",
    "log-level-stderr",
    "log-subprocess",
    "log-timestamp",
    "network-limit",
    "priority",
    "process-max",
];

/// The `restore_command`: this program with the options of the command line. Configuration files and environment are
/// expected to be the same for the server.
pub(super) fn restore_command(configuration: &Configuration) -> Result<String> {
    let program = std::env::current_exe()
        .map_err(|error| Error::new(ErrorKind::Runtime, "failed to find out where this program is").source(error))?;
    let directory = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
    let mut options: Vec<_> = configuration
        .command_line_options(Command::ArchiveGet)
        .into_iter()
        .filter(|option| !is_left_out(option))
        .map(|option| with_absolute_config(&option, &directory))
        .collect();
    if !options.iter().any(|option| option.starts_with("--stanza=")) {
        options.push(format!("--stanza={}", configuration.text(&option::STANZA)));
    }
    Ok(compose(&program, &options))
}

fn is_left_out(option: &str) -> bool {
    let name = option.trim_start_matches("--").split('=').next().unwrap_or_default();
    let name = name.strip_prefix("no-").or_else(|| name.strip_prefix("reset-")).unwrap_or(name);
    LEFT_OUT.contains(&name)
}

/// The one option that may be a relative path: PostgreSQL runs the command in the data directory.
fn with_absolute_config(option: &str, directory: &Path) -> String {
    match option.strip_prefix("--config=") {
        Some(path) => format!("--config={}", directory.join(path).display()),
        None => option.to_owned(),
    }
}

fn compose(program: &Path, options: &[String]) -> String {
    let mut words = vec![quoted(&program.to_string_lossy())];
    words.extend(options.iter().map(|option| quoted(option)));
    // To PostgreSQL a lone percent sign in a word begins a placeholder.
    format!("{} archive-get %f \"%p\"", words.join(" ").replace('%', "%%"))
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-+=:,./@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_program_as_they_were_given() {
        let options = ["--stanza=demo", "--pg1-path=/data dir/it's", "--repo1-path=/a$b/100%"].map(str::to_owned);
        assert_eq!(
            compose(Path::new("/usr/bin/pgark"), &options),
            r#"/usr/bin/pgark --stanza=demo '--pg1-path=/data dir/it'\''s' '--repo1-path=/a$b/100%%' archive-get %f "%p""#
        );
    }

    #[test]
    fn how_the_restore_works_is_not_how_the_server_works() {
        for option in [
            "--log-level-console=info",
            "--no-log-timestamp",
            "--log-format=json",
            "--reset-log-level-file",
            "--process-max=4",
            "--network-limit=1MiB",
            "--priority=19",
        ] {
            assert!(is_left_out(option), "{option}");
        }
        for option in ["--log-path=/log", "--no-config", "--repo=2", "--stanza=process-max"] {
            assert!(!is_left_out(option), "{option}");
        }
    }

    #[test]
    fn a_relative_configuration_file_is_found_from_anywhere() {
        let directory = Path::new("/home/me");
        assert_eq!(with_absolute_config("--config=a.conf", directory), "--config=/home/me/a.conf");
        assert_eq!(with_absolute_config("--config=/etc/a.conf", directory), "--config=/etc/a.conf");
        assert_eq!(with_absolute_config("--lock-path=/tmp", directory), "--lock-path=/tmp");
    }
}
