//! S3 servers: moto, which others wrote, and one of our own that fails as told.
//!
//! [`Moto`] is what pgark is checked against for being understood by another implementation. [`S3Server`] is for
//! everything else: it runs in the test's process, checks signatures and keeps conditions as one step, counts what it
//! is asked, and a test tells it what is to go wrong ([`Fault`]), on the connection or behind it. [`Link`] stands before
//! either and breaks connections off at any byte. [`KeyService`] gives out what requests are signed with.

mod call;
pub mod certificate;
mod fault;
mod key_service;
mod link;
mod moto;
mod objects;
mod policy;
mod server;
mod service;
mod state;
mod wire;

pub use call::Call;
pub use fault::{Effect, Fault, Refusal};
pub use key_service::KeyService;
pub use link::{Direction, Link};
pub use moto::Moto;
pub use objects::Generated;
pub use policy::Policy;
pub use server::{S3Server, S3ServerBuilder};
pub use state::{Credentials, Request};
