//! Units of systemd and lines of a crontab, for whoever sets up the schedule.

use jiff::tz::TimeZone;
use pgark_agent::{AgentSettings, Kind};
use pgark_config::Configuration;

/// What stands at the top of each.
fn head(file: &str) -> String {
    format!("# {file}\n# Written by {}.\n\n", crate::run::PROGRAM)
}

/// The command line of the agent, each of its words as whoever runs it understands it.
fn agent_command(
    settings: &AgentSettings,
    configuration: &Configuration,
    own: &str,
    quoted: fn(&str) -> String,
) -> String {
    let program = settings.program.display().to_string();
    let options = configuration.command_line_options(configuration.command());
    let options = options.into_iter().filter(|option| !option.starts_with("--print-") && option != "--once");
    let words: Vec<_> = std::iter::once(program).chain(options).map(|word| quoted(&word)).collect();
    format!("{} agent{own}", words.join(" "))
}

/// Whether a word means itself wherever it stands.
fn is_plain(word: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-=:,@+".contains(letter);
    !word.is_empty() && word.chars().all(is_plain)
}

/// A word as systemd understands it, which puts values in the place of what begins with a dollar or a percent sign.
fn quoted_for_systemd(word: &str) -> String {
    if is_plain(word) {
        return word.to_owned();
    }
    let escapes = [('\\', "\\\\"), ('"', "\\\""), ('$', "$$"), ('%', "%%")];
    let escaped = escapes.iter().fold(word.to_owned(), |word, (letter, escape)| word.replace(*letter, escape));
    format!("\"{escaped}\"")
}

/// A word as a shell understands it that cron runs, to which a percent sign is a line's end.
fn quoted_for_cron(word: &str) -> String {
    if is_plain(word) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''").replace('%', "\\%")) }
}

/// The user that runs this, who is most likely to run the agent.
fn user() -> String {
    std::env::var("USER")
        .ok()
        .filter(|user| user != "root" && !user.is_empty())
        .unwrap_or_else(|| "postgres".to_owned())
}

/// A service that keeps the schedule.
pub(super) fn unit(settings: &AgentSettings, configuration: &Configuration) -> String {
    let (head, user) = (head("/etc/systemd/system/pgark-agent.service"), user());
    let command = agent_command(settings, configuration, "", quoted_for_systemd);
    format!(
        "{head}[Unit]\n\
         Description=pgark agent: keeps the schedule of PostgreSQL backups\n\
         Wants=network-online.target\n\
         After=network-online.target postgresql.service\n\
         \n\
         [Service]\n\
         Type=notify\n\
         User={user}\n\
         ExecStart={command}\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         # The agent hands the signal on to its jobs, and waits for them.\n\
         KillMode=mixed\n\
         TimeoutStopSec=30\n\
         WatchdogSec=60\n\
         Restart=on-failure\n\
         RestartSec=10\n\
         # What is wrong with the configuration does not go away by trying again.\n\
         RestartPreventExitStatus=27 29 31 32 37 50 55\n\
         Nice=5\n\
         NoNewPrivileges=yes\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// A timer that runs what is due once a minute, and its service.
pub(super) fn timer(settings: &AgentSettings, configuration: &Configuration) -> String {
    let (timer, service) =
        (head("/etc/systemd/system/pgark-agent-once.timer"), head("/etc/systemd/system/pgark-agent-once.service"));
    let (user, command) = (user(), agent_command(settings, configuration, " --once", quoted_for_systemd));
    format!(
        "{timer}[Unit]\n\
         Description=Runs what is due in the schedule of PostgreSQL backups\n\
         \n\
         [Timer]\n\
         OnCalendar=*:0/1\n\
         AccuracySec=1s\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n\
         \n\
         {service}[Unit]\n\
         Description=pgark agent: runs what is due in the schedule of PostgreSQL backups\n\
         Wants=network-online.target\n\
         After=network-online.target postgresql.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         User={user}\n\
         ExecStart={command}\n\
         Nice=5\n\
         NoNewPrivileges=yes\n"
    )
}

/// A line of a crontab for each job; where cron does not know an expression, one that runs the agent every minute.
pub(super) fn cron(settings: &AgentSettings, configuration: &Configuration) -> String {
    let mut lines = Vec::new();
    let mut is_all = true;
    // cron means the host's time unless it is told another.
    let mut zone = TimeZone::system();
    for stanza in &settings.stanzas {
        for (kind, schedule) in &stanza.schedules {
            let text = schedule.to_string();
            if !is_known_to_cron(&text) {
                is_all = false;
                continue;
            }
            if *schedule.zone() != zone
                && let Some(name) = schedule.zone().iana_name()
            {
                lines.push(
                    "# Not every cron knows this: Debian's does not, and takes the times for the host's.".to_owned(),
                );
                lines.push(format!("CRON_TZ={name}"));
                zone = schedule.zone().clone();
            }
            lines.push(format!("{text} {}", job_command(settings, stanza, *kind)));
        }
    }
    if !is_all {
        lines.clear();
        lines.push("# cron does not know all expressions of this schedule: the agent does".to_owned());
        lines.push(format!("* * * * * {}", agent_command(settings, configuration, " --once", quoted_for_cron)));
    }
    format!("{}{}\n", head(&format!("crontab of {}", user())), lines.join("\n"))
}

fn job_command(settings: &AgentSettings, stanza: &pgark_agent::StanzaSettings, kind: Kind) -> String {
    let arguments = stanza.commands.get(&kind).into_iter().flatten().map(|argument| argument.to_string_lossy());
    let words: Vec<_> = std::iter::once(settings.program.to_string_lossy())
        .chain(arguments)
        .map(|word| quoted_for_cron(&word))
        .collect();
    words.join(" ")
}

/// Whether cron means by an expression what the agent does: five fields, and nothing in them that only the agent knows.
fn is_known_to_cron(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "*/,-".contains(letter);
    let fields: Vec<_> = text.split_whitespace().collect();
    let only_plain = fields.iter().all(|field| field.chars().all(is_plain));
    // The last day of a month and the nearest weekday are not cron's.
    let days = fields.get(2).is_some_and(|field| !field.contains(['L', 'W', 'l', 'w']));
    fields.len() == 5 && only_plain && days && !fields[4].to_uppercase().ends_with('L')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cron_knows_is_a_line_of_its_own() {
        for known in ["30 2 * * 0", "*/15 1-5 1,15 jan mon-fri"] {
            assert!(is_known_to_cron(known), "{known}");
        }
        for unknown in ["*/5 * * * * *", "@daily", "0 2 L * *", "0 2 15W * *", "0 2 * * 5L", "0 2 * * 1#2"] {
            assert!(!is_known_to_cron(unknown), "{unknown}");
        }
    }

    #[test]
    fn words_mean_themselves_to_whoever_runs_them() {
        for plain in ["--config=/etc/pgark/pgark.conf", "--lock-wait=1h"] {
            assert_eq!((quoted_for_systemd(plain), quoted_for_cron(plain)), (plain.to_owned(), plain.to_owned()));
        }
        let odd = r#"--config=/my $HOME/100%/it's "\"#;
        assert_eq!(quoted_for_systemd(odd), r#""--config=/my $$HOME/100%%/it's \"\\""#);
        assert_eq!(quoted_for_cron(odd), r#"'--config=/my $HOME/100\%/it'\''s "\'"#);
    }
}
