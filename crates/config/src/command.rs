//! The table of commands.

use crate::error::{Error, ErrorKind};

/// A command of pgark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the table below says what each of them does")]
pub enum Command {
    Agent,
    Annotate,
    ArchiveGet,
    ArchivePush,
    Backup,
    Check,
    Completion,
    Expire,
    Help,
    Info,
    RepoGet,
    RepoLs,
    Restore,
    Schedule,
    Server,
    ServerPing,
    StanzaCreate,
    StanzaDelete,
    StanzaUpgrade,
    Start,
    Stop,
    Verify,
    Version,
}

/// Which part of a command's work a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// What the user asked for.
    #[default]
    Main,
    /// What a process in the main role has left to another one, which goes on when the first has ended:
    /// `archive-push:async`.
    Async,
}

/// What the name of a command in the role [`Role::Async`] ends with.
const ASYNC_SUFFIX: &str = ":async";

/// What the table says about one command.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) command: Command,
    pub(crate) name: &'static str,
    /// Whether it can be run. One that can't is known so that it is refused with a clear word.
    pub(crate) available: bool,
    /// What each parameter is, in order; these are required.
    pub(crate) parameters: &'static [&'static str],
    /// What each parameter after those is, which need not be given.
    pub(crate) optional_parameters: &'static [&'static str],
    /// What it does, in a few words.
    pub(crate) summary: &'static str,
    /// What it does, in full. Paragraphs are parted by an empty line.
    pub(crate) description: &'static str,
}

const fn now(command: Command, name: &'static str, summary: &'static str, description: &'static str) -> Definition {
    Definition { command, name, available: true, parameters: &[], optional_parameters: &[], summary, description }
}

const fn later(command: Command, name: &'static str, summary: &'static str, description: &'static str) -> Definition {
    Definition { available: false, ..now(command, name, summary, description) }
}

impl Definition {
    const fn takes(mut self, parameters: &'static [&'static str]) -> Self {
        self.parameters = parameters;
        self
    }

    const fn may_take(mut self, parameters: &'static [&'static str]) -> Self {
        self.optional_parameters = parameters;
        self
    }

    /// Whether it takes any parameters.
    pub(crate) fn takes_parameters(&self) -> bool {
        !self.parameters.is_empty() || !self.optional_parameters.is_empty()
    }
}

