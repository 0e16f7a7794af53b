//! What a run was told while it went on, in its recording: every request that changed something, when it was heard, and its answer.
//!
//! Whoever hears requests notes them here, on a thread of its own; the writing thread appends them. A flood of them fills neither memory
//! nor disk: of each command only so many a second are noted, and only so many wait. The others are counted, in the file too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{bounded, Receiver, Sender};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Requests of one command that are noted in a second.
const MOST_A_SECOND: u32 = 20;
/// Requests that may wait to be written.
const MOST_WAITING: usize = 1_024;
const NS_PER_S: i64 = 1_000_000_000;

/// A request that changed a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangingRequest {
    /// Host time at which it was heard, monotonic ns.
    pub host_ns: i64,
    /// Where it came from: `control`, or a signal's name.
    pub from: String,
    /// The request, with its `command`.
    pub request: Value,
    /// What was answered; null where nobody waits for an answer.
    pub answer: Value,
}

impl ChangingRequest {
    /// Its command; empty where it has none.
    pub fn command(&self) -> &str {
        self.request["command"].as_str().unwrap_or_default()
    }
}

/// The content of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RequestChunk {
    /// Requests that are left out, since the chunk before.
    pub left_out: u64,
    /// The others.
    pub requests: Vec<ChangingRequest>,
}

/// Where requests are noted.
#[derive(Debug)]
pub struct RequestLog {
    waiting: Sender<ChangingRequest>,
    left_out: Arc<AtomicU64>,
    second: Mutex<Second>,
}

/// Requests noted in a second of host time, of each command.
#[derive(Debug, Default)]
struct Second {
    number: i64,
    noted: BTreeMap<String, u32>,
}

/// The writing thread's end.
#[derive(Debug)]
pub(super) struct NotedRequests {
    waiting: Receiver<ChangingRequest>,
    left_out: Arc<AtomicU64>,
    /// Written, and left out, so far.
    pub totals: (u64, u64),
}

/// Both ends.
pub(super) fn request_log() -> (RequestLog, NotedRequests) {
    let (sender, receiver) = bounded(MOST_WAITING);
    let left_out = Arc::new(AtomicU64::new(0));
    let log = RequestLog {
        waiting: sender,
        left_out: left_out.clone(),
        second: Mutex::default(),
    };
    let noted = NotedRequests {
        waiting: receiver,
        left_out,
        totals: (0, 0),
    };
    (log, noted)
}

impl RequestLog {
    /// Notes a request; waits for nobody.
    pub fn note(&self, request: ChangingRequest) {
        let is_noted = self.has_room_for(&request) && self.waiting.try_send(request).is_ok();
        self.left_out.fetch_add(u64::from(!is_noted), Relaxed);
    }

    fn has_room_for(&self, request: &ChangingRequest) -> bool {
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        let number = request.host_ns.div_euclid(NS_PER_S);
        if second.number != number {
            second.number = number;
            second.noted.clear();
        }
        let noted = second.noted.entry(request.command().to_string()).or_default();
        *noted += 1;
        *noted <= MOST_A_SECOND
    }
}

impl NotedRequests {
    /// What has come since the last call; none where nothing has.
    pub fn take(&mut self) -> Option<RequestChunk> {
        let requests: Vec<ChangingRequest> = self.waiting.try_iter().collect();
        let left_out = self.left_out.swap(0, Relaxed);
        (left_out > 0 || !requests.is_empty()).then_some(RequestChunk { left_out, requests })
    }

    /// A chunk has been written.
    pub fn written(&mut self, chunk: &RequestChunk) {
        self.totals.0 += chunk.requests.len() as u64;
        self.totals.1 += chunk.left_out;
    }

    /// It could not be: the next one says so.
    pub fn not_written(&mut self, chunk: &RequestChunk) {
        let requests = chunk.requests.len() as u64;
        self.left_out.fetch_add(chunk.left_out + requests, Relaxed);
    }

    /// Left out and not said in a chunk yet.
    pub fn untold(&self) -> u64 {
        self.left_out.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(command: &str, host_ns: i64) -> ChangingRequest {
        ChangingRequest {
            host_ns,
            from: "control".into(),
            request: json!({ "command": command }),
            answer: json!({"ok": true}),
        }
    }

    #[test]
    fn of_a_flood_so_many_a_second_are_noted_and_no_other_command_suffers() {
        let (log, mut noted) = request_log();
        for step in 0..10_000 {
            log.note(request("recalibrate", step * 100_000));
        }
        log.note(request("emergency_stop", 999_999_999));
        let chunk = noted.take().unwrap();
        assert_eq!(chunk.requests.len() as u32, MOST_A_SECOND + 1);
        assert_eq!(chunk.left_out, 10_000 - u64::from(MOST_A_SECOND));
        assert_eq!(chunk.requests.last().unwrap().command(), "emergency_stop");
        assert_eq!(noted.take(), None);
        // In the next second it is heard again.
        log.note(request("recalibrate", NS_PER_S));
        assert_eq!(noted.take().unwrap().requests.len(), 1);
    }

    #[test]
    fn while_nothing_is_written_only_so_many_wait_and_what_is_not_written_is_counted() {
        let (log, mut noted) = request_log();
        for second in 0..5_000 {
            log.note(request("set", second * NS_PER_S));
        }
        let chunk = noted.take().unwrap();
        assert_eq!(
            (chunk.requests.len(), chunk.left_out),
            (MOST_WAITING, 5_000 - MOST_WAITING as u64)
        );
        noted.not_written(&chunk);
        assert_eq!(noted.untold(), 5_000);
        log.note(request("set", 6_000 * NS_PER_S));
        let chunk = noted.take().unwrap();
        assert_eq!((chunk.requests.len(), chunk.left_out), (1, 5_000));
        noted.written(&chunk);
        assert_eq!(noted.totals, (1, 5_000));
    }
}
