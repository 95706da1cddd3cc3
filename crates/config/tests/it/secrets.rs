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
fn a_file_that_everybody_may_read_must_not_have_a_secret_in_it() {
    let text = "[global]\nrepo1-cipher-type=aes-256-gcm\nrepo1-cipher-pass=hunter2\n[demo]\npg1-path=/pg\n";
    let machine = Machine::default().file("/etc/pgark/pgark.conf", text);
    let commands = ["backup --stanza=demo", "check --stanza=demo", "stanza-create --stanza=demo", "start"];
    for line in commands {
        assert_eq!(machine.run(line).warnings(), [] as [&str; 0], "{line}");
    }
    let machine = machine.public("/etc/pgark/pgark.conf");
    for line in commands {
        insta::allow_duplicates! {
            insta::assert_snapshot!(machine.run(line).warnings().join("\n"), @r"
            configuration file '/etc/pgark/pgark.conf' has a secret in it and can be read by every user of this host
            HINT: chmod 640 /etc/pgark/pgark.conf, with the group of the user that pgark runs as
            ");
        }
    }
    // Not into the server's log for every segment, and not between the lines that a program reads.
    for line in ["archive-push --stanza=demo x", "archive-get --stanza=demo x y", "info", "repo-ls", "repo-get x"] {
        assert_eq!(machine.run(line).warnings(), [] as [&str; 0], "{line}");
    }
    let harmless = Machine::default()
        .file("/etc/pgark/pgark.conf", "[demo]\npg1-path=/pg\n")
        .public("/etc/pgark/pgark.conf")
        .file("/etc/pgark/conf.d/secret.conf", text.split_once("[demo]").unwrap().0);
    assert_eq!(harmless.run("backup --stanza=demo").warnings(), [] as [&str; 0]);
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

#[test]
fn a_password_in_a_connection_string_is_not_shown() {
    for (value, seen) in [
        ("primary_conninfo=host=db password=hunter2", "primary_conninfo=<redacted>"),
        ("primary_conninfo=host=db PassWord = 'hunter2' user=x", "primary_conninfo=<redacted>"),
        ("primary_conninfo=postgresql://user:hunter2@db:5432/x?a=b", "primary_conninfo=<redacted>"),
        ("primary_conninfo=host=db sslpassword=hunter2", "primary_conninfo=<redacted>"),
        ("primary_conninfo=host=db passfile=/x", "\"primary_conninfo=host=db passfile=/x\""),
        ("primary_conninfo=postgresql://user@db/x", "primary_conninfo=postgresql://user@db/x"),
        ("password_encryption=md5", "password_encryption=md5"),
    ] {
        let text = format!("[demo]\npg1-path=/pg\nrecovery-option={value}\nrecovery-option=primary_conninfo=host=db\n");
        let configuration = Machine::default().file("/etc/pgark/pgark.conf", &text).run("restore --stanza=demo");
        let described = configuration.describe();
        assert!(described.contains(&format!("--recovery-option={seen} --recovery-option=")), "{described}");
        let told = format!("{described} {:?}", configuration.warnings());
        assert!(!told.contains("hunter2"), "{told}");
    }
    let endpoint =
        "info --repo1-type=s3 --repo1-s3-bucket=b --repo1-s3-region=r --repo1-s3-endpoint=http://a:hunter2@h?x=y";
    let described = Machine::default().run(endpoint).describe();
    assert!(described.contains("--repo1-s3-endpoint=<redacted>") && !described.contains("hunter2"), "{described}");
}