/// All commands, in the order of [`Command`], which is that of their names but for `start`.
static COMMANDS: [Definition; 23] = [
    now(
        Command::Agent,
        "agent",
        "keep the schedule",
        "Runs as a service, under systemd or in the foreground, and takes backups, expires and verifies as the \
         schedule options say: for the stanza that is named, or for every stanza of the configuration file that has a \
         schedule. Each job is a run of pgark of its own, as from cron. One that would overrun another waits its turn, \
         two of a kind that wait become one, and what was missed is caught up once.\n\n\
         SIGHUP has it read the configuration again; SIGTERM ends it, with the jobs that are at work. `pgark agent \
         --once` runs what is due and ends, `pgark schedule` tells what ran and what is next.",
    ),
    now(
        Command::Annotate,
        "annotate",
        "add, change or remove annotations of a backup",
        "Annotations are key/value pairs that the info command shows with --set. A key that has a value already gets \
         the new one, and a key that is given an empty value is removed. Every repository that has the backup is \
         annotated, or only the one named by --repo.",
    ),
    now(
        Command::ArchiveGet,
        "archive-get",
        "get a WAL segment from the archive",
        "Meant to be PostgreSQL's restore_command, which restore writes: `pgark --stanza=demo archive-get %f \"%p\"`. \
         The repositories are asked in the order of their index, or only the one named by --repo.\n\n\
         It exits 0 when the segment is in place and 1 when no repository has it. Whatever else goes wrong ends with \
         an exit code above 125, at which PostgreSQL stops, instead of opening with transactions missing.",
    )
    .takes(&["WAL segment to get", "path to copy WAL segment"]),
    now(
        Command::ArchivePush,
        "archive-push",
        "push a WAL segment to the archive",
        "Meant to be PostgreSQL's archive_command: `pgark --stanza=demo archive-push %p`. The segment goes to every \
         configured repository. It exits 0 only when each of them holds the segment durably; a repository that fails \
         does not keep the others from storing it.",
    )
    .takes(&["WAL segment to push"]),
    now(
        Command::Backup,
        "backup",
        "back up a database cluster",
        "The backup goes to the first configured repository, or to the one named by --repo. It becomes visible only \
         once all it needs is stored, the WAL from its start to its stop included. Run it from cron or another \
         scheduler.",
    ),
    now(
        Command::Check,
        "check",
        "check the configuration",
        "Connects to PostgreSQL, compares it with the stanza in each repository, switches the WAL segment and waits \
         until the segment has reached the archive. Run it after stanza-create and after each change of the \
         configuration. Without --stanza every stanza of the configuration file is checked.",
    ),
    now(
        Command::Completion,
        "completion",
        "have a shell complete commands and options",
        "Writes the script by which a shell (bash, fish or zsh) asks pgark what can follow on a command line: commands, the \
         options they take, their values, and the stanzas of the configuration.\n\n\
         For the current shell: `source <(pgark completion bash)`, `source <(pgark completion zsh)` after compinit, \
         `pgark completion fish | source`. For every new one, write the script to where the shell looks for it: \
         /usr/share/bash-completion/completions/pgark, a file _pgark in a directory of zsh's fpath, or \
         ~/.config/fish/completions/pgark.fish.",
    )
    .takes(&["shell"]),
    now(
        Command::Expire,
        "expire",
        "remove backups and WAL that retention no longer asks for",
        "Works by the repoN-retention and repoN-keep options of each repository, or on one backup set named by --set. It is \
         run after every backup, unless expire-auto=n is set.\n\n\
         What a removed backup has stored is deleted by the next expire after the one that removed it, once everybody who was \
         at work then, on whichever host, has ended.",
    ),
    now(
        Command::Help,
        "help",
        "get help",
        "`pgark help` lists the commands, `pgark help backup` describes a command and lists its options, and \
         `pgark help backup type` describes one option.",
    ),
    now(
        Command::Info,
        "info",
        "show the stanzas, backups and WAL of the repositories",
        "Text is for people and may change. JSON (--output=json) is for programs and has pgBackRest's keys. Without \
         --stanza every stanza of the repositories is shown.",
    ),
    now(
        Command::RepoGet,
        "repo-get",
        "get a file from a repository",
        "Writes what one object of the repository holds to standard output, decrypted and decoded: documents as JSON, \
         WAL segments and history files as PostgreSQL wrote them, manifests and packs as lines of JSON that tell what \
         is in them. With --raw what is stored, byte for byte.",
    )
    .takes(&["source file"]),
    now(
        Command::RepoLs,
        "repo-ls",
        "list the files of a repository",
        "Lists what lies at one path of the repository, as text or JSON. Without a path the whole repository is meant. A \
         path is relative to the repository, or absolute and below it.",
    )
    .may_take(&["path"]),
    now(
        Command::Restore,
        "restore",
        "restore a database cluster",
        "Restores the newest backup of the first repository that has one, or the one named by --set and --repo, and \
         writes the recovery settings that --type asks for. With a target the newest backup that lies before it is \
         chosen.\n\n\
         The data directory must be empty, or --delta must be given: then what is there is compared with the backup \
         and only what differs is fetched.",
    ),
    now(
        Command::Schedule,
        "schedule",
        "show what ran and what is next",
        "Tells for each job in the schedule when it ran, how that ended, when it comes next, and whether the schedule is \
         kept. It needs no agent that runs.",
    ),
    later(
        Command::Server,
        "server",
        "serve this host's repositories and clusters to other hosts",
        "pgBackRest's TLS server. It is not planned in this form.",
    ),
    later(
        Command::ServerPing,
        "server-ping",
        "ask a server whether it is there",
        "The counterpart of the server command. It is not planned in this form.",
    ),
    now(
        Command::StanzaCreate,
        "stanza-create",
        "create a stanza in the repositories",
        "Run it once the stanza is configured, and again after a repository was added. It creates the repository \
         where there is none and the stanza in each repository that lacks it; what is there already is checked and \
         left as it is.",
    ),
    now(
        Command::StanzaDelete,
        "stanza-delete",
        "delete a stanza from a repository",
        "Removes every backup and the whole WAL archive of the stanza from one repository. This can't be undone.\n\n\
         First shut down PostgreSQL and run stop for the stanza. If it is broken off, run it again: it goes on where it \
         was. When it is done the stop file is removed too. Where there are several repositories, --repo says which \
         one is meant.",
    ),
    now(
        Command::StanzaUpgrade,
        "stanza-upgrade",
        "tell a stanza of a new PostgreSQL version",
        "Run it after pg_upgrade, once pgN-path names the new cluster. From then on the stanza takes WAL and backups of \
         the new cluster, in every repository. Backups and WAL of the old one stay and can be restored.",
    ),
    now(
        Command::Start,
        "start",
        "allow pgark to run again",
        "Takes back what the stop command has forbidden, for one stanza or for all.",
    ),
    now(
        Command::Stop,
        "stop",
        "keep pgark from running",
        "Commands that write to a repository fail on this host until start is run, for one stanza or for all: \
         archive-push, backup, stanza-create, stanza-upgrade, annotate and expire. Running ones finish, unless --force \
         ends them.\n\n\
         While archive-push is stopped PostgreSQL keeps its WAL, and the disk of pg_wal fills.",
    ),
    now(
        Command::Verify,
        "verify",
        "verify the contents of a repository",
        "Proves that every backup can be restored and recovered: every object that a backup needs is there and is as it was \
         written, byte by byte, its page maps lead to the pages of its files, and the WAL is unbroken from its start to its \
         stop and on to the end of the archive. Every configured repository is verified, or only the one named by \
         --repo.\n\n\
         It exits 0 if nothing is wrong and 26 if something is; each finding says what it is about, which backups it \
         concerns and what to do. What backups, expire and archive-push do meanwhile does not disturb it.",
    ),
    now(
        Command::Version,
        "version",
        "show the version",
        "Shows pgark's version, as text or as a number that grows with it.",
    ),
];

