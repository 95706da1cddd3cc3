//! A way to a server that breaks off.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Of requests.
    ToServer,
    /// Of answers.
    FromServer,
}

/// Passes connections on to a server on this machine, counts the bytes, and breaks connections off at the byte it was
/// told. It ends with this value.
#[derive(Debug)]
pub struct Link {
    plan: Arc<Mutex<Plan>>,
    port: u16,
    runtime: Option<Runtime>,
}

/// What is to break, and what has passed.
#[derive(Debug, Default)]
struct Plan {
    /// Once, at this byte of all connections together.
    once: Option<(Direction, u64)>,
    /// Always, at this byte of each connection.
    always: Option<(Direction, u64)>,
    to_server: u64,
    from_server: u64,
    cuts: usize,
}

impl Link {
    /// Starts a link to the server at this port, which breaks nothing yet.
    pub fn to(server: u16) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().expect("threads can be started");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("there is a free port");
        let port = listener.local_addr().expect("it listens").port();
        let plan = Arc::default();
        runtime.spawn(serve(Arc::clone(&plan), listener, server));
        Self { plan, port, runtime: Some(runtime) }
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Counts from 0 again, and breaks the connection off that would carry byte `position` in this direction; once.
    pub fn cut_at(&self, direction: Direction, position: u64) {
        *self.plan() = Plan { once: Some((direction, position)), ..Plan::default() };
    }

    /// Counts from 0 again, and breaks every connection off after so many bytes in this direction.
    pub fn cut_always(&self, direction: Direction, bytes: u64) {
        *self.plan() = Plan { always: Some((direction, bytes)), ..Plan::default() };
    }

    /// Counts from 0 again, and breaks nothing.
    pub fn mend(&self) {
        *self.plan() = Plan::default();
    }

    /// How many bytes have passed in this direction.
    pub fn passed(&self, direction: Direction) -> u64 {
        *self.plan().passed(direction)
    }

    /// How many connections were broken off. A test that has one broken off asserts that it was.
    pub fn cuts(&self) -> usize {
        self.plan().cuts
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        lock(&self.plan)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Plan {
    fn passed(&mut self, direction: Direction) -> &mut u64 {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::FromServer => &mut self.from_server,
        }
    }

    /// How many of `length` bytes pass on a connection that has passed `before`; fewer where it breaks off.
    fn pass(&mut self, direction: Direction, before: u64, length: usize) -> usize {
        let all = *self.passed(direction);
        let left = |limit: Option<(Direction, u64)>, passed: u64| match limit {
            Some((cut, position)) if cut == direction => usize::try_from(position.saturating_sub(passed)).ok(),
            _ => None,
        };
        let once = left(self.once, all).filter(|left| *left < length);
        let passes = once.or_else(|| left(self.always, before)).map_or(length, |left| left.min(length));
        if once.is_some() {
            self.once = None;
        }
        self.cuts += usize::from(passes < length);
        *self.passed(direction) += passes as u64;
        passes
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(plan: Arc<Mutex<Plan>>, listener: TcpListener, server: u16) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let plan = Arc::clone(&plan);
        tokio::spawn(async move {
            // A client of a server that does not listen is turned away by the end of its connection.
            if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                let _only_slower = (client.set_nodelay(true), server.set_nodelay(true));
                carry(&plan, &client, &server).await;
            }
        });
    }
}

/// Carries bytes both ways until one of them ends, and with it the connection.
async fn carry(plan: &Mutex<Plan>, client: &TcpStream, server: &TcpStream) {
    let mut up = pin!(pump(plan, Direction::ToServer, client, server));
    let mut down = pin!(pump(plan, Direction::FromServer, server, client));
    poll_fn(|context| {
        let ended = up.as_mut().poll(context).is_ready() || down.as_mut().poll(context).is_ready();
        if ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn pump(plan: &Mutex<Plan>, direction: Direction, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    let mut passed = 0;
    loop {
        let length = read(from, &mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let passes = lock(plan).pass(direction, passed, length);
        write(to, &buffer[..passes]).await?;
        passed += passes as u64;
        if passes < length {
            // Some connections end as if the other side had closed them, some are reset.
            if passed % 2 == 0 {
                from.set_zero_linger()?;
                to.set_zero_linger()?;
            }
            return Ok(());
        }
    }
}

async fn read(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_breaks_off_at_the_byte_that_was_told() {
        let mut plan = Plan { once: Some((Direction::ToServer, 10)), ..Plan::default() };
        assert_eq!(plan.pass(Direction::FromServer, 0, 100), 100);
        assert_eq!(plan.pass(Direction::ToServer, 0, 10), 10);
        assert_eq!((plan.pass(Direction::ToServer, 10, 5), plan.cuts), (0, 1));
        assert_eq!((plan.pass(Direction::ToServer, 0, 5), plan.cuts), (5, 1));
        let mut plan = Plan { always: Some((Direction::FromServer, 3)), ..Plan::default() };
        for _ in 0..2 {
            assert_eq!(plan.pass(Direction::FromServer, 0, 2), 2);
            assert_eq!(plan.pass(Direction::FromServer, 2, 2), 1);
        }
        assert_eq!((plan.cuts, *plan.passed(Direction::FromServer)), (2, 6));
    }
}
