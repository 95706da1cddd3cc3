//! Secrets stay secret.

use pgark_config::{Environment, ErrorKind};

use crate::machine::{Machine, shown};

#[test]
fn no_secret_is_taken_from_the_command_line() {
    for option in ["repo1-cipher-pass", "repo-cipher-pass", "repo1-s3-key-secret", "repo2-sftp-private-key-passphrase"]
    {
        let error = Machine::default().error(&format!("info --{option}=hunter2"));
        assert_eq!(error.kind(), ErrorKind::OptionInvalid);
        assert!(!shown(&error).contains("hunter2"));
    }
    insta::assert_snapshot!(shown(&Machine::default().error("info --repo1-cipher-pass=hunter2")), @r"
    OptionInvalid: option 'repo1-cipher-pass' is not allowed on the command-line
      hint: this option could expose secrets in the process list
      hint: specify the option in a configuration file or an environment variable instead
    ");
}

#[test]
fn an_unknown_option_is_named_without_its_value() {
    let error = Machine::default().error("info --repo1-cipher-passs=hunter2");
    assert!(!shown(&error).contains("hunter2"), "{error}");
}

#[test]
fn nothing_shows_a_secret_when_it_is_printed_for_debugging() {
    let environment: Environment = [("PGARK_REPO1_CIPHER_PASS".to_owned(), "hunter2".to_owned())].into_iter().collect();
    assert_eq!(format!("{environment:?}"), r#"{"PGARK_REPO1_CIPHER_PASS"}"#);
    let machine = Machine::default()
        .variable("PGARK_REPO1_CIPHER_PASS", "hunter2")
        .file("/etc/pgark/pgark.conf", "[global]\nrepo1-cipher-type=aes-256-gcm\nrepo1-path=/x\n");
    let invocation = machine.load("info").unwrap();
    assert!(format!("{invocation:?}").contains("<redacted>"));
    assert!(!format!("{invocation:?}").contains("hunter2"));
}
