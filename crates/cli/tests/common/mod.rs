//! A cluster that archives by the program under test, with its repository and its configuration file.

#![allow(dead_code, reason = "each file of tests uses its part of this")]

pub(crate) mod forging;
pub(crate) mod measuring;
pub(crate) mod restoring;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;
use pgark_system::lock::FileLock;
use pgark_testkit::{Cluster, Finished, Program, Scratch, Server, as_test_user, faults, run};

/// The stanza of every test.
pub(crate) const STANZA: &str = "demo";

/// A cluster, its configuration file and its repositories, which are all removed with it.
#[derive(Debug)]
pub(crate) struct Site {
    // Dropped first, so that the server does not archive any more when the rest goes.
    pub(crate) cluster: Cluster,
    pub(crate) program: Program,
    pub(crate) scratch: Scratch,
}

/// What a site is to be like.
#[derive(Clone, Debug)]
#[must_use]
pub(crate) struct SiteBuilder {
    server: Server,
    repositories: Vec<Option<PathBuf>>,
    spool: Option<PathBuf>,
    passphrase: Option<String>,
    global: Vec<String>,
    settings: Vec<(String, String)>,
    checksums: bool,
    wal_segment_size_mib: u32,
}

impl SiteBuilder {
    /// With so many repositories; one unless set.
    pub(crate) fn repositories(mut self, count: usize) -> Self {
        self.repositories = vec![None; count];
        self
    }

    /// With the first repository at this place, which is there already.
    pub(crate) fn repository_at(mut self, path: &Path) -> Self {
        self.repositories[0] = Some(path.to_owned());
        self
    }

    /// With the spool at this place, which is there already.
    pub(crate) fn spool_at(mut self, path: &Path) -> Self {
        self.spool = Some(path.to_owned());
        self
    }

    /// With all repositories encrypted.
    pub(crate) fn passphrase(mut self, passphrase: &str) -> Self {
        self.passphrase = Some(passphrase.to_owned());
        self
    }

    /// With a line in the `[global]` section.
    pub(crate) fn global(mut self, line: &str) -> Self {
        self.global.push(line.to_owned());
        self
    }

    /// With a setting of the server.
    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Without page checksums.
    pub(crate) fn without_checksums(mut self) -> Self {
        self.checksums = false;
        self
    }

    /// With WAL segments of so many MiB; of one unless set.
    pub(crate) fn wal_segment_size_mib(mut self, size: u32) -> Self {
        self.wal_segment_size_mib = size;
        self
    }

    /// Makes the cluster and its configuration; the server does not run, and there is no stanza yet.
    pub(crate) fn create(self) -> Site {
        let program = Program::new(env!("CARGO_BIN_EXE_pgark"));
        let scratch = Scratch::new();
        let configuration = scratch.path().join("pgark.conf");
        let archive_command = archive_command(&program, &configuration);
        let mut builder = Cluster::builder(&self.server)
            .wal_segment_size_mib(self.wal_segment_size_mib)
            .checksums(self.checksums)
            .setting("archive_mode", "on")
            .setting("archive_command", &archive_command);
        for (name, value) in &self.settings {
            builder = builder.setting(name, value);
        }
        let cluster = builder.create();
        let text = self.configuration(&scratch, &cluster);
        let file = scratch.write("pgark.conf", text);
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("the mode can be set");
        Site { cluster, program, scratch }
    }

    /// Makes the cluster, starts it and creates the stanza.
    pub(crate) fn start(self) -> Site {
        let mut site = self.create();
        site.cluster.start();
        site.pgark(&["stanza-create"]).expect_success();
        site
    }

