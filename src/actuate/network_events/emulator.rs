//! Network Events without the GUI: answers its requests, and keeps the state of the lines.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde::Serialize;

use super::LINES;

/// Between two looks whether to stop, ms.
const LOOK_MS: i32 = 20;
/// Longest request that is taken, bytes.
const LONGEST_REQUEST: i64 = 64_000;
/// Where an emulated recording would lie.
const RECORDING_PATH: &str = "/emulated/recording";

/// What was asked of the emulator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EmulatorCounts {
    /// Requests, whatever they were.
    pub requests: u64,
    /// Requests that set lines.
    pub ttl: u64,
    /// Of these, those that came while nothing was acquired: answered, and dropped.
    pub dropped: u64,
    /// Times that a line went from low to high.
    pub rises: u64,
    /// Requests that were not understood.
    pub not_handled: u64,
}

/// The GUI's state, as far as the requests know it.
#[derive(Clone, Debug)]
pub struct Gui {
    acquiring: bool,
    recording: bool,
    recordings: u32,
    lines: Vec<bool>,
    counts: EmulatorCounts,
}

impl Gui {
    /// A GUI with all lines low.
    pub fn new(acquiring: bool) -> Self {
        Self {
            acquiring,
            recording: false,
            recordings: 0,
            lines: vec![false; usize::from(LINES)],
            counts: EmulatorCounts::default(),
        }
    }

    /// What was asked so far.
    pub fn counts(&self) -> EmulatorCounts {
        self.counts
    }

    /// Lines that are high, from 1.
    pub fn high_lines(&self) -> Vec<u16> {
        (1..=LINES).filter(|line| self.lines[usize::from(*line) - 1]).collect()
    }

    /// Handles a request. Commands and keys are told apart without regard to case; a recording that runs does not begin again.
    pub fn answer(&mut self, request: &str) -> String {
        self.counts.requests += 1;
        let mut words = request.split_whitespace();
        let command = words.next().unwrap_or_default().to_ascii_lowercase();
        let keys: Vec<(String, &str)> = words
            .filter_map(|word| word.split_once('='))
            .map(|(key, value)| (key.to_ascii_lowercase(), value.trim_matches(['"', '\''])))
            .collect();
        match command.as_str() {
            "ttl" => self.ttl(&keys),
            "startacquisition" => {
                self.acquiring = true;
                "StartedAcquisition".into()
            }
            "stopacquisition" => {
                (self.acquiring, self.recording) = (false, false);
                "StoppedAcquisition".into()
            }
            "startrecord" if !self.recording => {
                (self.acquiring, self.recording) = (true, true);
                self.recordings += 1;
                "StartedRecording".into()
            }
            "stoprecord" => {
                self.recording = false;
                "StoppedRecording".into()
            }
            "isacquiring" => u8::from(self.acquiring).to_string(),
            "isrecording" => u8::from(self.recording).to_string(),
            "getrecordingpath" => RECORDING_PATH.into(),
            "getrecordingnumber" => self.recordings.to_string(),
            "getexperimentnumber" | "getnodeid" => "1".into(),
            _ => {
                self.counts.not_handled += 1;
                "NotHandled".into()
            }
        }
    }

    fn ttl(&mut self, keys: &[(String, &str)]) -> String {
        let value = |name: &str| keys.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value);
        self.counts.ttl += 1;
        self.counts.dropped += u64::from(!self.acquiring);
        if let Some(word) = value("word") {
            let word = word.parse::<u64>().unwrap_or_default();
            for line in 0..64 {
                self.set(line, word >> line & 1 == 1);
            }
            return format!("TTLHandled: Word={word}");
        }
        // What is left out or no number is line 1, low.
        let line = value("line").map_or(1, |line| line.parse::<i64>().unwrap_or_default());
        if !(1..=i64::from(LINES)).contains(&line) {
            return "InvalidChannel".into();
        }
        let high = value("state").is_some_and(|state| state.parse::<i64>().is_ok_and(|state| state != 0));
        self.set(line as usize - 1, high);
        format!("TTLHandled: Line={line} State={}", u8::from(high))
    }

    fn set(&mut self, line: usize, high: bool) {
        if self.acquiring {
            let before = std::mem::replace(&mut self.lines[line], high);
            self.counts.rises += u64::from(high && !before);
        }
    }
}

