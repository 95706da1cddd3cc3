//! An S3 server on loopback: Garage, which speaks plain HTTP, and `HAProxy` in front of it, which adds TLS and counts.

use std::fmt::Write;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fs_err as fs;
use pgark_system::random;
use pgark_testkit::{as_test_user, give_to_test_user, run, wait_until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::measure::Traffic;

const BUCKET: &str = "bench";
const REGION: &str = "garage";
/// How the proxy is taught to hold up requests.
const HOLD: &str = "core.register_action('hold', {'http-req'}, function(transaction) ";
/// How much the proxy passes on at once: several records of TLS, so that it does not wake Garage for each.
const PROXY_BUFFER_BYTES: usize = 128 << 10;
/// Where Garage listens. Between it and the proxy TCP would wait 40 ms in each answer: the one sends no more before what
/// it sent is acknowledged (Nagle), the other acknowledges late.
const API_SOCKET: &str = "api.socket";

/// The programs that make an object store.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) garage: PathBuf,
    pub(crate) haproxy: PathBuf,
    /// By how much the proxy holds up each request.
    pub(crate) latency: Duration,
}

impl Programs {
    /// Such as `2.5.0`, from `garage cargo:2.5.0 [features: ...]`.
    pub(crate) fn garage_version(&self) -> String {
        let answer = run(Command::new(&self.garage).arg("--version")).expect_success().stdout;
        answer.split_whitespace().nth(1).unwrap_or_default().trim_start_matches("cargo:").to_owned()
    }
}

/// An object store with an empty bucket. It ends with this value, and with this process however that ends.
#[derive(Debug)]
pub(crate) struct ObjectStore {
    directory: PathBuf,
    servers: Vec<Child>,
    port: u16,
    key: String,
    secret: String,
}

impl ObjectStore {
    /// Starts one that keeps everything in `directory`, and waits until it answers.
    pub(crate) fn start(programs: &Programs, directory: &Path) -> io::Result<Self> {
        let [rpc_port, port] = free_ports()?;
        let (key, secret) = (format!("GK{}", hexadecimal::<12>()?), hexadecimal::<32>()?);
        let mut store = Self { directory: directory.to_owned(), servers: Vec::new(), port, key, secret };
        store.write("garage.toml", &garage_configuration(directory, rpc_port, &hexadecimal::<32>()?))?;
        let certificate = Certificate::make().map_err(io::Error::other)?;
        store.write("authority.pem", &certificate.authority)?;
        store.write("server.pem", &certificate.chain_and_key)?;
        store.write("hold.lua", &format!("{HOLD}core.msleep({}) end)\n", programs.latency.as_millis()))?;
        store.write("haproxy.cfg", &haproxy_configuration(directory, port, programs.latency))?;

        let mut garage = command(&programs.garage);
        garage.arg("-c").arg(directory.join("garage.toml")).args(["server", "--single-node", "--default-bucket"]);
        garage.env("GARAGE_DEFAULT_ACCESS_KEY", &store.key).env("GARAGE_DEFAULT_SECRET_KEY", &store.secret);
        garage.env("GARAGE_DEFAULT_BUCKET", BUCKET).env("RUST_LOG", "warn");
        store.spawn(&mut garage, "garage.log")?;
        store.spawn(command(&programs.haproxy).arg("-f").arg(directory.join("haproxy.cfg")), "requests")?;
        store.wait_until_ready(&programs.garage);
        Ok(store)
    }

    /// The lines of a configuration that say where the repository is.
    pub(crate) fn settings(&self) -> String {
        format!(
            "repo1-type=s3\nrepo1-path=/repository\nrepo1-s3-bucket={BUCKET}\nrepo1-s3-region={REGION}\n\
             repo1-s3-endpoint=localhost\nrepo1-storage-port={}\nrepo1-s3-uri-style=path\n\
             repo1-s3-key={}\nrepo1-s3-key-secret={}\nrepo1-storage-ca-file={}\n",
            self.port,
            self.key,
            self.secret,
            self.directory.join("authority.pem").display(),
        )
    }

