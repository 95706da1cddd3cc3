//! What drivers of storages on the network have in common.

mod endpoint;
mod failure;
mod pace;
mod post;
mod retry;
mod runtime;
mod tls;
mod traffic;
mod transport;

pub use self::endpoint::{Endpoint, EndpointError, Scheme};
pub use self::post::post_json;
pub use self::tls::Trust;
pub use self::traffic::{Traffic, traffic};

pub(crate) use self::failure::{Failure, Retry};
pub(crate) use self::retry::Patience;
pub(crate) use self::runtime::runtime;
pub(crate) use self::transport::{AnswerLimit, Broken, Rejection, Route, Transport, find};