/// The plugin's socket.
pub struct NetworkEventsEmulator {
    socket: zmq::Socket,
    endpoint: String,
    gui: Gui,
    delay: Duration,
}

impl NetworkEventsEmulator {
    /// An emulator on its endpoint that answers after `delay`; the GUI's own block of audio and its windows cost it some ms.
    ///
    /// # Errors
    /// Where the endpoint cannot be bound.
    pub fn bind(endpoint: &str, gui: Gui, delay: Duration) -> Result<Self, zmq::Error> {
        let socket = zmq::Context::new().socket(zmq::REP)?;
        socket.set_linger(0)?;
        socket.set_rcvtimeo(LOOK_MS)?;
        socket.set_maxmsgsize(LONGEST_REQUEST)?;
        socket.bind(endpoint)?;
        let bound = socket.get_last_endpoint()?;
        Ok(Self {
            socket,
            endpoint: bound.unwrap_or_else(|_| endpoint.to_string()),
            gui,
            delay,
        })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Answers requests until `stop` is set, and shows each with its answer.
    ///
    /// # Errors
    /// A socket that fails.
    pub fn serve(mut self, stop: &AtomicBool, mut show: impl FnMut(&str, &str)) -> Result<Gui, zmq::Error> {
        while !stop.load(Relaxed) {
            let request = match self.socket.recv_bytes(0) {
                Ok(request) => request,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => continue,
                Err(error) => return Err(error),
            };
            let request = String::from_utf8_lossy(&request);
            std::thread::sleep(self.delay);
            let answer = self.gui.answer(&request);
            // One who has gone needs no answer.
            match self.socket.send(answer.as_bytes(), zmq::DONTWAIT) {
                Ok(()) | Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {}
                Err(error) => return Err(error),
            }
            show(&request, &answer);
        }
        Ok(self.gui)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_as_the_plugin_answers_them() {
        let mut gui = Gui::new(false);
        for (request, answer) in [
            ("IsAcquiring", "0"),
            ("TTL Line=3 State=1", "TTLHandled: Line=3 State=1"),
            ("StartAcquisition", "StartedAcquisition"),
            ("isacquiring", "1"),
            ("TTL Line=256 State=1", "TTLHandled: Line=256 State=1"),
            ("ttl state=1 line=2", "TTLHandled: Line=2 State=1"),
            ("TTL Line=257 State=1", "InvalidChannel"),
            ("TTL Line=0 State=1", "InvalidChannel"),
            ("TTL", "TTLHandled: Line=1 State=0"),
            ("StartRecord CreateNewDir=1", "StartedRecording"),
            ("StartRecord", "NotHandled"),
            ("IsRecording", "1"),
            ("GetRecordingNumber", "1"),
            ("StopRecord", "StoppedRecording"),
            ("GetRecordingPath", RECORDING_PATH),
            ("GetExperimentNumber", "1"),
            ("GetNodeID", "1"),
            ("", "NotHandled"),
            ("Hello", "NotHandled"),
        ] {
            assert_eq!(gui.answer(request), answer, "{request}");
        }
        assert_eq!(gui.high_lines(), [2, 256], "line 3 was set before acquisition");
        let counts = gui.counts();
        assert_eq!((counts.requests, counts.ttl, counts.dropped), (19, 6, 1));
        assert_eq!((counts.rises, counts.not_handled), (2, 3));
        assert_eq!(gui.answer("TTL Word=5"), "TTLHandled: Word=5");
        assert_eq!(gui.high_lines(), [1, 3, 256]);
    }
}
