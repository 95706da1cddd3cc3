//! Units of systemd and lines of a crontab, for whoever sets up the schedule.

use pgark_agent::{AgentSettings, Kind};
use pgark_config::Configuration;

/// What stands at the top of each.
fn head(file: &str) -> String {
    format!("# {file}\n# Written by {}.\n\n", crate::run::PROGRAM)
}

/// The command line of the agent, as systemd and a shell understand it.
fn agent_command(settings: &AgentSettings, configuration: &Configuration, own: &str) -> String {
    let program = settings.program.display().to_string();
    let options = configuration.command_line_options(configuration.command());
    let options = options.into_iter().filter(|option| !option.starts_with("--print-") && option != "--once");
    let words: Vec<_> = std::iter::once(program).chain(options).map(|word| quoted(&word)).collect();
    format!("{} agent{own}", words.join(" "))
}

/// A word as systemd and a shell understand it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-=:,@+".contains(letter);
    if word.chars().all(is_plain) { word.to_owned() } else { format!("\"{}\"", word.replace('"', "\\\"")) }
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
    let command = agent_command(settings, configuration, "");
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
    let (user, command) = (user(), agent_command(settings, configuration, " --once"));
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
    for stanza in &settings.stanzas {
        for (kind, schedule) in &stanza.schedules {
            let text = schedule.to_string();
            if !is_known_to_cron(&text) {
                is_all = false;
                continue;
            }
            if let Some(zone) = schedule.zone().iana_name() {
                lines.push(format!("CRON_TZ={zone}"));
            }
            lines.push(format!("{text} {}", job_command(settings, stanza, *kind)));
        }
    }
    lines.dedup();
    if !is_all {
        lines.clear();
        lines.push("# cron does not know all expressions of this schedule: the agent does".to_owned());
        lines.push(format!("* * * * * {}", agent_command(settings, configuration, " --once")));
    }
    format!("{}{}\n", head(&format!("crontab of {}", user())), lines.join("\n"))
}

fn job_command(settings: &AgentSettings, stanza: &pgark_agent::StanzaSettings, kind: Kind) -> String {
    let arguments = stanza.commands.get(&kind).into_iter().flatten().map(|argument| argument.to_string_lossy());
    let words: Vec<_> = std::iter::once(settings.program.to_string_lossy())
        .chain(arguments)
        // A percent sign is a line's end to cron.
        .map(|word| quoted(&word).replace('%', "\\%"))
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
    fn a_word_with_a_blank_is_quoted() {
        assert_eq!(quoted("--config=/etc/pgark/pgark.conf"), "--config=/etc/pgark/pgark.conf");
        assert_eq!(quoted("--config=/my files/it"), "\"--config=/my files/it\"");
    }
}
