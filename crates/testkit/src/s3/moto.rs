//! moto, an S3 server in Python.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::certificate;
use super::state::Credentials;
use crate::Scratch;
use crate::server::python_packages;

/// Serves on a free port, which it prints, until its standard input ends, and with it the test. Its arguments are the
/// bucket to create, whether it has Object Lock and a default retention, and for TLS the files with certificate and key.
///
/// moto looks at a condition and writes in two steps, so that of writers that race several may win: requests are carried
/// out one at a time.
const PROGRAM: &str = r#"
import sys, threading
from werkzeug.serving import make_server
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
bucket, lock, *tls = sys.argv[1:]
s3 = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
made = s3.create_bucket(bucket, "us-east-1")
if lock == "lock":
    made.object_lock_enabled = True
    made.versioning_status = "Enabled"
    s3.put_object_lock_configuration(bucket, True, "GOVERNANCE", 1, 0)
moto = DomainDispatcherApplication(create_backend_app)
one_at_a_time = threading.Lock()
def application(environ, start_response):
    with one_at_a_time:
        return list(moto(environ, start_response))
server = make_server("127.0.0.1", 0, application, threaded=True, ssl_context=tuple(tls) or None)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_port, flush=True)
sys.stdin.read()
"#;

/// A moto server with one empty bucket, which ends with this value. `scripts/setup-moto` installs it.
///
/// A process of tests starts its own: it takes a second, and there are few that need one.
#[derive(Debug)]
pub struct Moto {
    process: Child,
    port: u16,
    authority: Option<PathBuf>,
    credentials: Credentials,
    _scratch: Scratch,
}

impl Moto {
    /// The bucket that is there from the beginning.
    pub const BUCKET: &str = "bucket";

    /// The region it is in.
    pub const REGION: &str = "us-east-1";

    /// Starts it over plain HTTP.
    pub fn start() -> Self {
        Self::launch(false, false)
    }

    /// Starts it over plain HTTP, with a bucket that has Object Lock, and keeps every version for a day.
    pub fn start_with_object_lock() -> Self {
        Self::launch(false, true)
    }

    /// Starts it with TLS, and a certificate of an authority of its own for its address.
    pub fn start_https() -> Self {
        Self::launch(true, false)
    }

    /// Where it and Amazon's client for Python (boto3) are installed, for `PYTHONPATH`.
    pub fn directory() -> PathBuf {
        python_packages("moto")
    }

    fn launch(https: bool, object_lock: bool) -> Self {
        let scratch = Scratch::new();
        let mut command = Command::new("python3");
        command.env("PYTHONPATH", Self::directory()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.args(["-c", PROGRAM, Self::BUCKET, if object_lock { "lock" } else { "" }]);
        let authority = https.then(|| {
            let certificate = certificate::make(&["127.0.0.1".to_owned(), "localhost".to_owned()]);
            command.arg(scratch.write("moto.crt", &certificate.chain));
            command.arg(scratch.write("moto.key", &certificate.key));
            scratch.write("ca.crt", &certificate.authority)
        });
        let log = scratch.path().join("moto.log");
        let errors = fs_err::File::create(&log).expect("a scratch file can be written");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors.into_file());
        let mut process = command.spawn().expect("python3 is installed");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("standard output is piped");
        let _bytes = BufReader::new(stdout).read_line(&mut line).expect("a pipe can be read");
        let Ok(port) = line.trim().parse() else {
            panic!("moto did not start: {}", fs_err::read_to_string(&log).unwrap_or_default());
        };
        Self { process, port, authority, credentials: Credentials::new("Moto"), _scratch: scratch }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Credentials; it does not check them.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The certificate of its authority, in a file that the test user can read. Panics where it has none.
    #[track_caller]
    pub fn authority(&self) -> &Path {
        self.authority.as_deref().expect("the server has TLS")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}
