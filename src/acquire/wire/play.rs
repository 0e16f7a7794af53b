//! The emulators' clock: any source of spikes, played to a wire.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::super::{EventSink, Poll, Source, SourceError};

/// Longest sleep, so that a stop is seen in time.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// What an emulator did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Spikes written to a client.
    pub sent: u64,
    /// Spikes that nobody was there to take.
    pub unsent: u64,
}

/// Plays `source` into `wire` at the source's own pace, from now to its end or until `stop` is set.
///
/// # Errors
/// What the source fails with.
pub fn play(source: &mut dyn Source, wire: &mut dyn EventSink, stop: &AtomicBool) -> Result<(), SourceError> {
    let begin = Instant::now();
    let now_ns = || begin.elapsed().as_nanos() as i64;
    source.start(now_ns());
    while !stop.load(Relaxed) {
        match source.poll(now_ns(), wire)? {
            Poll::Again => {}
            Poll::WaitUntil(host_ns) => {
                let wait = Duration::from_nanos((host_ns - now_ns()).max(0) as u64);
                std::thread::sleep(wait.min(LONGEST_SLEEP));
            }
            Poll::Finished => break,
        }
    }
    Ok(())
}