impl Command {
    /// Every command, by name.
    pub fn all() -> impl Iterator<Item = Self> {
        COMMANDS.iter().map(|definition| definition.command)
    }

    pub(crate) fn definition(self) -> &'static Definition {
        &COMMANDS[self as usize]
    }

    /// The name as it is written on a command line, for example `archive-push`.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// The command called `name`, or the only one whose name begins so.
    pub(crate) fn find(name: &str) -> Result<Self, Error> {
        if let Some(exact) = Self::all().find(|command| command.name() == name) {
            return Ok(exact);
        }
        let invalid = Error::new(ErrorKind::CommandInvalid, format!("invalid command '{name}'"));
        let fitting: Vec<_> = Self::all().filter(|command| command.name().starts_with(name)).collect();
        match fitting[..] {
            [only] => Ok(only),
            [] => Err(invalid),
            _ => Err(invalid.hint(format!("it could be {}", quoted(fitting.iter().map(|command| command.name()))))),
        }
    }

    /// The command and the role that are written `archive-push` or `archive-push:async`. Users have no business with the
    /// latter, so it is not abbreviated.
    pub(crate) fn find_with_role(name: &str) -> Result<(Self, Role), Error> {
        let Some(main) = name.strip_suffix(ASYNC_SUFFIX) else { return Ok((Self::find(name)?, Role::Main)) };
        let command = Self::all().find(|command| command.is_run_by_server() && command.name() == main);
        let invalid = || Error::new(ErrorKind::CommandInvalid, format!("invalid command '{name}'"));
        Ok((command.ok_or_else(invalid)?, Role::Async))
    }

    /// The name by which a process is started in this role.
    pub fn name_in_role(self, role: Role) -> String {
        match role {
            Role::Main => self.name().to_owned(),
            Role::Async => format!("{}{ASYNC_SUFFIX}", self.name()),
        }
    }

    /// Refuses a command that a later version brings.
    pub(crate) fn require_available(self) -> Result<(), Error> {
        if self.definition().available {
            return Ok(());
        }
        let available = Self::all().filter(|command| command.definition().available).map(Self::name);
        let message = format!("command '{}' is not available yet", self.name());
        Err(Error::new(ErrorKind::FeatureNotSupported, message)
            .hint(format!("available commands are {}", quoted(available))))
    }

    /// Whether the server runs it, again and again.
    pub(crate) fn is_run_by_server(self) -> bool {
        matches!(self, Self::ArchiveGet | Self::ArchivePush)
    }

    /// Checks that as many parameters are there as the command wants, and no more than it takes.
    pub(crate) fn check_parameters(self, role: Role, given: usize) -> Result<(), Error> {
        let wanted = match role {
            Role::Main => self.definition().parameters,
            Role::Async => &["where to begin"],
        };
        // The shell is followed by the words of another command line.
        let most = match self {
            Self::Completion => usize::MAX,
            _ => wanted.len() + self.definition().optional_parameters.len(),
        };
        if given > 0 && most == 0 {
            return Err(Error::new(ErrorKind::ParameterInvalid, "command does not allow parameters"));
        }
        if given > most {
            return Err(Error::new(ErrorKind::ParameterInvalid, "extra parameters found"));
        }
        match wanted.get(given) {
            Some(missing) => Err(Error::new(ErrorKind::ParameterRequired, format!("{missing} required"))),
            None => Ok(()),
        }
    }
}

