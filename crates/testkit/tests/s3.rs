//! The S3 server of the tests is asked by Amazon's own client, so that pgark is not tested against a misunderstanding.

use std::process::Command;
use std::time::Duration;

use pgark_testkit::s3::{Call, Credentials, Effect, Fault, Generated, Moto, Policy, Refusal, S3Server};
use pgark_testkit::{Finished, run_with_input};

/// What every program of Amazon's client begins with. `code` gives the error that a call ends with.
const PRELUDE: &str = r"
import sys, boto3, botocore
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
url, region, access_key, secret, token, authority = sys.argv[1:]
s3 = boto3.client('s3', endpoint_url=url, region_name=region, aws_access_key_id=access_key,
    aws_secret_access_key=secret, aws_session_token=token or None, verify=authority or None,
    config=Config(retries={'total_max_attempts': 1}, s3={'addressing_style': 'path'}, read_timeout=20))
B = 'bucket'
def code(call, **arguments):
    try:
        call(Bucket=B, **arguments)
    except botocore.exceptions.ClientError as error:
        return error.response['Error']['Code']
    except botocore.exceptions.BotoCoreError as error:
        return type(error).__name__
    return 'ok'
def equal(got, wanted):
    assert got == wanted, (got, wanted)
";

/// Runs a program of Amazon's client on the server.
fn ask(server: &S3Server, program: &str) -> Finished {
    ask_with(server, server.credentials(), server.region(), program)
}

fn ask_with(server: &S3Server, credentials: &Credentials, region: &str, program: &str) -> Finished {
    let Credentials { access_key, secret, token } = credentials;
    let mut command = Command::new("python3");
    command.env("PYTHONPATH", Moto::directory()).env("PYTHONDONTWRITEBYTECODE", "1");
    command.args(["-", &server.url(), region, access_key, secret, token.as_deref().unwrap_or_default()]);
    if server.url().starts_with("https") {
        command.arg(server.authority());
    } else {
        command.arg("");
    }
    run_with_input(&mut command, format!("{PRELUDE}{program}").as_bytes()).expect_success()
}

#[test]
fn amazons_client_understands_the_server() {
    let server = S3Server::builder().https().start();
    ask(
        &server,
        r"
equal(code(s3.put_object, Key='a b/\u20ac', Body=b'first', IfNoneMatch='*'), 'ok')
equal(code(s3.put_object, Key='a b/\u20ac', Body=b'second', IfNoneMatch='*'), 'PreconditionFailed')
equal(s3.get_object(Bucket=B, Key='a b/\u20ac')['Body'].read(), b'first')
equal(s3.get_object(Bucket=B, Key='a b/\u20ac', Range='bytes=1-2')['Body'].read(), b'ir')
equal(s3.get_object(Bucket=B, Key='a b/\u20ac', Range='bytes=-2')['ContentRange'], 'bytes 3-4/5')
equal(code(s3.get_object, Key='a b/\u20ac', Range='bytes=5-'), 'InvalidRange')
equal(code(s3.get_object, Key='none'), 'NoSuchKey')
equal(code(s3.head_object, Key='none'), '404')
equal(s3.head_object(Bucket=B, Key='a b/\u20ac')['ContentLength'], 5)
etag = s3.head_object(Bucket=B, Key='a b/\u20ac')['ETag']
equal(code(s3.put_object, Key='a b/\u20ac', Body=b'x', IfMatch=etag), 'ok')
equal(code(s3.put_object, Key='a b/\u20ac', Body=b'y', IfMatch=etag), 'PreconditionFailed')

content = bytes(range(256)) * 40960
s3.put_object(Bucket=B, Key='whole', Body=content)
id = s3.create_multipart_upload(Bucket=B, Key='parts')['UploadId']
part = lambda number, body: {'PartNumber': number,
    'ETag': s3.upload_part(Bucket=B, Key='parts', UploadId=id, PartNumber=number, Body=body)['ETag']}
parts = {'Parts': [part(1, content[:6000000]), part(2, content[6000000:])]}
complete = lambda: code(s3.complete_multipart_upload, Key='parts', UploadId=id, MultipartUpload=parts, IfNoneMatch='*')
equal(code(s3.head_object, Key='parts'), '404')
equal(complete(), 'ok')
equal(complete(), 'NoSuchUpload')
equal(s3.get_object(Bucket=B, Key='parts')['Body'].read(), content)
id = s3.create_multipart_upload(Bucket=B, Key='parts')['UploadId']
parts = {'Parts': [part(1, b'late')]}
equal(complete(), 'PreconditionFailed')
equal(len(s3.list_multipart_uploads(Bucket=B)['Uploads']), 1)
equal(code(s3.abort_multipart_upload, Key='parts', UploadId=id), 'ok')

for number in range(25):
    s3.put_object(Bucket=B, Key='list/%d/x+y' % number, Body=b'')
pages = list(s3.get_paginator('list_objects_v2').paginate(Bucket=B, Prefix='list/', PaginationConfig={'PageSize': 10}))
equal([page['KeyCount'] for page in pages], [10, 10, 5])
equal([object['Key'] for page in pages for object in page['Contents']], sorted('list/%d/x+y' % n for n in range(25)))
page = s3.list_objects_v2(Bucket=B, Prefix='list/1', Delimiter='/')
equal([prefix['Prefix'] for prefix in page['CommonPrefixes']], ['list/1/'] + ['list/1%d/' % n for n in range(10)])
equal(len(s3.delete_objects(Bucket=B, Delete={'Objects': [{'Key': 'list/1/x+y'}, {'Key': 'none'}]})['Deleted']), 2)
equal(code(s3.delete_object, Key='none'), 'ok')
equal(s3.list_objects_v2(Bucket=B, Prefix='list/1/')['KeyCount'], 0)
B = 'another'
equal(code(s3.list_objects_v2), 'NoSuchBucket')
",
    );
    assert_eq!(server.unfinished_uploads(), 0);
    assert_eq!(server.object("parts").unwrap().len(), 256 * 40960);
    assert_eq!(server.count(Call::UploadPart), 3);
}

