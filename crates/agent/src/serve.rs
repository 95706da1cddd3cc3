//! The server of metrics, of the API, and of the page. It only ever shows the [`Board`](crate::Board): no request has
//! anything done.
//!
//! Everything is bounded: how many connections there are, how long each may last, and how much is read of a request. What
//! has waited for a place, waits in the queue of the socket.

mod answer;
mod settings;

use std::convert::Infallible;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use pgark_engine::{Error, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;

pub use self::settings::{ServeSettings, TlsSettings, Token};
use crate::status::Board;
use answer::Desk;

/// How many connections there are at once.
const CONNECTIONS: usize = 32;

/// How long a request may take to arrive, and how long a connection may last.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);

/// How much is read of a request.
const REQUEST_BYTES: usize = 16 << 10;

/// How long to wait where the system has no connection to give, as when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A server at work. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and answers on a thread of its own.
    ///
    /// # Errors
    /// Where it can't listen, or the certificate and its key can't be used.
    pub(crate) fn start(settings: &ServeSettings, board: Board) -> Result<Self, Error> {
        let cannot = |error: std::io::Error| {
            Error::new(ErrorKind::FileOpen, format!("unable to listen on {}: {error}", settings.address))
                .hint("set agent-listen to another address, or to none; the schedule is kept all the same")
        };
        let acceptor = settings.tls.as_ref().map(TlsSettings::acceptor).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let listener = runtime.block_on(TcpListener::bind(settings.address)).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let desk = Arc::new(Desk::new(board, address.ip(), settings.token.clone()));
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                let accepting = tokio::spawn(accept(listener, acceptor, desk));
                // It is told to stop, or nobody is left who could.
                let _stopped = stopped.await;
                accepting.abort();
            });
            // What is still being answered is not waited for.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("http".to_owned()).spawn(serve).map_err(cannot)?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever has ended already needs no word of it.
        let _gone = self.stop.take().map(|stop| stop.send(()));
        let _gone = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let one = connection(stream, acceptor.clone(), Arc::clone(&desk), place);
                drop(tokio::spawn(one));
            }
            Err(error) => {
                tracing::debug!("unable to accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, desk: Arc<Desk>, _place: OwnedSemaphorePermit) {
    let answer = async {
        match acceptor {
            Some(acceptor) => match acceptor.accept(stream).await {
                Ok(stream) => answer_one(stream, &desk).await,
                Err(error) => tracing::debug!("no TLS with a client: {error}"),
            },
            None => answer_one(stream, &desk).await,
        }
    };
    if tokio::time::timeout(CONNECTION_TIMEOUT, answer).await.is_err() {
        tracing::debug!("a client took longer than {} s", CONNECTION_TIMEOUT.as_secs());
    }
}

/// One request is answered on each connection: clients come seldom, and none keeps a place that it does not use.
async fn answer_one(stream: impl AsyncRead + AsyncWrite + Unpin, desk: &Desk) {
    let service = service_fn(|request: Request<Incoming>| ready(Ok::<_, Infallible>(desk.answer(&request))));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a client was not answered: {error}");
    }
}

#[cfg(test)]
mod tests;
