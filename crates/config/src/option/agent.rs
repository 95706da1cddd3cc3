//! The schedule, and what is called when it is not kept.

use super::definition::{boolean, choice, duration, now, path, secret, text};
use super::options;
use crate::command::Command::{Agent, Schedule};

const CRON: &str = "A cron expression of five fields, of six with seconds in front, or a name as @daily. For a single \
     stanza it goes into the section of that stanza, for all into [global].";

options! {
    [Agent]

    SCHEDULE_FULL, "schedule-full", "when full backups are taken", CRON
        => text().of(&[Agent, Schedule]);

    SCHEDULE_DIFF, "schedule-diff", "when differential backups are taken", CRON
        => text().of(&[Agent, Schedule]);

    SCHEDULE_INCR, "schedule-incr", "when incremental backups are taken", CRON
        => text().of(&[Agent, Schedule]);

    SCHEDULE_EXPIRE, "schedule-expire", "when expire is run",
        "A cron expression as in schedule-full. Without it expire is run after each backup, unless expire-auto=n is set."
        => text().of(&[Agent, Schedule]);

    SCHEDULE_VERIFY, "schedule-verify", "when verify is run",
        "A cron expression as in schedule-full. Verify runs beside backups. How long it may take is set by max-duration in \
         a section of its own, as [global:verify]."
        => text().of(&[Agent, Schedule]);

    SCHEDULE_TIME_ZONE, "schedule-time-zone", "the time zone of the schedule",
        "A name of the time zone database, as Europe/Berlin or UTC. Without it the zone of the host holds."
        => text().of(&[Agent, Schedule]);

    SCHEDULE_JITTER, "schedule-jitter", "how long each time is put off at most",
        "So that not all stanzas begin at one moment: each time of each stanza is put off by an amount of its own, which is \
         always the same for it."
        => duration("0", "1d").default("0").of(&[Agent, Schedule]);

    HOOK_SUCCESS, "hook-success", "what is called when a job has done its work",
        "A command for the shell, or a URL (http:// or https://) that a JSON document is posted to. A command finds the \
         document on its standard input, and its parts in PGARK_HOOK_EVENT, PGARK_HOOK_STANZA, PGARK_HOOK_JOB, \
         PGARK_HOOK_CODE and PGARK_HOOK_MESSAGE. A hook that fails is logged and changes nothing else. As it may have a token in it, it is set in a configuration \
         file or in the environment, and not shown."
        => secret().of(&[Agent]);

    HOOK_FAILURE, "hook-failure", "what is called when a job has failed",
        "As hook-success. It is called for each try."
        => secret().of(&[Agent]);

    HOOK_LATE, "hook-late", "what is called when the schedule is not kept",
        "As hook-success. It is called once when a job takes longer than its interval, or the last good one is too old, and \
         again only after the schedule was kept meanwhile."
        => secret().of(&[Agent]);

    HOOK_WAL_GAP, "hook-wal-gap", "what is called when WAL is missing in the archive",
        "As hook-success. It is called once for each gap, and when WAL was dropped because of archive-push-queue-max."
        => secret().of(&[Agent]);

    HOOK_TIMEOUT, "hook-timeout", "how long a hook may take",
        "Then it is ended, and counts as failed."
        => duration("100ms", "1h").default("30s").of(&[Agent]);

    AGENT_LOOK_INTERVAL, "agent-look-interval", "how often the agent looks at the repositories",
        "For what others have backed up, and for gaps in the WAL. It also looks after each job. In S3 each look costs some \
         requests."
        => duration("1s", "1d").default("10m").of(&[Agent]);

    AGENT_LISTEN, "agent-listen", "where the agent shows metrics, an API and a page",
        "An address and a port, as 127.0.0.1:7433 or [::1]:7433, or none. At / there is a page, at /metrics there are metrics \
         for Prometheus, and /api/openapi.json describes the API. Other hosts can reach an address that is not a loopback \
         one: then agent-tls-cert-file, agent-tls-key-file and agent-token-file must be set, too."
        => text().default("127.0.0.1:7433").of(&[Agent]);

    AGENT_TLS_CERT_FILE, "agent-tls-cert-file", "the certificate that the agent shows",
        "In PEM, with those between it and its authority. With it the agent speaks only HTTPS. SIGHUP has it read again."
        => path().of(&[Agent]);

    AGENT_TLS_KEY_FILE, "agent-tls-key-file", "the key of the certificate that the agent shows",
        "In PEM. Only the user that runs the agent should be able to read it."
        => path().of(&[Agent]);

    AGENT_TOKEN_FILE, "agent-token-file", "the file of the token that whoever asks the agent must know",
        "At least 16 characters without white space, as `openssl rand -hex 32` makes them. A program sends it as bearer \
         token; a browser asks for it as a password, and any user will do. Only the user that runs the agent should be able \
         to read the file."
        => path().of(&[Agent]);

    LOCK_WAIT_OF_JOBS, "lock-wait", "how long jobs wait for commands that the agent has not begun",
        "A backup or an expire that somebody else has begun on this host. What the agent itself has begun waits its turn, \
         however long that takes."
        => duration("0", "7d").default("1h").of(&[Agent]);

    SPOOL_PATH_OF_AGENT, "spool-path", "where the agent remembers what ran",
        "In agent/<stanza>.json below it. It belongs on a local disk. If it is lost, what was missed meanwhile is not caught \
         up."
        => path().default("/var/spool/pgark").of(&[Agent, Schedule]);

    ONCE, "once", "run what is due now, and end",
        "For trying it, and for those who prefer a timer or cron to a service. It exits 104 where a job has failed."
        => boolean("n").on_command_line().of(&[Agent]);

    PRINT_UNIT, "print-unit", "print a systemd unit of the agent",
        "To be written to /etc/systemd/system/pgark-agent.service."
        => boolean("n").on_command_line().of(&[Agent]);

    PRINT_TIMER, "print-timer", "print a systemd timer and its unit",
        "For those who prefer a timer to a service: it runs the agent once a minute, and the schedule stays in the \
         configuration."
        => boolean("n").on_command_line().of(&[Agent]);

    PRINT_CRON, "print-cron", "print lines for a crontab",
        "For those who prefer cron: a line for each job. What cron does not know, as seconds, it does not have."
        => boolean("n").on_command_line().of(&[Agent]);

    SCHEDULE_OUTPUT, "output", "the form of the output",
        "JSON has the parts of the agent's status."
        => choice(&[now("text", "for people"), now("json", "for programs")])
            .on_command_line().default("text").of(&[Schedule]);
}
