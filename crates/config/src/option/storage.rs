//! What all object storage has in common, and SFTP.

use super::commands::USING_REPOSITORY;
use super::definition::{boolean, choice, integer, list, map, now, path, secret, size, text};
use super::options;

/// Types of repository that are reached over HTTP.
const NETWORK: &[&str] = &["azure", "gcs", "s3"];
const OWN_REQUESTS: &str = "pgark knows from its page maps what it needs, and asks for that with many requests at once";

options! {
    [Storage]

    REPO_STORAGE_HOST, "repo-storage-host", "the host to connect to",
        "Where it is not the one the endpoint names: a proxy, or a server for tests. Written like an endpoint. Requests \
         name the endpoint all the same; the certificate must be this host's."
        => text().each_repository().needs("repo-type", NETWORK)
            .once_called(&["repo-s3-host", "repo?-azure-host", "repo?-s3-host"]).of(USING_REPOSITORY);

    REPO_STORAGE_PORT, "repo-storage-port", "the port to connect to",
        "Of repoN-storage-host, or of the endpoint where that is not set. Set here it wins over the port in either."
        => integer(1, 65535).each_repository().default("443").needs("repo-type", NETWORK)
            .once_called(&["repo?-azure-port", "repo?-s3-port"]).of(USING_REPOSITORY);

    REPO_STORAGE_VERIFY_TLS, "repo-storage-verify-tls", "whether the storage's certificate is verified",
        "Turn it off for tests only."
        => boolean("y").each_repository().needs("repo-type", NETWORK)
            .once_called(&[
                "repo-s3-verify-ssl", "repo?-azure-verify-tls", "repo?-s3-verify-ssl", "repo?-s3-verify-tls",
            ])
            .of(USING_REPOSITORY);

    REPO_STORAGE_CA_FILE, "repo-storage-ca-file", "the file of authorities that the storage's certificate may be of",
        "In place of the system's."
        => text().each_repository().needs("repo-storage-verify-tls", &["y"])
            .once_called(&["repo-s3-ca-file", "repo?-azure-ca-file", "repo?-s3-ca-file"]).of(USING_REPOSITORY);

    REPO_STORAGE_CA_PATH, "repo-storage-ca-path",
        "the directory of authorities that the storage's certificate may be of",
        "In place of the system's."
        => path().each_repository().needs("repo-storage-verify-tls", &["y"])
            .once_called(&["repo-s3-ca-path", "repo?-azure-ca-path", "repo?-s3-ca-path"]).of(USING_REPOSITORY);

    REPO_STORAGE_TAG, "repo-storage-tag", "a tag for every object",
        "A pair key=value. May be given several times."
        => map().each_repository().needs("repo-type", NETWORK).of(USING_REPOSITORY);

    REPO_STORAGE_PREFETCH, "repo-storage-prefetch", "how many requests are sent ahead",
        "Shortens the wait between one range and the next."
        => integer(0, 1024).each_repository().of(USING_REPOSITORY).no_effect(OWN_REQUESTS);

    REPO_STORAGE_READ_OVER, "repo-storage-read-over", "how much is read and dropped rather than asked for anew",
        "One long request is cheaper than two short ones."
        => size("0B", "1MiB").each_repository().of(USING_REPOSITORY).no_effect(OWN_REQUESTS);

    REPO_STORAGE_UPLOAD_CHUNK_SIZE, "repo-storage-upload-chunk-size", "the size of the parts of an upload",
        "Each worker holds two parts in memory. A part has at least 5MiB on S3, an upload at most 10000 parts."
        => size("4MiB", "1GiB").each_repository().default("8MiB").needs("repo-type", NETWORK).of(USING_REPOSITORY);

    [Sftp]

    REPO_SFTP_HOST, "repo-sftp-host", "the host of the repository",
        "Reached by SFTP."
        => text().each_repository().required().of(USING_REPOSITORY).later();

    REPO_SFTP_HOST_PORT, "repo-sftp-host-port", "the port of the host",
        "The one its ssh server listens on."
        => integer(1, 65535).each_repository().default("22").of(USING_REPOSITORY).later();

    REPO_SFTP_HOST_USER, "repo-sftp-host-user", "the user on the host",
        "Whom the repository belongs to."
        => text().each_repository().required().of(USING_REPOSITORY).later();

    REPO_SFTP_HOST_FINGERPRINT, "repo-sftp-host-fingerprint", "the fingerprint of the host key",
        "Of the kind that repoN-sftp-host-key-hash-type says."
        => text().each_repository().of(USING_REPOSITORY).later();

    REPO_SFTP_HOST_KEY_CHECK_TYPE, "repo-sftp-host-key-check-type", "how the host key is checked",
        "Without a check anyone on the way could take the host's place."
        => choice(&[
            now("accept-new", "against the known hosts, where a new host is added"),
            now("fingerprint", "against repoN-sftp-host-fingerprint"),
            now("none", "not at all"),
            now("strict", "against the known hosts"),
        ]).each_repository().default("strict").of(USING_REPOSITORY).later();

    REPO_SFTP_HOST_KEY_HASH_TYPE, "repo-sftp-host-key-hash-type", "the hash of the fingerprint",
        "md5 and sha1 are weak."
        => choice(&[now("md5", "MD5"), now("sha1", "SHA-1"), now("sha256", "SHA-256")])
            .each_repository().required().of(USING_REPOSITORY).later();

    REPO_SFTP_KNOWN_HOST, "repo-sftp-known-host", "a file of known hosts",
        "In place of those of user and system. May be given several times."
        => list().each_repository().of(USING_REPOSITORY).later();

    REPO_SFTP_PRIVATE_KEY_FILE, "repo-sftp-private-key-file", "the private key",
        "The one the host lets the user in with."
        => text().each_repository().required().of(USING_REPOSITORY).later();

    REPO_SFTP_PRIVATE_KEY_PASSPHRASE, "repo-sftp-private-key-passphrase", "the passphrase of the private key",
        "Where the key has one."
        => secret().each_repository().of(USING_REPOSITORY).later();

    REPO_SFTP_PUBLIC_KEY_FILE, "repo-sftp-public-key-file", "the public key",
        "Where it can't be told from the private one."
        => text().each_repository().of(USING_REPOSITORY).later();
}