    fn configuration(&self, scratch: &Scratch, cluster: &Cluster) -> String {
        let mut lines = vec!["[global]".to_owned()];
        for (index, place) in self.repositories.iter().enumerate() {
            let key = index + 1;
            let path = place.clone().unwrap_or_else(|| scratch.directory(&format!("repository{key}")));
            lines.push(format!("repo{key}-path={}", path.display()));
            if let Some(passphrase) = &self.passphrase {
                lines.push(format!("repo{key}-cipher-type=aes-256-gcm\nrepo{key}-cipher-pass={passphrase}"));
            }
        }
        lines.push(format!("lock-path={}", scratch.directory("lock").display()));
        lines.push(format!("log-path={}", scratch.directory("log").display()));
        let spool = self.spool.clone().unwrap_or_else(|| scratch.directory("spool"));
        lines.push(format!("spool-path={}", spool.display()));
        lines.push("start-fast=y\narchive-timeout=30s\ncompress-level=1\nlog-timestamp=n".to_owned());
        lines.extend(self.global.iter().cloned());
        lines.push(format!("[{STANZA}]\npg1-path={}", cluster.data_directory().display()));
        lines.push(format!("pg1-port={}\npg1-socket-path={}", cluster.port(), cluster.socket_directory().display()));
        lines.join("\n") + "\n"
    }
}

impl Site {
    /// Begins a site on this server.
    pub(crate) fn builder(server: &Server) -> SiteBuilder {
        SiteBuilder {
            server: server.clone(),
            repositories: vec![None],
            spool: None,
            passphrase: None,
            global: Vec::new(),
            settings: Vec::new(),
            checksums: true,
            wal_segment_size_mib: 1,
        }
    }

    /// A running cluster with a stanza in one repository, not encrypted.
    pub(crate) fn start(server: &Server) -> Self {
        Self::builder(server).start()
    }

    /// The directory of the first repository.
    pub(crate) fn repository(&self) -> PathBuf {
        self.scratch.path().join("repository1")
    }

    /// The configuration file.
    pub(crate) fn configuration_file(&self) -> PathBuf {
        self.scratch.path().join("pgark.conf")
    }

    /// The `archive_command` of a server that archives to the stanza.
    pub(crate) fn archive_command(&self) -> String {
        archive_command(&self.program, &self.configuration_file())
    }

    /// Replaces text in the configuration file, which must be there.
    #[track_caller]
    pub(crate) fn reconfigure(&self, before: &str, after: &str) {
        let text = fs::read_to_string(self.configuration_file()).expect("the configuration can be read");
        assert!(text.contains(before), "no '{before}' in the configuration");
        self.scratch.write("pgark.conf", text.replace(before, after));
    }

    /// Makes another cluster that of the site, and gives the one it was.
    pub(crate) fn take_over_by(&mut self, cluster: Cluster) -> Cluster {
        let old = std::mem::replace(&mut self.cluster, cluster);
        let new = &self.cluster;
        for (name, before, after) in [
            ("pg1-path", old.data_directory().to_owned(), new.data_directory().to_owned()),
            ("pg1-socket-path", old.socket_directory(), new.socket_directory()),
        ] {
            self.reconfigure(&format!("{name}={}\n", before.display()), &format!("{name}={}\n", after.display()));
        }
        old
    }

