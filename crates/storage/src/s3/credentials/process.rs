//! Keys from a program:
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html>.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;
use zeroize::Zeroizing;

use crate::error::{ErrorKind, Origin};
use crate::network::Failure;

/// The most that a program may write; keys are much less.
const OUTPUT_LIMIT: u64 = 64 << 10;

/// Runs a program and gives what it writes to its standard output. What it writes to its standard error goes where ours
/// does.
pub(super) async fn run(command: &[String], timeout: Duration) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(failed("it is not named"));
    };
    tokio::time::timeout(timeout, output(program, arguments))
        .await
        .unwrap_or_else(|_| Err(failed(&format!("'{program}' did not end within {} s", timeout.as_secs()))))
}

async fn output(program: &str, arguments: &[String]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let of_program = |what: String| failed(&format!("'{program}' {what}"));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| of_program(format!("can't be run: {error}")))?;
    let mut bytes = Zeroizing::new(Vec::new());
    if let Some(stdout) = child.stdout.take() {
        let read = stdout.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await;
        read.map_err(|error| of_program(format!("can't be read from: {error}")))?;
    }
    let status = child.wait().await.map_err(|error| of_program(format!("can't be waited for: {error}")))?;
    if status.success() { Ok(bytes) } else { Err(of_program(format!("failed: {status}"))) }
}

fn failed(reason: &str) -> Failure {
    Failure::new(ErrorKind::Denied, format!("the program that gives keys: {reason}"))
        .origin(Origin::Service)
        .hint("run repoN-s3-process-cmd by hand, as the user that pgark runs as")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_script(script: &str, timeout: Duration) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let command = ["sh", "-c", script].map(ToOwned::to_owned);
        crate::network::runtime().unwrap().block_on(run(&command, timeout))
    }

    #[test]
    fn a_program_gives_what_it_writes() {
        let output = run_script("echo '{}'; echo noise >&2", Duration::from_secs(60)).unwrap();
        assert_eq!(&**output, b"{}\n");
    }

    #[test]
    fn a_program_that_fails_or_hangs_is_named() {
        let failure = run_script("echo '{}'; exit 7", Duration::from_secs(60)).unwrap_err();
        assert!(failure.to_string().contains("'sh' failed: exit status: 7"), "{failure}");
        let failure = run_script("sleep 1000", Duration::from_millis(100)).unwrap_err();
        assert!(failure.to_string().contains("did not end"), "{failure}");
        let nowhere = ["/nonexistent/keys".to_owned()];
        let ran = crate::network::runtime().unwrap().block_on(run(&nowhere, Duration::from_secs(60)));
        assert!(ran.unwrap_err().to_string().contains("'/nonexistent/keys' can't be run"));
    }
}
