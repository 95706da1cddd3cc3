//! Where a password comes from: `PGPASSWORD`, or the password file (libpq, `passwordFromFile` in
//! `src/interfaces/libpq/fe-connect.c`).

use std::borrow::Cow;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fs_err as fs;
use tracing::warn;

/// A larger password file is not read.
const FILE_SIZE_MAXIMUM: u64 = 1 << 20;

/// What a line of a password file is compared with.
pub(super) struct Place<'place> {
    /// `localhost` for a socket in its usual place, else the socket's directory.
    pub(super) host: Cow<'place, str>,
    pub(super) port: u16,
    pub(super) database: &'place str,
    pub(super) user: &'place str,
}

/// The password for a place, if there is one.
pub(super) fn find(place: &Place<'_>) -> Option<Vec<u8>> {
    if let Some(password) = std::env::var_os("PGPASSWORD").filter(|password| !password.is_empty()) {
        return Some(password.into_encoded_bytes());
    }
    let content = read(&file()?)?;
    look_up(&content, place)
}

fn file() -> Option<PathBuf> {
    let named = std::env::var_os("PGPASSFILE").filter(|path| !path.is_empty());
    named.map(PathBuf::from).or_else(|| std::env::home_dir().map(|home| home.join(".pgpass")))
}

/// What libpq would not read, this does not read either, and warns as libpq does.
fn read(path: &Path) -> Option<Vec<u8>> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            warn!("password file is not used: {error}");
            return None;
        }
    };
    let problem = if !metadata.is_file() {
        "it is not a plain file"
    } else if metadata.mode() & 0o077 != 0 {
        "others than its owner may read it; its permissions should be u=rw (0600) or less"
    } else if metadata.len() > FILE_SIZE_MAXIMUM {
        "it is larger than 1 MiB"
    } else {
        let content = fs::read(path).map_err(|error| warn!("password file is not used: {error}"));
        return content.ok();
    };
    warn!("password file '{}' is not used: {problem}", path.display());
    None
}

/// The password on the first line that fits. A line is `host:port:database:user:password`; `*` fits everything, a
/// backslash takes the meaning from a colon or a backslash, and a `#` begins a comment line.
fn look_up(content: &[u8], place: &Place<'_>) -> Option<Vec<u8>> {
    let port = place.port.to_string();
    let wanted = [place.host.as_bytes(), port.as_bytes(), place.database.as_bytes(), place.user.as_bytes()];
    content.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#")).find_map(|line| {
        let mut rest = line.strip_suffix(b"\r").unwrap_or(line);
        for wanted in wanted {
            let (field, after) = split_field(rest)?;
            if field != b"*" && unescaped(field) != wanted {
                return None;
            }
            rest = after;
        }
        (!rest.is_empty()).then(|| unescaped(rest))
    })
}

/// Splits at the first colon that no backslash precedes.
fn split_field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut escaped = false;
    let colon = line.iter().position(|byte| {
        let is_end = *byte == b':' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    })?;
    Some((&line[..colon], &line[colon + 1..]))
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut bytes = field.iter().copied();
    let mut plain = Vec::with_capacity(field.len());
    while let Some(byte) = bytes.next() {
        // A backslash at the very end stands for itself.
        plain.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn password_in(content: &str) -> Option<String> {
        let place = Place { host: "/run/post:gres".into(), port: 5432, database: "postgres", user: "back\\up" };
        look_up(content.as_bytes(), &place).map(|password| String::from_utf8(password).unwrap())
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        let content = "# *:*:*:*:comment\nlocalhost:*:*:*:other\n*:5433:*:*:other\n*:*:*:someone:other\n\
            /run/post\\:gres:5432:postgres:back\\\\up:se\\:cr\\\\et\n*:*:*:*:last\n";
        assert_eq!(password_in(content).as_deref(), Some("se:cr\\et"));
    }

    #[test]
    fn stars_fit_everything_and_a_password_may_hold_colons() {
        assert_eq!(password_in("*:*:*:*:a:b").as_deref(), Some("a:b"));
        assert_eq!(password_in("*:*:*:*:secret\r\n").as_deref(), Some("secret"));
    }

    #[test]
    fn lines_that_do_not_fit_give_nothing() {
        for content in ["", "\n", "*:*:*:*", "*:*:*:*:", "*:5432:postgres", "/run/post:gres:5432:postgres:back\\\\up:x"]
        {
            assert_eq!(password_in(content), None, "{content}");
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        assert_eq!(read(&path), None);
        fs::write(&path, "*:*:*:*:secret").unwrap();
        for (mode, is_used) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_some(), is_used, "{mode:o}");
        }
        assert_eq!(read(directory.path()), None);
    }
}