    /// The program with the configuration file and these arguments, not started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program.command();
        command.arg(format!("--config={}", self.configuration_file().display())).args(arguments);
        command
    }

    /// Runs the program on the stanza.
    #[track_caller]
    pub(crate) fn pgark(&self, arguments: &[&str]) -> Finished {
        let stanza = format!("--stanza={STANZA}");
        run(&mut self.command(&[&[stanza.as_str()], arguments].concat()))
    }

    /// Runs the program on the stanza where the server runs it: in the data directory.
    #[track_caller]
    pub(crate) fn pgark_of_server(&self, arguments: &[&str]) -> Finished {
        let stanza = format!("--stanza={STANZA}");
        let mut command = self.command(&[&[stanza.as_str()], arguments].concat());
        run(command.current_dir(self.cluster.data_directory()))
    }

    /// Runs the program on the stanza by a shell: `{}` in `line` stands for it.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str, arguments: &[&str]) -> Finished {
        let stanza = format!("--stanza={STANZA}");
        let command = self.command(&[&[stanza.as_str()], arguments].concat());
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| format!("'{}'", word.display())).collect();
        run(as_test_user(Command::new("bash").args(["-c", &line.replace("{}", &words.join(" "))])))
    }

    /// Takes a backup; gives its label.
    #[track_caller]
    pub(crate) fn backup(&self, arguments: &[&str]) -> String {
        let all = [&["--type=full", "--log-level-console=info"], arguments, &["backup"]].concat();
        let finished = self.pgark(&all).expect_success();
        // Whatever a test does to the cluster, it does it by the server.
        assert!(!finished.stdout.contains("although no WAL names"), "{}", finished.report());
        let label = finished.stdout.lines().find_map(|line| line.split_once("new backup label = "));
        label.unwrap_or_else(|| panic!("no label in {}", finished.report())).1.to_owned()
    }

    /// The paths of all objects of the first repository whose names contain `part`, ascending.
    pub(crate) fn objects(&self, part: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        collect_files(&self.repository(), &mut found);
        found.retain(|path| path.to_string_lossy().contains(part));
        found.sort();
        found
    }

    /// The only object of the first repository whose name contains `part`.
    #[track_caller]
    pub(crate) fn object(&self, part: &str) -> PathBuf {
        let found = self.objects(part);
        assert!(found.len() == 1, "'{part}' is in the repository {} times", found.len());
        found[0].clone()
    }

    /// Makes an object look as if a program of the future had written it.
    pub(crate) fn age(object: &Path) {
        // The version stands in the header and in its copy at the beginning of the trailer: sections 2.1 and 2.4 of
        // docs/format.md.
        let length = fs::metadata(object).expect("the object is there").len();
        faults::flip_byte(object, 8);
        faults::flip_byte(object, length - 192 + 8);
    }

    /// Fills one WAL segment and waits until it is archived; gives its name.
    #[track_caller]
    pub(crate) fn archive_segment(&self) -> String {
        let segment = self.cluster.switch_wal();
        self.cluster.wait_for_archived(&segment);
        segment
    }

    /// Restores the cluster into the new directory `name` and gives the directory. What is restored does not archive,
    /// or restored clusters would fight with the first one over timeline 2 of the archive.
    #[track_caller]
    pub(crate) fn restore(&self, name: &str, arguments: &[&str]) -> PathBuf {
        let directory = self.scratch.path().join(name);
        let path = format!("--pg1-path={}", directory.display());
        let fixed = [path.as_str(), "--recovery-option=archive_mode=off", "restore"];
        self.pgark(&[&fixed[..], arguments].concat()).expect_success();
        directory
    }

    /// Restores the cluster into the new directory `name`, starts it and waits until recovery has ended.
    #[track_caller]
    pub(crate) fn recover(&self, name: &str, arguments: &[&str]) -> Cluster {
        let mut cluster = Cluster::adopt(self.cluster.server(), &self.restore(name, arguments));
        cluster.start();
        cluster.wait_for_sql("select pg_is_in_recovery()", "f");
        cluster
    }

    /// Takes a lock of the program's, as another process that is at work.
    pub(crate) fn hold_lock(&self, name: &str) -> FileLock {
        let path = self.scratch.write(&format!("lock/{name}"), "");
        FileLock::try_acquire(&path).expect("the file can be locked").expect("nobody else has locked it")
    }
}

/// Another host with the same stanza and the same repository: a configuration file of its own, and all else that a host has
/// for itself.
#[derive(Debug)]
pub(crate) struct Host(PathBuf);

