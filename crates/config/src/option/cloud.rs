//! Object storage: S3, Azure and Google Cloud Storage.

use super::commands::USING_REPOSITORY;
use super::definition::{Choice, boolean, choice, list, now, secret, text};
use super::options;

static URI_STYLES: &[Choice] =
    &[now("host", "its name is part of the host name"), now("path", "its name is the beginning of the path")];

options! {
    [S3]

    REPO_S3_BUCKET, "repo-s3-bucket", "the bucket",
        "The repository lies below repoN-path in it."
        => text().each_repository().required().once_called(&["repo-s3-bucket"]).of(USING_REPOSITORY).later();

    REPO_S3_ENDPOINT, "repo-s3-endpoint", "the endpoint",
        "The host name of the service, which must fit the region."
        => text().each_repository().required().once_called(&["repo-s3-endpoint"]).of(USING_REPOSITORY).later();

    REPO_S3_REGION, "repo-s3-region", "the region",
        "Where the bucket is."
        => text().each_repository().required().once_called(&["repo-s3-region"]).of(USING_REPOSITORY).later();

    REPO_S3_KEY, "repo-s3-key", "the access key",
        "Needed with repoN-s3-key-type=shared."
        => secret().each_repository().required().once_called(&["repo-s3-key"]).of(USING_REPOSITORY).later();

    REPO_S3_KEY_SECRET, "repo-s3-key-secret", "the secret of the access key",
        "Needed with repoN-s3-key-type=shared."
        => secret().each_repository().required().once_called(&["repo-s3-key-secret"]).of(USING_REPOSITORY).later();

    REPO_S3_KEY_TYPE, "repo-s3-key-type", "where credentials come from",
        "All but shared expire and are fetched anew in time."
        => choice(&[
            now("shared", "from repoN-s3-key and repoN-s3-key-secret"),
            now("auto", "from the instance"),
            now("web-id", "from a web identity"),
            now("pod-id", "from the identity of a pod"),
            now("process", "from a program"),
        ]).each_repository().default("shared").of(USING_REPOSITORY).later();

    REPO_S3_TOKEN, "repo-s3-token", "the session token",
        "Belongs to temporary credentials."
        => secret().each_repository().of(USING_REPOSITORY).later();

    REPO_S3_ROLE, "repo-s3-role", "the role",
        "With repoN-s3-key-type=auto: its name, not its ARN."
        => text().each_repository().of(USING_REPOSITORY).later();

    REPO_S3_PROCESS_CMD, "repo-s3-process-cmd", "the program that gives credentials",
        "With repoN-s3-key-type=process. Given several times: the program, then its arguments."
        => list().each_repository().required().of(USING_REPOSITORY).later();

    REPO_S3_STS_HOST, "repo-s3-sts-host", "the host of the token service",
        "With repoN-s3-key-type=web-id."
        => text().each_repository().default("sts.amazonaws.com").of(USING_REPOSITORY).later();

    REPO_S3_URI_STYLE, "repo-s3-uri-style", "how the bucket is addressed",
        "Servers other than AWS often need path."
        => choice(URI_STYLES).each_repository().default("host").of(USING_REPOSITORY).later();

    REPO_S3_KMS_KEY_ID, "repo-s3-kms-key-id", "the key for encryption by the server",
        "A key of the key management service."
        => text().each_repository().of(USING_REPOSITORY).later();

    REPO_S3_SSE_CUSTOMER_KEY, "repo-s3-sse-customer-key", "the customer key for encryption by the server",
        "The server does not keep it."
        => secret().each_repository().of(USING_REPOSITORY).later();

    REPO_S3_REQUESTER_PAYS, "repo-s3-requester-pays", "whether the requester pays",
        "For buckets that are set up so."
        => boolean("n").each_repository().of(USING_REPOSITORY).later();

    REPO_S3_SERVICE, "repo-s3-service", "the service that requests are signed for",
        "s3-outposts for an Outposts endpoint."
        => text().each_repository().default("s3").of(USING_REPOSITORY).later();

    [Azure]

    REPO_AZURE_ACCOUNT, "repo-azure-account", "the account",
        "The storage account that the container belongs to."
        => secret().each_repository().required().of(USING_REPOSITORY).later();

    REPO_AZURE_CONTAINER, "repo-azure-container", "the container",
        "The repository lies below repoN-path in it."
        => text().each_repository().required().of(USING_REPOSITORY).later();

    REPO_AZURE_ENDPOINT, "repo-azure-endpoint", "the endpoint",
        "Differs in the government's and other clouds."
        => text().each_repository().default("blob.core.windows.net").of(USING_REPOSITORY).later();

    REPO_AZURE_KEY, "repo-azure-key", "the key or shared access signature",
        "As repoN-azure-key-type says."
        => secret().each_repository().of(USING_REPOSITORY).later();

    REPO_AZURE_KEY_TYPE, "repo-azure-key-type", "how to authorise",
        "auto needs no key."
        => choice(&[
            now("shared", "with a shared key"),
            now("sas", "with a shared access signature"),
            now("auto", "with a managed identity"),
        ]).each_repository().default("shared").of(USING_REPOSITORY).later();

    REPO_AZURE_URI_STYLE, "repo-azure-uri-style", "how the account is addressed",
        "Test servers often need path."
        => choice(URI_STYLES).each_repository().default("host").of(USING_REPOSITORY).later();

    [Gcs]

    REPO_GCS_BUCKET, "repo-gcs-bucket", "the bucket",
        "The repository lies below repoN-path in it."
        => text().each_repository().required().of(USING_REPOSITORY).later();

    REPO_GCS_ENDPOINT, "repo-gcs-endpoint", "the endpoint",
        "Another one for tests."
        => text().each_repository().default("storage.googleapis.com").of(USING_REPOSITORY).later();

    REPO_GCS_KEY, "repo-gcs-key", "the key file or token",
        "As repoN-gcs-key-type says."
        => secret().each_repository().required().of(USING_REPOSITORY).later();

    REPO_GCS_KEY_TYPE, "repo-gcs-key-type", "how to authorise",
        "token is for tests."
        => choice(&[
            now("service", "with the key of a service account"),
            now("token", "with a token"),
            now("auto", "with the service account of the instance"),
        ]).each_repository().default("service").of(USING_REPOSITORY).later();

    REPO_GCS_USER_PROJECT, "repo-gcs-user-project", "the project that is billed",
        "For buckets whose requester pays."
        => text().each_repository().of(USING_REPOSITORY).later();
}
