//! The user that servers and programs under test run as.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use fs_err as fs;

/// An unprivileged user to run as instead of root.
struct TestUser {
    name: String,
    uid: u32,
    gid: u32,
}

/// `None` where the tests are not run by root: then everything runs as the user at hand.
static TEST_USER: LazyLock<Option<TestUser>> = LazyLock::new(|| {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").expect("the user database is readable");
    let user = ["postgres", "pgark-test"].iter().find_map(|name| find_user(&passwd, name));
    assert!(user.is_some(), "no user to run PostgreSQL as: run `make setup`, which creates one");
    user
});

fn find_user(passwd: &str, wanted: &str) -> Option<TestUser> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _password, uid, gid, ..] = fields[..] else { return None };
        (name == wanted)
            .then(|| Some(TestUser { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()? }))?
    })
}

/// Whether tests are run by root, and programs under test therefore by another user.
pub(crate) fn is_root() -> bool {
    TEST_USER.is_some()
}

/// Has `command` run as the unprivileged test user, and away from whatever the developer's environment sets: home and
/// working directory are `/`, messages are English, and variables that begin with `PG` are inherited only where the
/// caller set them on the command.
pub fn as_test_user(command: &mut Command) -> &mut Command {
    let given: Vec<OsString> = command.get_envs().map(|(name, _)| name.to_owned()).collect();
    let foreign = std::env::vars_os().map(|(name, _)| name);
    for name in foreign.filter(|name| name.as_encoded_bytes().starts_with(b"PG") && !given.contains(name)) {
        command.env_remove(name);
    }
    command.env("HOME", "/").env("LC_ALL", "C").current_dir("/");
    if let Some(user) = TEST_USER.as_ref() {
        command.env("USER", &user.name).env("LOGNAME", &user.name).uid(user.uid).gid(user.gid);
    }
    command
}

/// Makes the test user the owner of the file or directory at `path` (not of what lies below it).
pub fn give_to_test_user(path: &Path) {
    if let Some(user) = TEST_USER.as_ref() {
        fs_err::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)).expect("root may give a file away");
    }
}
