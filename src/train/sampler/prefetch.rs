//! The next batches, made in the background while the current one computes.

use std::ops::Range;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::thread::{Builder, JoinHandle};

use crossbeam_channel::{bounded, Receiver};

use super::SamplerError;

/// Batches that wait at most.
const AHEAD: usize = 2;

/// Hands out what a background thread makes for each step, in order.
///
/// The thread ends with the last step, with the first error, or when this is dropped.
#[derive(Debug)]
pub struct Prefetch<T> {
    ready: Option<Receiver<Result<T, SamplerError>>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Prefetch<T> {
    /// Makes `draw(step)` for each of the steps.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn new(
        mut steps: Range<u64>,
        mut draw: impl FnMut(u64) -> Result<T, SamplerError> + Send + 'static,
    ) -> Result<Self, SamplerError> {
        let (sender, ready) = bounded(AHEAD);
        let work = move || {
            let mut draw = |step| {
                catch_unwind(AssertUnwindSafe(|| draw(step)))
                    .unwrap_or_else(|panic| Err(SamplerError::Thread(format!("failed: {}", text_of(panic.as_ref())))))
            };
            let _ = steps.try_for_each(|step| {
                let drawn = draw(step);
                let ends = drawn.is_err();
                // Nobody receives any more where the receiver was dropped.
                let received = sender.send(drawn).is_ok();
                (received && !ends).then_some(())
            });
        };
        let thread = Builder::new()
            .name("batches".to_owned())
            .spawn(work)
            .map_err(|error| SamplerError::Thread(format!("could not be started: {error}")))?;
        Ok(Prefetch {
            ready: Some(ready),
            thread: Some(thread),
        })
    }
}

impl<T> Iterator for Prefetch<T> {
    type Item = Result<T, SamplerError>;

    /// The next step's; none after the last step or an error.
    fn next(&mut self) -> Option<Self::Item> {
        self.ready.as_ref()?.recv().ok()
    }
}

impl<T> Drop for Prefetch<T> {
    fn drop(&mut self) {
        // A thread that waits to send wakes up when there is no receiver.
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::Arc;

    use super::*;

    #[test]
    fn steps_come_in_order_and_end() {
        let mut batches = Prefetch::new(5..9, |step| Ok(step * step)).unwrap();
        let all: Vec<u64> = batches.by_ref().map(Result::unwrap).collect();
        assert_eq!(all, [25, 36, 49, 64]);
        assert!(batches.next().is_none());
    }

    #[test]
    fn an_error_comes_after_what_was_made_and_ends_it() {
        let draw = |step| match step {
            2 => Err(SamplerError::NoRecordings),
            _ => Ok(step),
        };
        let all: Vec<_> = Prefetch::new(0..10, draw).unwrap().collect();
        assert!(matches!(all[..], [Ok(0), Ok(1), Err(SamplerError::NoRecordings)]));
    }

    #[test]
    fn a_panic_becomes_an_error() {
        let mut batches = Prefetch::new(0..10, |step| if step == 1 { panic!("no {step}") } else { Ok(step) }).unwrap();
        assert!(matches!(batches.next(), Some(Ok(0))));
        let error = batches.next().unwrap().unwrap_err().to_string();
        assert_eq!(error, "the thread that prepares batches failed: no 1");
        assert!(batches.next().is_none());
    }

    #[test]
    fn it_stays_two_ahead_and_ends_when_dropped() {
        let drawn = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&drawn);
        let mut batches = Prefetch::new(0..1000, move |step| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(step)
        })
        .unwrap();
        assert!(matches!(batches.next(), Some(Ok(0))));
        drop(batches);
        // One was received, two waited, one was about to be sent.
        assert!(drawn.load(Ordering::SeqCst) <= 4);
        assert_eq!(Arc::strong_count(&drawn), 1);
    }
}
