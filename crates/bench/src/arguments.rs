//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::{Arg, ValueExt};

use crate::group::Group;

/// Says what there is to ask for.
pub(crate) const USAGE: &str = "\
usage: pgark-bench [run] --pgark PROGRAM [OPTION...]
       pgark-bench load --directory DIRECTORY [--group NAME] [--quick]
       pgark-bench report [--write-docs]

run measures, prints what it finds and keeps it in the results directory; report prints what is there. load makes the
clusters for a later run and measures nothing, so that the machine need be at rest for the measuring only.

  --pgark PROGRAM         the program to measure
  --pgbackrest PROGRAM    the pgBackRest to measure against
  --garage PROGRAM        the S3 server
  --haproxy PROGRAM       the TLS proxy in front of it (haproxy)
  --latency MILLISECONDS  by so much the proxy holds up each request, as a network and a distant service would (0)
  --group NAME            measure only this; may be repeated: mixed-disk files-disk wal-disk mixed-s3 files-s3 wal-s3
                          wal-async-s3 wal-many-s3 changes-disk
  --quick                 a tenth of the data, one repetition
  --repetitions N         how often each command is measured (3)
  --directory DIRECTORY   work there and keep the clusters for the next run; without it everything is temporary
  --results DIRECTORY     where results are kept (target/bench)
  --write-docs            put the results into docs/benchmarks.md and docs/benchmarks/
";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Help,
    Run(RunRequest),
    Load { directory: PathBuf, groups: Vec<Group>, quick: bool },
    Report { results: PathBuf, write_docs: bool },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunRequest {
    pub(crate) pgark: PathBuf,
    pub(crate) pgbackrest: Option<PathBuf>,
    pub(crate) garage: Option<PathBuf>,
    pub(crate) haproxy: PathBuf,
    pub(crate) latency: Duration,
    pub(crate) groups: Vec<Group>,
    pub(crate) quick: bool,
    pub(crate) repetitions: usize,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) results: PathBuf,
    pub(crate) write_docs: bool,
}

/// Understands a command line.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Request, lexopt::Error> {
    let mut parser = lexopt::Parser::from_args(arguments);
    let mut command = "run".to_owned();
    let mut pgark = None;
    let mut repetitions = None;
    let mut run = RunRequest {
        pgark: PathBuf::new(),
        pgbackrest: None,
        garage: None,
        haproxy: "haproxy".into(),
        latency: Duration::ZERO,
        groups: Vec::new(),
        quick: false,
        repetitions: 0,
        directory: None,
        results: crate::workspace().join("target/bench"),
        write_docs: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Value(value) => command = value.string()?,
            Arg::Long("help") | Arg::Short('h') => return Ok(Request::Help),
            Arg::Long("pgark") => pgark = Some(parser.value()?.into()),
            Arg::Long("pgbackrest") => run.pgbackrest = Some(parser.value()?.into()),
            Arg::Long("garage") => run.garage = Some(parser.value()?.into()),
            Arg::Long("haproxy") => run.haproxy = parser.value()?.into(),
            Arg::Long("latency") => run.latency = Duration::from_millis(parser.value()?.parse()?),
            Arg::Long("group") => run.groups.push(parser.value()?.parse_with(Group::parse)?),
            Arg::Long("quick") => run.quick = true,
            Arg::Long("repetitions") => repetitions = Some(parser.value()?.parse()?),
            Arg::Long("directory") => run.directory = Some(parser.value()?.into()),
            Arg::Long("results") => run.results = parser.value()?.into(),
            Arg::Long("write-docs") => run.write_docs = true,
            other => return Err(other.unexpected()),
        }
    }
    if run.groups.is_empty() {
        run.groups = Group::all();
    }
    match command.as_str() {
        "report" => Ok(Request::Report { results: run.results, write_docs: run.write_docs }),
        "load" => {
            let directory = run.directory.ok_or("the option --directory is missing")?;
            Ok(Request::Load { directory, groups: run.groups, quick: run.quick })
        }
        "run" => {
            run.pgark = pgark.ok_or("the option --pgark is missing")?;
            run.repetitions = repetitions.unwrap_or(if run.quick { 1 } else { 3 });
            Ok(Request::Run(run))
        }
        other => Err(format!("there is no command '{other}'").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Data, Storage};

    fn request(line: &str) -> Result<Request, lexopt::Error> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_quick_run_measures_once_unless_told_otherwise() {
        let run = |line| match request(line) {
            Ok(Request::Run(run)) => run,
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(run("--pgark p").repetitions, 3);
        assert_eq!(run("run --quick --pgark p").repetitions, 1);
        assert_eq!(run("--quick --repetitions=5 --pgark p").repetitions, 5);
        assert_eq!(run("--pgark p --latency 20").latency, Duration::from_millis(20));
        assert_eq!(run("--pgark p --group wal-disk").groups, [Group { data: Data::Wal, storage: Storage::Disk }]);
    }

    #[test]
    fn clusters_are_loaded_only_where_they_stay() {
        let groups = vec![Group { data: Data::Files, storage: Storage::S3 }];
        let load = Request::Load { directory: "d".into(), groups, quick: true };
        assert_eq!(request("load --directory d --group files-s3 --quick").unwrap(), load);
        assert!(request("load --quick").is_err());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for line in [
            "",
            "dance",
            "--pgark p --group moon-disk",
            "--pgark p --repetitions many",
            "--pgark p --latency -1",
            "--pgark p --fast",
        ] {
            assert!(request(line).is_err(), "{line}");
        }
    }
}
