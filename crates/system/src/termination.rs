//! Ending on a signal.
//!
//! A signal does not end the process where it happens to be. It is noted; the work asks by [`check`] whether to go on, and
//! ends by an error, so that all it holds is given back as after any other error. Hooks ([`at_request`]) cut short what
//! waits for somebody else. Work that does not end in time, or a second signal, ends the process by force, with what can
//! be cleaned up from outside the work.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use fs_err as fs;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::leftovers;

/// How long the work of a command may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// How long that of a service may take, which waits for its commands.
const SERVICE_GRACE: Duration = Duration::from_secs(20);

/// The signal that asked the process to end; 0 for none yet.
static REQUESTED: AtomicI32 = AtomicI32::new(0);
/// Whether the process was asked to read its configuration again.
static RELOAD: AtomicBool = AtomicBool::new(false);
static HOOKS: Mutex<Vec<(u64, Hook)>> = Mutex::new(Vec::new());
static LAST_HOOK: AtomicU64 = AtomicU64::new(0);
/// Wakes those who [`sleep`].
static WAKING: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());

type Hook = Box<dyn Fn() + Send>;

/// A signal that asks a process to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// Its number.
    pub fn number(self) -> u8 {
        u8::try_from(self.0).unwrap_or(u8::MAX)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.0 {
            SIGHUP => "SIGHUP",
            SIGINT => "SIGINT",
            _ => "SIGTERM",
        })
    }
}

/// The work was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("terminated on signal [{0}]")]
pub struct Terminated(pub Signal);

/// What a process is, as far as signals go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// A command: every signal asks it to end.
    Command,
    /// A service: SIGHUP asks it to read its configuration again.
    Service,
}

/// Whether the process was asked to read its configuration again, since this was asked last.
pub fn take_reload_request() -> bool {
    RELOAD.swap(false, Ordering::SeqCst)
}

/// Watches for signals from now on. `give_up` ends the process; it is called where the work did not end in time, after
/// everything on the list of leftovers was removed. A signal that the process was told to ignore, as by nohup, stays
/// ignored.
///
/// # Errors
/// What the operating system says.
pub fn watch(manner: Manner, give_up: impl Fn(Signal) + Send + Sync + 'static) -> io::Result<()> {
    let ignored = ignored_signals();
    let wanted = [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(wanted.collect::<Vec<_>>())?;
    let give_up: Arc<dyn Fn(Signal) + Send + Sync> = Arc::new(give_up);
    let watching = move || {
        for number in signals.forever() {
            let signal = Signal(number);
            if number == SIGHUP && manner == Manner::Service {
                RELOAD.store(true, Ordering::SeqCst);
                continue;
            }
            if REQUESTED.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst).is_err() {
                force(signal, &*give_up);
                continue;
            }
            wake_sleepers();
            hooks().iter().for_each(|(_, hook)| hook());
            let give_up = Arc::clone(&give_up);
            let grace = if manner == Manner::Service { SERVICE_GRACE } else { GRACE };
            thread::spawn(move || {
                thread::sleep(grace);
                force(signal, &*give_up);
            });
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(watching)?;
    Ok(())
}

fn force(signal: Signal, give_up: &dyn Fn(Signal)) {
    leftovers::remove_all();
    give_up(signal);
}

/// The signal that has asked the process to end, if one has.
pub fn requested() -> Option<Signal> {
    match REQUESTED.load(Ordering::SeqCst) {
        0 => None,
        number => Some(Signal(number)),
    }
}

/// Says whether to go on.
///
/// # Errors
/// [`Terminated`] once the process was asked to end.
pub fn check() -> Result<(), Terminated> {
    requested().map_or(Ok(()), |signal| Err(Terminated(signal)))
}

/// Waits for so long.
///
/// # Errors
/// [`Terminated`], at once, when the process is asked to end.
pub fn sleep(duration: Duration) -> Result<(), Terminated> {
    let (mutex, woken) = &WAKING;
    let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = woken.wait_timeout_while(guard, duration, |()| requested().is_none());
    drop(waited.unwrap_or_else(PoisonError::into_inner));
    check()
}

fn wake_sleepers() {
    // Whoever holds the lock has not looked at the request yet, or waits already.
    let (mutex, woken) = &WAKING;
    drop(mutex.lock().unwrap_or_else(PoisonError::into_inner));
    woken.notify_all();
}

/// Has `hook` called when the process is asked to end, for as long as the result lives. It runs on a thread of its own
/// and must return soon.
pub fn at_request(hook: impl Fn() + Send + 'static) -> HookGuard {
    let id = LAST_HOOK.fetch_add(1, Ordering::SeqCst) + 1;
    hooks().push((id, Box::new(hook)));
    HookGuard(id)
}

/// Keeps a hook in place.
#[derive(Debug)]
#[must_use]
pub struct HookGuard(u64);

impl Drop for HookGuard {
    fn drop(&mut self) {
        hooks().retain(|(id, _)| *id != self.0);
    }
}

fn hooks() -> MutexGuard<'static, Vec<(u64, Hook)>> {
    HOOKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The signals that this process ignores, a bit each, from the first on. Where that can't be told, none.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}
