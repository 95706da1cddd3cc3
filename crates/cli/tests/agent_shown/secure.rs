//! What other hosts can reach: by HTTPS, and only by who knows the token.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fs_err as fs;
use pgark_testkit::s3::certificate::{Certificate, make};
use pgark_testkit::{Server, as_test_user, run, wait_for_some, wait_until};

use crate::common::{Site, text};

const TOKEN: &str = "correct-horse-battery-staple";

/// Asks for the metrics, trusting one authority; prints the status and the answer, or what went wrong.
const ASK: &str = "
import ssl, sys, urllib.error, urllib.request
url, authority, token = sys.argv[1:]
request = urllib.request.Request(url + 'metrics', headers={'Authorization': 'Bearer ' + token} if token else {})
try:
    context = ssl.create_default_context(cafile=authority)
    with urllib.request.urlopen(request, context=context, timeout=60) as answer:
        print(answer.status, answer.read().decode())
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
except Exception as error:
    print(error)
";

struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(site: &Site) -> Self {
        let log = site.scratch.path().join("agent.txt");
        let file = fs::File::create(&log).unwrap();
        let mut command = site.command(&["--log-level-console=trace", "--log-level-file=trace", "agent"]);
        command.stdin(Stdio::null()).stdout(file.into_parts().0);
        Self { child: command.spawn().expect("the program starts"), log }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Where it listens, as it has said so many times by now.
    fn url(&self, times: usize) -> String {
        let port = wait_for_some("the agent to listen", || {
            let told = self.told();
            let mut lines = told.lines().filter_map(|line| line.split_once("listen on https://0.0.0.0:"));
            Some(lines.nth(times - 1)?.1.to_owned())
        });
        format!("https://127.0.0.1:{port}")
    }

    fn reload(&self) {
        run(Command::new("kill").args(["-HUP", &self.child.id().to_string()])).expect_success();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[track_caller]
fn ask(url: &str, authority: &Path, token: &str) -> String {
    let mut python = Command::new("python3");
    run(as_test_user(python.args(["-c", ASK, url, text(authority), token]))).expect_success().stdout
}

/// Puts a certificate to where the agent looks for it; gives the file of its authority.
fn install(site: &Site, name: &str) -> PathBuf {
    let Certificate { chain, key, authority, .. } = make(&["127.0.0.1".to_owned()]);
    site.scratch.write("agent.crt", chain);
    site.scratch.write("agent.key", key);
    site.scratch.write(&format!("{name}.crt"), authority)
}

#[test]
fn other_hosts_ask_by_https_and_with_the_token() {
    let builder = Site::builder(&Server::get(17)).global("schedule-incr=0 0 1 1 *").global("agent-listen=0.0.0.0:0");
    let site = builder.start();
    let authority = install(&site, "first");
    let file = |name: &str| site.scratch.path().join(name).display().to_string();
    let tls = format!("agent-tls-cert-file={}\nagent-tls-key-file={}\n", file("agent.crt"), file("agent.key"));
    site.reconfigure("agent-listen=0.0.0.0:0\n", &format!("agent-listen=0.0.0.0:0\n{tls}"));
    let refused = site.pgark(&["agent"]).expect_code(31);
    let needs = "agent-listen=0.0.0.0:0 can be reached by other hosts, and needs agent-token-file";
    assert!(refused.stdout.contains(needs), "{}", refused.report());

    let token = site.scratch.write("token", format!("{TOKEN}\n"));
    site.reconfigure(&tls, &format!("{tls}agent-token-file={}\n", token.display()));
    let agent = Running::start(&site);
    let url = agent.url(1);
    for (token, status) in [("", "401 "), ("correct-horse-battery-stable", "401 "), (TOKEN, "200 ")] {
        let answer = ask(&url, &authority, token);
        assert!(answer.starts_with(status), "'{token}': {answer}");
        assert_eq!(answer.contains("pgark_agent_info{"), token == TOKEN, "'{token}': {answer}");
    }
    let plain = ask(&url.replace("https", "http"), &authority, TOKEN);
    assert!(!plain.contains("pgark_agent_info{"), "{plain}");

    // Another certificate is shown from now on.
    let renewed = install(&site, "second");
    assert!(ask(&url, &renewed, TOKEN).contains("CERTIFICATE_VERIFY_FAILED"));
    agent.reload();
    let url = agent.url(2);
    assert!(ask(&url, &renewed, TOKEN).starts_with("200 "));
    assert!(ask(&url, &authority, TOKEN).contains("CERTIFICATE_VERIFY_FAILED"));
    // One that is none changes nothing.
    site.scratch.write("agent.crt", "no certificate");
    agent.reload();
    wait_until("the agent to refuse the certificate", || {
        let told = agent.told();
        told.contains("unable to read the configuration again, it stays as it was")
            && told.contains("agent-tls-cert-file")
    });
    assert!(ask(&url, &renewed, TOKEN).starts_with("200 "));

    let logs = fs::read_dir(site.scratch.path().join("log")).unwrap();
    let logs: Vec<_> = logs.map(|log| fs::read_to_string(log.unwrap().path()).unwrap()).collect();
    for log in logs.iter().chain([&agent.told()]) {
        assert!(!log.contains(TOKEN), "{log}");
    }
}
