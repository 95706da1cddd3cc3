//! PostgresML's case: the cache of `huggingface_hub`, made by that package itself with a model of another one, is lost and
//! comes back, and the model is loaded from it and answers. `scripts/setup-huggingface` installs both.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pgark_testkit::{Cluster, Server, as_test_user, run};

use crate::{backup_changes, cache, list, restore_alone, shell, site, stored};

/// A hub that has the model, in its first version or with a second one.
struct Hub {
    process: Child,
    port: u16,
}

impl Hub {
    fn start(version: u32) -> Self {
        let mut command = python(&["hub.py", &version.to_string()]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 is installed");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("standard output is piped");
        BufReader::new(stdout).read_line(&mut line).expect("a pipe can be read");
        Self { process, port: line.trim().parse().expect("the hub writes its port") }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ended_already = self.process.kill();
        let _status = self.process.wait();
    }
}

/// Python with the packages; the first argument is a program of this directory.
fn python(arguments: &[&str]) -> Command {
    let packages = pgark_testkit::python_packages("huggingface");
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sidecar");
    let text = fs_err::read_to_string(programs.join(arguments[0])).expect("the program is there");
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1").args(["-c", &text]).args(&arguments[1..]);
    command
}

/// What `huggingface_hub` says of a cache, and what the model in it answers.
#[track_caller]
fn answers(home: &Path, hub: Option<&Hub>) -> String {
    let mut command = python(&["model.py", if hub.is_some() { "online" } else { "offline" }]);
    command.env("HF_HOME", home).env("HF_HUB_DISABLE_TELEMETRY", "1").env("HF_HUB_DISABLE_PROGRESS_BARS", "1");
    match hub {
        Some(hub) => {
            command.env("HF_ENDPOINT", format!("http://127.0.0.1:{}", hub.port)).env("HF_HUB_DISABLE_XET", "1")
        }
        None => command.env("HF_HUB_OFFLINE", "1"),
    };
    run(as_test_user(&mut command)).expect_success().stdout
}

#[test]
fn a_model_is_loaded_from_the_restored_cache() {
    let server = Server::get(17);
    let site = site(&server, "");
    let home: PathBuf = cache(&site);
    let first = answers(&home, Some(&Hub::start(1)));
    assert!(
        first.starts_with("google/magika 1111") && first.contains("\npython ") && first.contains("\nc "),
        "{first}"
    );
    let layout = list(&home);
    site.backup(&[]);

    // Another version of the model: blobs that are the same are not stored again.
    let before = stored(&site);
    let second = answers(&home, Some(&Hub::start(2)));
    assert_eq!(second.matches("google/magika").count(), 2, "{second}");
    let label = backup_changes(&site, &[]);
    let grown = stored(&site) - before;
    assert!(grown < 1_000_000, "{grown} bytes for a model of three million that has hardly changed");

    // All is lost: the cluster with its cache comes back, and another cache beside it from the first backup.
    shell(&home, "chmod -R u+rwx . && rm -rf hub");
    assert!(!home.join("hub").exists());
    let to_its_place = format!("--sidecar-models-path={}", home.display());
    let directory = site.restore("restored", &["--delta", &to_its_place]);
    assert_eq!(answers(&home, None), second, "loaded offline from what backup {label} has");
    let mut cluster = Cluster::adopt(&server, &directory);
    cluster.start();
    let set = label.split('_').next().expect("an incremental backup has the label of its full one");
    let place = site.scratch.path().join("first");
    restore_alone(&site, &place, &[&format!("--set={set}")]).expect_success();
    assert_eq!(list(&place), layout);
    assert_eq!(answers(&place, None), first);
    shell(&place, "test -L hub/models--google--magika/snapshots/*/model.onnx && ls hub/.locks/*/*.lock");
}