impl Host {
    /// A host on which this cluster is.
    pub(crate) fn new(site: &Site, name: &str, cluster: &Cluster) -> Self {
        let text = fs::read_to_string(site.configuration_file()).expect("the configuration can be read");
        let place = |what: &str| site.scratch.directory(&format!("{name}-{what}"));
        let its_own = [
            ("lock-path=", place("lock")),
            ("log-path=", place("log")),
            ("spool-path=", place("spool")),
            ("pg1-path=", cluster.data_directory().to_owned()),
            ("pg1-socket-path=", cluster.socket_directory()),
        ];
        let line = |line: &str| {
            let own = its_own.iter().find(|(option, _)| line.starts_with(option));
            own.map_or_else(|| line.to_owned(), |(option, path)| format!("{option}{}", path.display()))
        };
        let lines: Vec<_> = text.lines().map(line).collect();
        let file = site.scratch.write(&format!("{name}.conf"), lines.join("\n") + "\n");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("the mode can be set");
        Self(file)
    }

    /// The program on this host with these arguments, for the stanza, not started.
    pub(crate) fn command(&self, site: &Site, arguments: &[&str]) -> Command {
        let mut command = site.program.command();
        command.arg(format!("--config={}", self.0.display())).arg(format!("--stanza={STANZA}")).args(arguments);
        command
    }

    /// Runs the program on this host, for the stanza.
    #[track_caller]
    pub(crate) fn pgark(&self, site: &Site, arguments: &[&str]) -> Finished {
        run(&mut self.command(site, arguments))
    }

    /// The `archive_command` of its server.
    pub(crate) fn archive_command(&self, site: &Site) -> String {
        archive_command(&site.program, &self.0)
    }
}

fn archive_command(program: &Program, configuration: &Path) -> String {
    format!("{} --config={} --stanza={STANZA} archive-push %p", program.path().display(), configuration.display())
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("paths of the tests are UTF-8")
}

fn collect_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the directory can be read") {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() { collect_files(&path, found) } else { found.push(path) }
    }
}

/// What differs from run to run, and what stands for it in a snapshot.
pub(crate) const FILTERS: [(&str, &str); 12] = [
    (r"CRC is [0-9A-F]{1,8} where [0-9A-F]{1,8} ", "CRC is [one] where [another] "),
    (r"(/[\w.-]+)*/pgark-test-[0-9a-f]{8}/[0-9a-f]{8}", "[scratch]"),
    (r"\b[0-9A-HJKMNP-TV-Z]{26}\b", "[ulid]"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?([+-]\d\d)?", "[time]"),
    (r"\d{8}-\d{6}F", "[label]"),
    (r"\b[0-9A-F]{24}\b", "[segment]"),
    (r"\b[0-9A-F]{1,8}/[0-9A-F]{1,8}\b", "[lsn]"),
    (r"\b\d+(\.\d)?(B|KB|MB|GB)\b", "[size]"),
    (r"\b\d{16,20}\b", "[system-id]"),
    (r"\b\d{10}\b", "[timestamp]"),
    (r"\(\d+ms\)", "([duration])"),
    // What the server does by itself may end a transaction or not.
    (r"recovery window: \[time\] / no transaction", "recovery window: [time] / [time]"),
];

/// What several runs of the program said, one below the other, for a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Transcript(Vec<String>);

impl Transcript {
    /// Adds what a run said, which must have ended with this exit code.
    #[track_caller]
    pub(crate) fn add(&mut self, title: &str, code: i32, finished: Finished) {
        let Finished { stdout, stderr, .. } = finished.expect_code(code);
        self.0.push(format!("# {title}: exit code {code}"));
        for (stream, text) in [("stdout", stdout), ("stderr", stderr)] {
            if !text.is_empty() {
                self.0.push(format!("{stream}:\n{}", text.trim_end_matches('\n')));
            }
        }
        self.0.push(String::new());
    }

    /// The text.
    pub(crate) fn text(&self) -> String {
        self.0.join("\n")
    }
}

/// Compares text with the snapshot of this name, leaving out what differs from run to run.
#[macro_export]
macro_rules! assert_output {
    ($name:literal, $text:expr) => {
        insta::with_settings!({ filters => $crate::common::FILTERS.to_vec(), omit_expression => true }, {
            insta::assert_snapshot!($name, $text);
        })
    };
}
