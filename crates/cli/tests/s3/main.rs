//! Repositories in S3.

#![expect(clippy::unwrap_used, reason = "tests, and what they share")]

mod addresses;
#[path = "../common/mod.rs"]
mod common;
mod cuts;
mod faults;
mod identities;
mod incrementals;
mod job;
mod listings;
mod losses;
mod policies;
mod requests;
mod turns;

use std::path::{Path, PathBuf};

use common::{Site, SiteBuilder};
use pgark_testkit::s3::{Moto, S3Server};
use pgark_testkit::{Finished, Server};

/// A site with an encrypted repository in moto, whatever its number.
pub(crate) fn in_moto(builder: SiteBuilder, key: u32, moto: &Moto) -> SiteBuilder {
    let credentials = moto.credentials();
    builder
        .passphrase("a pass phrase")
        .global(&format!("repo{key}-type=s3\nrepo{key}-s3-uri-style=path"))
        .global(&format!("repo{key}-s3-bucket={}\nrepo{key}-s3-region={}", Moto::BUCKET, Moto::REGION))
        .global(&format!("repo{key}-s3-endpoint=http://127.0.0.1:{}", moto.port()))
        .global(&format!("repo{key}-s3-key={}\nrepo{key}-s3-key-secret={}", credentials.access_key, credentials.secret))
}

/// A site with a repository on a server of the tests' own, without credentials.
pub(crate) fn in_server(server: &Server, s3: &S3Server) -> SiteBuilder {
    Site::builder(server)
        .global("repo1-type=s3\nrepo1-s3-uri-style=path")
        .global(&format!("repo1-s3-bucket={}\nrepo1-s3-region={}", S3Server::BUCKET, s3.region()))
        .global(&format!("repo1-s3-endpoint={}", s3.url()))
}

pub(crate) fn with_keys(builder: SiteBuilder, s3: &S3Server) -> SiteBuilder {
    let credentials = s3.credentials();
    builder.global(&format!("repo1-s3-key={}\nrepo1-s3-key-secret={}", credentials.access_key, credentials.secret))
}

/// The first WAL segment of a cluster that does not run.
pub(crate) fn segment_of(site: &Site) -> PathBuf {
    let directory = site.cluster.data_directory().join("pg_wal");
    let files = fs_err::read_dir(directory).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.is_file()).min().expect("a cluster has WAL")
}

/// The name of a file.
pub(crate) fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// What a run has said, in one text.
pub(crate) fn said(finished: &Finished) -> String {
    format!("{}{}", finished.stdout, finished.stderr)
}
