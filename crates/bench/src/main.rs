//! Measures pgark side by side with pgBackRest and `pg_basebackup`: what `make bench` runs. docs/benchmarks.md says
//! what is compared and how it is kept fair.

mod archive_group;
mod arguments;
mod bench;
mod change_group;
mod cluster_group;
mod dataset;
mod files;
mod group;
mod limits;
mod machine;
mod measure;
mod object_store;
mod place;
mod process_tree;
mod progress;
mod queue_group;
mod random;
mod recorder;
mod report;
mod repository;
mod result;
mod tool;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fs_err as fs;
use pgark_system::lock::FileLock;
use pgark_testkit::{Scratch, Server, give_to_test_user};

use crate::arguments::{Request, RunRequest, USAGE};
use crate::bench::Bench;
use crate::dataset::Dataset;
use crate::group::{Group, Peer};
use crate::object_store::Programs;
use crate::tool::Tool;

/// The server whose clusters are measured: the one most distributions had when this was written, with a
/// `pg_basebackup` that compresses with zstd.
const SERVER_MAJOR: u32 = 15;

fn main() -> ExitCode {
    let done = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(request) => serve(request),
        Err(error) => Err(io::Error::other(format!("{error}\n{USAGE}"))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::tell(&format!("pgark-bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn serve(request: Request) -> io::Result<()> {
    match request {
        Request::Help => io::stdout().write_all(USAGE.as_bytes()),
        Request::Load { directory, groups, quick } => load(&directory, &groups, quick),
        Request::Report { results, write_docs } => report::report(&results, write_docs),
        Request::Run(request) => {
            run(&request)?;
            report::report(&request.results, request.write_docs)
        }
    }
}

fn run(request: &RunRequest) -> io::Result<()> {
    measure::adopt_orphans()?;
    let scratch = Scratch::new();
    let base = request.directory.clone().unwrap_or_else(|| scratch.path().join("bench"));
    let (datasets, _lock) = datasets_in(&base)?;
    let work = base.join("work");
    files::remove(&work)?;
    fs::create_dir(&work)?;
    give_to_test_user(&work);
    let bench = Bench {
        server: Server::get(SERVER_MAJOR),
        tools: install_tools(request, &work)?,
        object_store: request.garage.clone().map(|garage| Programs {
            garage,
            haproxy: request.haproxy.clone(),
            latency: request.latency,
        }),
        datasets,
        work,
        quick: request.quick,
        repetitions: request.repetitions,
    };
    for group in &request.groups {
        result::write(&request.results, &bench.measure(*group)?)?;
    }
    files::remove(&bench.work)
}

/// Makes the clusters of these groups, where they are not there yet.
fn load(base: &Path, groups: &[Group], quick: bool) -> io::Result<()> {
    let (datasets, _lock) = datasets_in(base)?;
    let server = Server::get(SERVER_MAJOR);
    for group in groups {
        Dataset::ensure(group.data, quick, &server, &datasets)?;
    }
    Ok(())
}

/// Where the clusters lie below `base`, which nobody else uses as long as the lock is held.
fn datasets_in(base: &Path) -> io::Result<(PathBuf, FileLock)> {
    let datasets = base.join("clusters");
    fs::create_dir_all(&datasets)?;
    let lock = FileLock::try_acquire(&base.join("lock"))?;
    let lock = lock.ok_or_else(|| io::Error::other(format!("another run uses '{}'", base.display())))?;
    Ok((datasets, lock))
}

fn install_tools(request: &RunRequest, work: &Path) -> io::Result<Vec<Tool>> {
    let directory = work.join("programs");
    fs::create_dir(&directory)?;
    let mut tools = vec![Tool::install(Peer::Pgark, &request.pgark, &directory)?];
    match &request.pgbackrest {
        Some(program) => tools.push(Tool::install(Peer::PgBackRest, program, &directory)?),
        None => progress::tell("NOT COMPARED with pgBackRest: --pgbackrest names none"),
    }
    Ok(tools)
}

/// The directory of the whole project.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