/// `'a', 'b', 'c'`
pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_lies_where_its_number_says() {
        for (place, definition) in COMMANDS.iter().enumerate() {
            assert_eq!(definition.command as usize, place, "{}", definition.name);
            assert_eq!(definition.command.name(), definition.name);
        }
    }

    #[test]
    fn a_prefix_is_enough_where_it_fits_one_command_only() {
        assert_eq!(Command::find("archive-p"), Ok(Command::ArchivePush));
        assert_eq!(Command::find("b"), Ok(Command::Backup));
        assert_eq!(Command::find("res"), Ok(Command::Restore));
        // Exact, though it is a prefix of server-ping too.
        assert_eq!(Command::find("server"), Ok(Command::Server));
    }

    #[test]
    fn only_archiving_has_a_part_that_goes_on_by_itself() {
        assert_eq!(Command::find_with_role("archive-p"), Ok((Command::ArchivePush, Role::Main)));
        for command in [Command::ArchivePush, Command::ArchiveGet] {
            assert_eq!(Command::find_with_role(&command.name_in_role(Role::Async)), Ok((command, Role::Async)));
        }
        for name in ["archive-p:async", "backup:async", ":async", "archive-push:local"] {
            assert_eq!(Command::find_with_role(name).unwrap_err().kind(), ErrorKind::CommandInvalid, "{name}");
        }
    }

    #[test]
    fn what_fits_no_command_or_several_is_refused() {
        let bogus = Command::find("bogus").unwrap_err();
        assert_eq!((bogus.kind(), bogus.to_string().as_str()), (ErrorKind::CommandInvalid, "invalid command 'bogus'"));
        assert!(bogus.hints().is_empty());
        let ambiguous = Command::find("archive").unwrap_err();
        assert_eq!(ambiguous.hints(), ["it could be 'archive-get', 'archive-push'"]);
        assert_eq!(Command::find("").unwrap_err().kind(), ErrorKind::CommandInvalid);
    }

    #[test]
    fn parameters_are_counted() {
        let error = |command: Command, given| command.check_parameters(Role::Main, given).unwrap_err().to_string();
        assert_eq!(Command::ArchivePush.check_parameters(Role::Main, 1), Ok(()));
        assert_eq!(error(Command::ArchivePush, 0), "WAL segment to push required");
        assert_eq!(error(Command::ArchiveGet, 0), "WAL segment to get required");
        assert_eq!(error(Command::ArchiveGet, 1), "path to copy WAL segment required");
        assert_eq!(error(Command::ArchiveGet, 3), "extra parameters found");
        assert_eq!(error(Command::Backup, 1), "command does not allow parameters");
        assert_eq!([0, 1].map(|given| Command::RepoLs.check_parameters(Role::Main, given)), [Ok(()), Ok(())]);
        assert_eq!(error(Command::RepoLs, 2), "extra parameters found");
    }
}