#[test]
fn who_does_not_sign_as_agreed_is_refused() {
    let server = S3Server::start();
    let good = server.credentials().clone();
    let all = [
        (Credentials { secret: "another".into(), ..good.clone() }, "eu-test-1", "SignatureDoesNotMatch"),
        (Credentials { access_key: "another".into(), ..good.clone() }, "eu-test-1", "InvalidAccessKeyId"),
        (good.clone().with_token(), "eu-test-1", "ExpiredToken"),
        (good.clone(), "us-east-1", "AuthorizationHeaderMalformed"),
        (good.clone(), "eu-test-1", "ok"),
    ];
    for (credentials, region, answer) in all {
        let program = format!("equal(code(s3.put_object, Key='a', Body=b'x'), '{answer}')");
        ask_with(&server, &credentials, region, &program);
    }
    server.set_clock_ahead(Duration::from_hours(1));
    ask(&server, "equal(code(s3.put_object, Key='a', Body=b'x'), 'RequestTimeTooSkewed')");
    server.set_clock_ahead(Duration::ZERO);

    let temporary = good.with_token();
    server.set_credentials(std::slice::from_ref(&temporary));
    ask_with(&server, &temporary, server.region(), "equal(code(s3.put_object, Key='a', Body=b'x'), 'ok')");
}

#[test]
fn what_the_policy_does_not_allow_is_denied() {
    let server = S3Server::start();
    server.put("p/there", "x");
    server.set_policy(Policy::parse(
        r#"{"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::bucket/p/*"}
        ]}"#,
    ));
    ask(
        &server,
        r"
equal(code(s3.get_object, Key='p/there'), 'ok')
equal(code(s3.get_object, Key='other'), 'AccessDenied')
equal(code(s3.get_object, Key='p/absent'), 'AccessDenied')
equal(code(s3.put_object, Key='p/new', Body=b''), 'ok')
equal(code(s3.put_object, Key='p/new', Body=b'', Tagging='a=b'), 'AccessDenied')
equal(code(s3.delete_object, Key='p/there'), 'AccessDenied')
errors = s3.delete_objects(Bucket=B, Delete={'Objects': [{'Key': 'p/there'}]})['Errors']
equal([error['Code'] for error in errors], ['AccessDenied'])
equal(code(s3.list_objects_v2), 'AccessDenied')
",
    );
    assert_eq!(server.keys(), ["p/new", "p/there"]);
}

#[test]
fn faults_are_as_told() {
    let server = S3Server::start();
    server.set_page_size(2);
    for key in ["a", "b", "c"] {
        server.put(key, "0123456789");
    }
    server.generate(Generated { count: 3, name: |number| format!("d{number}") });
    let put = |effect| Fault::new(effect).on(Call::PutObject);
    for fault in [
        put(Effect::Refuse(Refusal::SLOW_DOWN)).times(2),
        put(Effect::RefuseAfterwards(Refusal::INTERNAL_ERROR)),
        put(Effect::LoseObject),
        put(Effect::IgnoreConditions),
        put(Effect::RefuseConditions(Refusal::NOT_IMPLEMENTED)),
        put(Effect::CutRequest(3)),
        put(Effect::LoseAnswer),
        Fault::new(Effect::CutAnswer(4)).on(Call::GetObject),
        Fault::new(Effect::FlipByte(11)).on(Call::GetObject),
        Fault::new(Effect::EndListing(1)).on(Call::ListObjects),
        Fault::new(Effect::RefuseInside(Refusal::INTERNAL_ERROR)).on(Call::CompleteMultipartUpload),
    ] {
        server.inject(fault);
    }
    ask(
        &server,
        r"
put = lambda key, **arguments: code(s3.put_object, Key=key, Body=b'0123456789', **arguments)
equal([put('x1'), put('x1')], ['SlowDown', 'SlowDown'])
equal(put('x2'), 'InternalError')
equal(put('x3'), 'ok')
equal(put('a', IfNoneMatch='*'), 'ok')
equal(put('x4', IfNoneMatch='*'), 'NotImplemented')
equal(put('x5'), 'ConnectionClosedError')
equal(put('x6'), 'ConnectionClosedError')
def broken(key):
    try:
        s3.get_object(Bucket=B, Key=key)['Body'].read()
    except botocore.exceptions.BotoCoreError as error:
        return type(error).__name__
equal(broken('a'), 'ResponseStreamingError')
equal(s3.get_object(Bucket=B, Key='a')['Body'].read(), b'0\xce23456789')
equal(s3.list_objects_v2(Bucket=B)['IsTruncated'], False)
names = lambda page: [object['Key'] for object in page['Contents']]
page = s3.list_objects_v2(Bucket=B, StartAfter='b')
equal((names(page), page['IsTruncated']), (['c', 'd0'], True))
equal(names(s3.list_objects_v2(Bucket=B, ContinuationToken=page['NextContinuationToken'])), ['d1', 'd2'])
",
    );
    assert_eq!(server.keys(), ["a", "b", "c", "x2", "x6"]);
    assert_eq!(server.fired(), 11);
    let statuses: Vec<_> = server.requests().iter().map(|request| request.status).collect();
    assert_eq!(statuses[..3], [Some(503), Some(503), Some(500)]);
    assert_eq!(statuses[6..8], [None, None]);
}
