//! The one asynchronous runtime of the process, behind the synchronous trait.

use std::io;
use std::sync::LazyLock;

use tokio::runtime::{Builder, Runtime};

/// Threads that move bytes between sockets and memory and encrypt them for TLS. The work of a backup is done by threads
/// of its own, so that few are needed.
const THREADS: usize = 2;

static RUNTIME: LazyLock<io::Result<Runtime>> = LazyLock::new(|| {
    Builder::new_multi_thread().worker_threads(THREADS).thread_name("pgark-network").enable_all().build()
});

/// The runtime, which is started when it is first asked for and lives as long as the process. Any number of plain
/// threads may wait in its `block_on` at once; a thread that runs asynchronous work itself may not.
///
/// # Errors
/// Where the operating system gives no threads.
pub(crate) fn runtime() -> io::Result<&'static Runtime> {
    RUNTIME.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}
