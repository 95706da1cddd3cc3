//! What the table says about one option, and the words it is written in.

use crate::command::Command;

/// An option, as one or more commands take it.
///
/// Where commands give an option of one name a different meaning, each meaning is a definition of its own: for any
/// command a name has at most one. Values are kept by name, so any of the definitions of a name reads them.
#[derive(Debug)]
pub struct Definition {
    /// The name without an index, for example `repo-path`.
    pub(crate) name: &'static str,
    /// What it is for: a few words, lower-case, no full stop.
    pub(crate) summary: &'static str,
    /// What it is for, in full. Paragraphs are parted by an empty line.
    pub(crate) description: &'static str,
    pub(crate) section: Section,
    pub(crate) place: Place,
    /// Set when the option exists once for each repository, cluster or sidecar.
    pub(crate) group: Option<Group>,
    pub(crate) kind: Kind,
    /// The commands that take it with this meaning.
    pub(crate) commands: &'static [Command],
    /// The default, written as a user would write it.
    pub(crate) default: Option<&'static str>,
    /// Whether the commands refuse to run without it.
    pub(crate) required: bool,
    pub(crate) dependency: Option<Dependency>,
    /// Older names, with `?` where they take an index. A name without `?` stands for index 1.
    pub(crate) deprecated: &'static [&'static str],
    pub(crate) status: Status,
}

/// Whether an option does anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It works.
    Now,
    /// A later version brings it. On the command line it is refused.
    Later {
        /// Whether files and the environment may set it, with a warning. Where doing without it would do something
        /// else than was asked, it is refused wherever it comes from.
        ignorable: bool,
    },
    /// It is taken everywhere and changes nothing, for this reason.
    NoEffect(&'static str),
}

/// Where an option may be set, other than on the command line and in the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere else.
    CommandLine,
    /// In every section of a configuration file.
    Global,
    /// In the sections of a stanza.
    Stanza,
    /// In the sections of a command: what is set for several commands, there or in the environment, is not meant for
    /// this one.
    Command,
}

/// What an option exists once for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// `pg1-`, `pg2-`: a cluster.
    Cluster,
    /// `repo1-`, `repo2-`: a repository.
    Repository,
    /// `sidecar-models-`, `sidecar-fonts-`: a directory that is backed up with the cluster.
    Sidecar,
}

impl Group {
    /// What stands before the index in the name of an option.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Cluster => "pg",
            Self::Repository => "repo",
            Self::Sidecar => "sidecar",
        }
    }

    /// What stands for the index in the name of an option.
    pub(crate) fn placeholder(self) -> &'static str {
        match self {
            Self::Cluster | Self::Repository => "N",
            Self::Sidecar => "-NAME",
        }
    }
}

/// What an option may be set to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Boolean,
    Integer { minimum: i64, maximum: i64 },
    Size(Limits),
    Duration(Limits),
    Choice(&'static [Choice]),
    Text,
    Secret,
    Path,
    List,
    Map,
}

impl Kind {
    /// Whether the option may be given several times.
    pub(crate) fn is_multiple(self) -> bool {
        matches!(self, Self::List | Self::Map)
    }
}

/// The least and the greatest value, both included, as a user would write them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) minimum: &'static str,
    pub(crate) maximum: &'static str,
}

/// One of the values that an option can have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) value: &'static str,
    pub(crate) meaning: &'static str,
    /// Whether it works; if not, a later version brings it.
    pub(crate) available: bool,
}

/// Another option that must be set for this one to mean anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dependency {
    /// The other option. Where both are indexed, it is the one of the same index.
    pub(crate) on: &'static str,
    /// The values of the other option that will do; where there are none, any value will.
    pub(crate) values: &'static [&'static str],
    /// The value this option has when the other does not fit.
    pub(crate) otherwise: Option<&'static str>,
}

impl Dependency {
    /// What must hold, for the help and the reference: `type is one of lsn, time`. Names and values are written by
    /// `code`.
    pub(crate) fn condition(self, code: fn(&str) -> String) -> String {
        let other = super::all().find(|definition| definition.name == self.on);
        let name = code(&other.map_or_else(|| self.on.to_owned(), Definition::display_name));
        match self.values {
            [] => format!("{name} is set"),
            [only] => format!("{name} is {}", code(only)),
            several => {
                let values: Vec<_> = several.iter().map(|value| code(value)).collect();
                format!("{name} is one of {}", values.join(", "))
            }
        }
    }
}

/// A chapter of the reference. The help has fewer; see [`Section::help_title`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    Command,
    Agent,
    Archive,
    Backup,
    Restore,
    Sidecar,
    Server,
    General,
    Log,
    Maintainer,
    Repository,
    Retention,
    RepositoryHost,
    Storage,
    Azure,
    Gcs,
    S3,
    Sftp,
    Stanza,
    ClusterHost,
}

impl Section {
    /// Every section, in the order of the reference.
    pub(crate) const ALL: [Self; 20] = [
        Self::General,
        Self::Log,
        Self::Stanza,
        Self::Repository,
        Self::Command,
        Self::Archive,
        Self::Backup,
        Self::Restore,
        Self::Sidecar,
        Self::Retention,
        Self::Agent,
        Self::Storage,
        Self::Azure,
        Self::Gcs,
        Self::S3,
        Self::Sftp,
        Self::RepositoryHost,
        Self::ClusterHost,
        Self::Server,
        Self::Maintainer,
    ];

