//! Posting a document to a URL: for those who want to be told of something.

use std::time::Duration;

use http::{Request, Uri};
use object_store::client::{HttpRequestBody, HttpService};
use pgark_system::pace::Pacer;

use super::runtime;
use super::tls::Trust;
use super::transport::{Route, Transport, chain};

/// Posts a JSON document, in so much time at most. Any answer of success will do.
///
/// # Errors
/// Why it did not get through, or was not taken. Only the host of the URL is named: the rest may have a token in it.
pub fn post_json(url: &str, document: Vec<u8>, timeout: Duration) -> Result<(), String> {
    let uri: Uri = url.parse().map_err(|error| format!("what is set is no URL: {error}"))?;
    let host = uri.host().unwrap_or_default().to_owned();
    let trust = (uri.scheme_str() == Some("https")).then_some(Trust::System);
    let route = Route { proxy: None, trust, io_timeout: timeout, pacer: Pacer::unlimited() };
    let transport = Transport::new(&route).map_err(|failure| failure.reason().to_owned())?;
    let request = Request::post(uri)
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::USER_AGENT, "pgark")
        .body(HttpRequestBody::from(document))
        .map_err(|error| error.to_string())?;
    let posted = async { tokio::time::timeout(timeout, transport.call(request)).await };
    match runtime().map_err(|error| error.to_string())?.block_on(posted) {
        Err(_) => Err(format!("'{host}' did not answer within {timeout:?}")),
        Ok(Err(error)) => {
            let reason = chain(&error).last().map_or_else(|| error.to_string(), ToString::to_string);
            Err(format!("'{host}': {reason}"))
        }
        Ok(Ok(_)) => Ok(()),
    }
}
