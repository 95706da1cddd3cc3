//! Options that most commands take.

use super::commands::{
    COMPRESSING, CONNECTING, CREATING_FILES, KNOWING_VERSION, LOCKING, MOVING_DATA, PARALLEL, USING_REPOSITORY,
    WAITING_FOR_LOCK, WORKING,
};
use super::definition::{boolean, choice, duration, integer, now, path, size, text};
use super::options;
use crate::command::Command::{
    Agent, Annotate, ArchiveGet, ArchivePush, Backup, Check, Expire, Help, Info, RepoGet, RepoLs, Restore, Schedule,
    StanzaCreate, StanzaDelete, StanzaUpgrade, Start, Stop, Verify,
};

const STANZA_DESCRIPTION: &str = "A stanza is one PostgreSQL cluster as pgark knows it: where it lies, how it is \
     backed up and archived. Its name is also the name of its section in the configuration file.\n\n\
     Name it after what the cluster is for, not after a host: primary and standbys share one stanza.";

const NETWORK_LIMIT_DESCRIPTION: &str = "Counts what requests and answers hold, in both directions together, for \
     repositories that are reached over the network, as in S3. All workers and repositories share it. A repository in a \
     mounted file system is a directory like any other: see io-limit.\n\n\
     Archiving must keep up with PostgreSQL, so a limit for all commands does not hold for archive-push and \
     archive-get: only one in a section of theirs, as [global:archive-push], or on their command line.";

const OWN_CHOICE: &str = "pgark chooses its buffers and its protocol itself";
const OWN_CONNECTIONS: &str = "pgark sets up its connections itself, with keep-alive";
const NO_HELPERS: &str = "pgark works in threads of one process; there are no helper processes";