    /// The title in the reference.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Command => "Options of single commands",
            Self::Agent => "Agent",
            Self::Archive => "Archive",
            Self::Backup => "Backup",
            Self::Restore => "Restore",
            Self::Sidecar => "Sidecars",
            Self::Server => "Server",
            Self::General => "General",
            Self::Log => "Log",
            Self::Maintainer => "Forks of PostgreSQL",
            Self::Repository => "Repository",
            Self::Retention => "Retention",
            Self::RepositoryHost => "Repository host",
            Self::Storage => "Object storage",
            Self::Azure => "Azure",
            Self::Gcs => "Google Cloud Storage",
            Self::S3 => "S3",
            Self::Sftp => "SFTP",
            Self::Stanza => "Stanza",
            Self::ClusterHost => "Cluster host",
        }
    }

    /// The title in the help of a command, which is pgBackRest's.
    pub(crate) fn help_title(self) -> &'static str {
        match self {
            Self::Command
            | Self::Agent
            | Self::Archive
            | Self::Backup
            | Self::Restore
            | Self::Sidecar
            | Self::Server => "Command",
            Self::General => "General",
            Self::Log => "Log",
            Self::Maintainer => "Maintainer",
            Self::Stanza | Self::ClusterHost => "Stanza",
            Self::Repository
            | Self::Retention
            | Self::RepositoryHost
            | Self::Storage
            | Self::Azure
            | Self::Gcs
            | Self::S3
            | Self::Sftp => "Repository",
        }
    }

    /// How the names of all options of this section begin, where they do alike.
    pub(crate) fn family(self) -> Option<&'static str> {
        match self {
            Self::RepositoryHost => Some("repoN-host*"),
            Self::Storage => Some("repoN-storage-*"),
            Self::Azure => Some("repoN-azure-*"),
            Self::Gcs => Some("repoN-gcs-*"),
            Self::S3 => Some("repoN-s3-*"),
            Self::Sftp => Some("repoN-sftp-*"),
            _ => None,
        }
    }
}

/// A value that works.
pub(super) const fn now(value: &'static str, meaning: &'static str) -> Choice {
    Choice { value, meaning, available: true }
}

/// A value that a later version brings.
pub(super) const fn later(value: &'static str, meaning: &'static str) -> Choice {
    Choice { value, meaning, available: false }
}

pub(super) const fn of(kind: Kind) -> Definition {
    Definition {
        name: "",
        summary: "",
        description: "",
        section: Section::General,
        place: Place::Global,
        group: None,
        kind,
        commands: &[],
        default: None,
        required: false,
        dependency: None,
        deprecated: &[],
        status: Status::Now,
    }
}

/// A boolean with a default, `y` or `n`.
pub(super) const fn boolean(default: &'static str) -> Definition {
    of(Kind::Boolean).default(default)
}

pub(super) const fn integer(minimum: i64, maximum: i64) -> Definition {
    of(Kind::Integer { minimum, maximum })
}

pub(super) const fn size(minimum: &'static str, maximum: &'static str) -> Definition {
    of(Kind::Size(Limits { minimum, maximum }))
}

pub(super) const fn duration(minimum: &'static str, maximum: &'static str) -> Definition {
    of(Kind::Duration(Limits { minimum, maximum }))
}

pub(super) const fn choice(choices: &'static [Choice]) -> Definition {
    of(Kind::Choice(choices))
}

pub(super) const fn text() -> Definition {
    of(Kind::Text)
}

pub(super) const fn secret() -> Definition {
    of(Kind::Secret)
}

pub(super) const fn path() -> Definition {
    of(Kind::Path)
}

pub(super) const fn list() -> Definition {
    of(Kind::List)
}

pub(super) const fn map() -> Definition {
    of(Kind::Map)
}

impl Definition {
    /// Names and explains the option, and says where it belongs.
    pub(super) const fn described(
        mut self,
        section: Section,
        name: &'static str,
        summary: &'static str,
        description: &'static str,
    ) -> Self {
        self.section = section;
        self.name = name;
        self.summary = summary;
        self.description = description;
        self
    }

    pub(super) const fn of(mut self, commands: &'static [Command]) -> Self {
        self.commands = commands;
        self
    }

    pub(super) const fn default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    pub(super) const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) const fn on_command_line(mut self) -> Self {
        self.place = Place::CommandLine;
        self
    }

    pub(super) const fn in_stanza(mut self) -> Self {
        self.place = Place::Stanza;
        self
    }

    pub(super) const fn for_command_alone(mut self) -> Self {
        self.place = Place::Command;
        self
    }

    pub(super) const fn each_repository(mut self) -> Self {
        self.group = Some(Group::Repository);
        self
    }

    pub(super) const fn each_cluster(mut self) -> Self {
        self.group = Some(Group::Cluster);
        self.place = Place::Stanza;
        self
    }

    pub(super) const fn each_sidecar(mut self) -> Self {
        self.group = Some(Group::Sidecar);
        self.place = Place::Stanza;
        self
    }

    pub(super) const fn needs(self, on: &'static str, values: &'static [&'static str]) -> Self {
        self.needs_or(on, values, None)
    }

    pub(super) const fn needs_or(
        mut self,
        on: &'static str,
        values: &'static [&'static str],
        otherwise: Option<&'static str>,
    ) -> Self {
        self.dependency = Some(Dependency { on, values, otherwise });
        self
    }

    pub(super) const fn once_called(mut self, deprecated: &'static [&'static str]) -> Self {
        self.deprecated = deprecated;
        self
    }

    pub(super) const fn later(mut self) -> Self {
        self.status = Status::Later { ignorable: true };
        self
    }

    pub(super) const fn later_never_ignored(mut self) -> Self {
        self.status = Status::Later { ignorable: false };
        self
    }

    pub(super) const fn no_effect(mut self, reason: &'static str) -> Self {
        self.status = Status::NoEffect(reason);
        self
    }
}