    /// Where Garage keeps objects.
    pub(crate) fn data_directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        self.servers.iter().map(Child::id).collect()
    }

    /// What clients have asked so far, as `HAProxy` logs it.
    pub(crate) fn traffic(&self) -> io::Result<Traffic> {
        Ok(fs::read_to_string(self.directory.join("requests"))?.lines().filter_map(parse_request).sum())
    }

    fn write(&self, name: &str, content: &str) -> io::Result<()> {
        let path = self.directory.join(name);
        fs::write(&path, content)?;
        give_to_test_user(&path);
        Ok(())
    }

    /// Starts a server that writes what it has to say into the file `log`.
    fn spawn(&mut self, command: &mut Command, log: &str) -> io::Result<()> {
        let output = fs::File::create(self.directory.join(log))?;
        let errors = output.try_clone()?;
        command.stdin(Stdio::null()).stdout(output.into_file()).stderr(errors.into_file());
        self.servers.push(as_test_user(command).spawn()?);
        Ok(())
    }

    fn wait_until_ready(&self, garage: &Path) {
        wait_until("the S3 server to have its bucket", || {
            let mut info = Command::new(garage);
            info.arg("-c").arg(self.directory.join("garage.toml")).args(["bucket", "info", BUCKET]);
            run(as_test_user(&mut info)).code() == Some(0)
        });
        wait_until("the TLS proxy to listen", || TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok());
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ended_already = server.kill();
            let _status = server.wait();
        }
    }
}

/// A command that ends with the thread that starts it.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

fn garage_configuration(directory: &Path, rpc_port: u16, rpc_secret: &str) -> String {
    let directory = directory.display();
    format!(
        "metadata_dir = \"{directory}/metadata\"\ndata_dir = \"{directory}/data\"\ndb_engine = \"lmdb\"\n\
         replication_factor = 1\ncompression_level = \"none\"\n\
         rpc_bind_addr = \"127.0.0.1:{rpc_port}\"\nrpc_public_addr = \"127.0.0.1:{rpc_port}\"\n\
         rpc_secret = \"{rpc_secret}\"\n\n\
         [s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"{directory}/{API_SOCKET}\"\n"
    )
}

fn haproxy_configuration(directory: &Path, port: u16, latency: Duration) -> String {
    let directory = directory.display();
    let (load, hold) = if latency.is_zero() {
        (String::new(), "")
    } else {
        (format!("  lua-load {directory}/hold.lua\n"), "  http-request lua.hold\n")
    };
    // Of each request: what was asked, the answer's status, the bytes of the request and of the answer.
    format!(
        "global\n{load}  log stdout format raw local0\n  tune.bufsize {PROXY_BUFFER_BYTES}\ndefaults\n  mode http\n  log global\n  timeout connect 10s\n  \
         timeout client 10m\n  timeout server 10m\n  option http-no-delay\n  log-format \"request %HM %ST %U %B\"\n\
         frontend tls\n  bind 127.0.0.1:{port} ssl crt {directory}/server.pem\n{hold}  default_backend garage\n\
         backend garage\n  server garage unix@{directory}/{API_SOCKET}\n"
    )
}

/// Understands a line of the proxy's log. Others than those of requests are about the proxy itself.
fn parse_request(line: &str) -> Option<Traffic> {
    let fields: Vec<&str> = line.split(' ').collect();
    let ["request", _method, _status, sent, received] = fields[..] else { return None };
    Some(Traffic { requests: 1, bytes_sent: sent.parse().ok()?, bytes_received: received.parse().ok()? })
}

/// Ports that nobody listens on. They are held until all are known, so that they differ.
fn free_ports<const COUNT: usize>() -> io::Result<[u16; COUNT]> {
    let mut ports = [0; COUNT];
    let mut listeners = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

fn hexadecimal<const BYTES: usize>() -> io::Result<String> {
    random::bytes::<BYTES>()?.iter().try_fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").map_err(io::Error::other)?;
        Ok(text)
    })
}

/// What the proxy shows, and whom its clients trust, in PEM.
struct Certificate {
    chain_and_key: String,
    authority: String,
}

impl Certificate {
    fn make() -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::new(Vec::new())?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(DnType::CommonName, "authority of the bench");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["localhost".to_owned()])?.signed_by(&key, &authority)?;
        Ok(Self { chain_and_key: certificate.pem() + &key.serialize_pem(), authority: authority.pem() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_and_other_lines_are_not() {
        let log = "request PUT 200 1000 120\n[WARNING] something\nrequest GET 206 300 70000\n";
        let traffic: Traffic = log.lines().filter_map(parse_request).sum();
        assert_eq!(traffic, Traffic { requests: 2, bytes_sent: 1300, bytes_received: 70_120 });
    }
}