options! {
    [General]

    STANZA, "stanza", "the stanza to work on", STANZA_DESCRIPTION
        => text().on_command_line().required().of(&[
            Annotate, ArchiveGet, ArchivePush, Backup, Expire, Restore, StanzaCreate, StanzaDelete, StanzaUpgrade,
            Verify,
        ]);

    STANZA_IF_ANY, "stanza", "the stanza to work on; without it all stanzas", STANZA_DESCRIPTION
        => text().on_command_line().of(&[Agent, Check, Info, RepoGet, RepoLs, Schedule, Start, Stop]);

    CONFIG, "config", "the configuration file",
        "The file must exist. No other file is read then, and the include directory only if --config-include-path or \
         --config-path is given too.\n\n\
         Without it the first of these is read: /etc/pgark/pgark.conf, /etc/pgbackrest/pgbackrest.conf, \
         /etc/pgbackrest.conf. With --no-config none is."
        => text().on_command_line().default("/etc/pgark/pgark.conf").of(WORKING);

    CONFIG_INCLUDE_PATH, "config-include-path", "a directory of more configuration files",
        "Every file in it that ends in .conf is read, in the order of the names, as if it were appended to the \
         configuration file. The directory must exist if it is given here.\n\n\
         Without it conf.d beside the configuration file is read: /etc/pgark/conf.d or /etc/pgbackrest/conf.d."
        => path().on_command_line().default("/etc/pgark/conf.d").of(WORKING);

    CONFIG_PATH, "config-path", "the directory of configuration file and include directory",
        "Looks for pgark.conf (else pgbackrest.conf) and conf.d in this directory instead of the default ones. Neither \
         has to exist."
        => path().on_command_line().default("/etc/pgark").of(WORKING);

    LOCK_PATH, "lock-path", "the directory of lock files",
        "Locks keep two commands on this host from working against each other. Every pgark on the host must be given \
         the same directory."
        => path().default("/tmp/pgark").of(LOCKING);

    LOCK_WAIT, "lock-wait", "how long to wait for another command",
        "A command that finds another at work on its stanza and repository is refused at once (50), and told who that is and \
         how far. With this it waits until the other has ended, or this time is over."
        => duration("0", "7d").default("0").of(WAITING_FOR_LOCK);

    PROCESS_MAX, "process-max", "how many workers compress and move data",
        "More workers make a command faster until disk, network or processors are used up. On a database host leave \
         some for PostgreSQL."
        => integer(1, 999).default("1").of(PARALLEL);

    COMPRESS_TYPE, "compress-type", "how files are compressed",
        "gz and bz2 are taken so that an existing configuration file works, and stored as zst. Data that does not \
         shrink is stored as it is."
        => choice(&[
            now("none", "not at all"),
            now("bz2", "taken as zst"),
            now("gz", "taken as zst"),
            now("lz4", "faster than zst, and larger"),
            now("zst", "Zstandard"),
        ]).default("zst").of(COMPRESSING);

    COMPRESS_LEVEL, "compress-level", "how hard to compress",
        "For zst -7 to 22, 3 if not set. Pages of tables, indexes and vectors are arranged in other ways before, so that \
         more repeats in them; what then comes to as little at a lower level as it would have come to at this one is \
         compressed there, which is faster. lz4 has one level only. A level that belongs to gz (-1 to 9) or bz2 (1 to 9) \
         is not carried over to zst, whose default is used."
        => integer(-7, 22).needs("compress-type", &["bz2", "gz", "lz4", "zst"]).of(COMPRESSING);

    COMPRESS, "compress", "whether files are compressed",
        "An old option: n is compress-type=none, y changes nothing. Use compress-type, which comes first where both \
         are set."
        => boolean("y").of(COMPRESSING);

    DB_TIMEOUT, "db-timeout", "how long a query may take",
        "Holds for every query to PostgreSQL, the ones that start and stop a backup included, which wait for a \
         checkpoint unless start-fast is set."
        => duration("100ms", "7d").default("30m").of(CONNECTING);

    IO_TIMEOUT, "io-timeout", "how long a connection may make no progress",
        "Holds for connecting and for each read and write on a connection to a storage, not for a whole transfer. A \
         request that fails in a way that may pass is sent again, with growing waits, for up to twice as long; but for \
         10 seconds only to a host that has never answered."
        => duration("100ms", "1h").default("1m").of(MOVING_DATA);

    NEUTRAL_UMASK, "neutral-umask", "whether the umask is set to 0000",
        "So that files get the modes pgark means them to have (0640, directories 0750) whatever the user's umask is. \
         With n the user's umask holds."
        => boolean("y").of(CREATING_FILES);

    HELP, "help", "show help",
        "`pgark --help` is `pgark help`, and `pgark backup --help` is `pgark help backup`."
        => boolean("n").on_command_line().of(&[Help]);

    VERSION, "version", "show the version",
        "`pgark --version` is `pgark version`."
        => boolean("n").on_command_line().of(&[Help]);

    PRIORITY, "priority", "the priority of the process",
        "What the kernel's scheduler calls niceness: with a positive number the program gives way to others wherever \
         there are not processors enough for all. Only root, as a rule, may ask for more than a process has already."
        => integer(-20, 19).of(WORKING);

    IO_LIMIT, "io-limit", "how many bytes a second are read from and written to the cluster's disk",
        "Holds a backup back in reading the cluster, and a restore in writing it and, with --delta, in reading what is \
         there. All workers share it. What a repository on a local disk takes is not counted, as it may be another \
         disk."
        => size("64KiB", "1PiB").of(&[Backup, Restore]);

    NETWORK_LIMIT, "network-limit", "how many bytes a second are sent to and received from repositories",
        NETWORK_LIMIT_DESCRIPTION
        => size("64KiB", "1PiB").of(&[Backup, RepoGet, Restore, Verify]);

    NETWORK_LIMIT_OF_ARCHIVING, "network-limit",
        "how many bytes a second are sent to and received from repositories", NETWORK_LIMIT_DESCRIPTION
        => size("64KiB", "1PiB").for_command_alone().of(&[ArchiveGet, ArchivePush]);

    SPOOL_PATH, "spool-path", "the directory of asynchronous archiving",
        "Where asynchronous archive-push leaves word of what is stored and asynchronous archive-get keeps segments it \
         has fetched ahead. It belongs on a local disk, best on the one that pg_wal is on: then a segment is moved, not \
         copied. Losing its contents does no harm."
        => path().default("/var/spool/pgark").of(&[ArchiveGet, ArchivePush]);

    SPOOL_PATH_OF_RESTORE, "spool-path", "the directory of asynchronous archiving",
        "pgBackRest's restore empties it."
        => path().of(&[Restore]).no_effect("pgark finds out by itself whether what is in the spool is of use");

    TLS_CIPHER_12, "tls-cipher-12", "the cipher suites for TLS 1.2",
        "Holds for every TLS connection. Without it the default of the TLS library holds."
        => text().of(MOVING_DATA).later();

    TLS_CIPHER_13, "tls-cipher-13", "the cipher suites for TLS 1.3",
        "Holds for every TLS connection. Without it the default of the TLS library holds."
        => text().of(MOVING_DATA).later();

    ALLOW_ROOT, "allow-root", "whether root may run the command",
        "pgBackRest refuses most commands to root. pgark does not: files it creates belong to the user who runs it."
        => boolean("n").of(WORKING).no_effect("pgark does not refuse to run as root");

    BETA, "beta", "whether beta features may be enabled",
        "pgBackRest asks for it before a feature in test can be used."
        => boolean("n").of(WORKING).no_effect("pgark has no features that would ask for it");

    BUFFER_SIZE, "buffer-size", "the size of read and write buffers",
        "pgark sizes its buffers by the work at hand and bounds them itself."
        => size("16KiB", "16MiB").of(MOVING_DATA).no_effect(OWN_CHOICE);

    COMPRESS_LEVEL_NETWORK, "compress-level-network", "how hard to compress what is sent to another host",
        "pgBackRest compresses between hosts when files are stored uncompressed."
        => integer(-5, 12).of(USING_REPOSITORY).no_effect(OWN_CHOICE);

    PROTOCOL_TIMEOUT, "protocol-timeout", "how long pgBackRest's processes wait for each other",
        "pgark has no processes that talk with each other."
        => duration("100ms", "7d").of(MOVING_DATA).no_effect(OWN_CHOICE);

    CMD, "cmd", "the program that generated commands call",
        "The restore_command that restore writes calls the program by the path it runs from."
        => text().of(PARALLEL).no_effect("pgark writes the path it was started from");

    CMD_SSH, "cmd-ssh", "the ssh client",
        "pgBackRest reaches other hosts by it."
        => text().of(USING_REPOSITORY).no_effect("pgark starts no ssh client");

    EXEC_ID, "exec-id", "an identifier of the process",
        "pgBackRest hands it to its helper processes."
        => text().on_command_line().of(WORKING).no_effect(NO_HELPERS);

    JOB_RETRY, "job-retry", "how often a job is tried again",
        "pgark decides where an error occurs whether trying again can help."
        => integer(0, 360).of(PARALLEL).no_effect(NO_HELPERS);

    JOB_RETRY_INTERVAL, "job-retry-interval", "the time between two tries of a job",
        "pgark decides where an error occurs whether trying again can help."
        => duration("0s", "15m").of(PARALLEL).no_effect(NO_HELPERS);

    SCK_BLOCK, "sck-block", "whether sockets block",
        "A setting of connections to other hosts and to object storage."
        => boolean("n").of(MOVING_DATA).no_effect(OWN_CONNECTIONS);

    SCK_KEEP_ALIVE, "sck-keep-alive", "whether connections are kept alive",
        "A setting of connections to other hosts and to object storage."
        => boolean("y").of(MOVING_DATA).no_effect(OWN_CONNECTIONS);

    TCP_KEEP_ALIVE_COUNT, "tcp-keep-alive-count", "how many lost keep-alive messages end a connection",
        "A setting of connections to other hosts and to object storage."
        => integer(1, 32).of(MOVING_DATA).no_effect(OWN_CONNECTIONS);

    TCP_KEEP_ALIVE_IDLE, "tcp-keep-alive-idle", "after how many idle seconds keep-alive messages begin",
        "A setting of connections to other hosts and to object storage."
        => integer(1, 3600).of(MOVING_DATA).no_effect(OWN_CONNECTIONS);

    TCP_KEEP_ALIVE_INTERVAL, "tcp-keep-alive-interval", "the seconds between two keep-alive messages",
        "A setting of connections to other hosts and to object storage."
        => integer(1, 900).of(MOVING_DATA).no_effect(OWN_CONNECTIONS);

    [Maintainer]

    ARCHIVE_HEADER_CHECK, "archive-header-check", "whether WAL headers are checked",
        "Compares the version and the system identifier in the header of a segment with the stanza, so that a segment \
         of another cluster is refused. Turn it off only for a fork of PostgreSQL whose headers differ."
        => boolean("y").of(&[ArchivePush]);

    PAGE_HEADER_CHECK, "page-header-check", "whether page headers are checked",
        "pgBackRest checks page headers beside page checksums."
        => boolean("y").of(&[Backup]).no_effect("pgark checks a page's header as part of its checksum");

    PG_VERSION_FORCE, "pg-version-force", "the version of PostgreSQL to assume",
        "Used in place of the version that pg_control and WAL headers tell, for forks that tell something else."
        => text().in_stanza().of(KNOWING_VERSION).later();
}
