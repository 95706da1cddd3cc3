//! Object storage: S3, Azure and Google Cloud Storage.

use super::commands::USING_REPOSITORY;
use super::definition::{Choice, boolean, choice, list, now, secret, text};
use super::options;

const S3: &[&str] = &["s3"];

static URI_STYLES: &[Choice] =
    &[now("host", "its name is part of the host name"), now("path", "its name is the beginning of the path")];

options! {
    [S3]

    REPO_S3_BUCKET, "repo-s3-bucket", "the bucket",
        "It must exist. The repository lies below repoN-path in it."
        => text().each_repository().required().needs("repo-type", S3).once_called(&["repo-s3-bucket"])
            .of(USING_REPOSITORY);

    REPO_S3_ENDPOINT, "repo-s3-endpoint", "the endpoint",
        "The host name of the service, which must fit the region. A service that is no AWS may need a port \
         (minio.example:9000), one without TLS is written with its protocol (http://127.0.0.1:9000)."
        => text().each_repository().required().needs("repo-type", S3).once_called(&["repo-s3-endpoint"])
            .of(USING_REPOSITORY);

    REPO_S3_REGION, "repo-s3-region", "the region",
        "Where the bucket is. Services other than AWS often want us-east-1, or a name of their own such as auto."
        => text().each_repository().required().needs("repo-type", S3).once_called(&["repo-s3-region"])
            .of(USING_REPOSITORY);

    REPO_S3_KEY, "repo-s3-key", "the access key",
        "With repoN-s3-key-type=shared. Where neither it nor its secret is set, the environment variables \
         AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN hold."
        => secret().each_repository().needs("repo-s3-key-type", &["shared"]).once_called(&["repo-s3-key"])
            .of(USING_REPOSITORY);

    REPO_S3_KEY_SECRET, "repo-s3-key-secret", "the secret of the access key",
        "Belongs to repoN-s3-key."
        => secret().each_repository().needs("repo-s3-key-type", &["shared"]).once_called(&["repo-s3-key-secret"])
            .of(USING_REPOSITORY);

    REPO_S3_KEY_TYPE, "repo-s3-key-type", "where credentials come from",
        "All but shared expire and are fetched anew in time."
        => choice(&[
            now("shared", "from repoN-s3-key and repoN-s3-key-secret, or from the environment"),
            now("auto", "from the instance or, in a task of ECS, from the agent of the container"),
            now("web-id", "from a web identity: AWS_ROLE_ARN and AWS_WEB_IDENTITY_TOKEN_FILE"),
            now("pod-id", "from the identity of a pod: AWS_CONTAINER_CREDENTIALS_FULL_URI and \
                AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            now("process", "from a program"),
        ]).each_repository().default("shared").needs("repo-type", S3).of(USING_REPOSITORY);

    REPO_S3_TOKEN, "repo-s3-token", "the session token",
        "Belongs to temporary credentials."
        => secret().each_repository().needs("repo-s3-key-type", &["shared"]).of(USING_REPOSITORY);

    REPO_S3_ROLE, "repo-s3-role", "the role",
        "Its name, not its ARN. Without it the role of the instance."
        => text().each_repository().needs("repo-s3-key-type", &["auto"]).of(USING_REPOSITORY);

    REPO_S3_PROCESS_CMD, "repo-s3-process-cmd", "the program that gives credentials",
        "Given several times: the program, then its arguments. It writes JSON as AWS's credential_process does: \
         Version 1, AccessKeyId, SecretAccessKey, and for credentials that expire SessionToken and Expiration."
        => list().each_repository().required().needs("repo-s3-key-type", &["process"]).of(USING_REPOSITORY);

    REPO_S3_STS_HOST, "repo-s3-sts-host", "the host of the token service",
        "Asked over TLS."
        => text().each_repository().default("sts.amazonaws.com").needs("repo-s3-key-type", &["web-id"])
            .of(USING_REPOSITORY);

    REPO_S3_URI_STYLE, "repo-s3-uri-style", "how the bucket is addressed",
        "Servers other than AWS often need path."
        => choice(URI_STYLES).each_repository().default("host").needs("repo-type", S3).of(USING_REPOSITORY);

    REPO_S3_KMS_KEY_ID, "repo-s3-kms-key-id", "the key for encryption by the server",
        "A key of the key management service."
        => text().each_repository().needs("repo-type", S3).of(USING_REPOSITORY);

    REPO_S3_SSE_CUSTOMER_KEY, "repo-s3-sse-customer-key", "the customer key for encryption by the server",
        "256 bits in base64. The server does not keep it: without it nothing can be read."
        => secret().each_repository().needs("repo-type", S3).of(USING_REPOSITORY);

    REPO_S3_REQUESTER_PAYS, "repo-s3-requester-pays", "whether the requester pays",
        "For buckets that are set up so."
        => boolean("n").each_repository().needs("repo-type", S3).of(USING_REPOSITORY);

    REPO_S3_SERVICE, "repo-s3-service", "the service that requests are signed for",
        "s3-outposts for an Outposts endpoint."
        => text().each_repository().default("s3").of(USING_REPOSITORY).later_never_ignored();

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
