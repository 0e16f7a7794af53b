//! The runtime in a process of its own: `neurohorizon run`, as a user starts it, with a configuration that the suite writes.

use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{setrlimit, Resource, Rlimit, Signal};
use serde_json::Value;

use super::child::{command, read_all, Kept};

/// The name under which this program is the runtime.
pub const ROLE: &str = "neurohorizon";
/// Holds the most bytes that a file of the runtime may have.
const FILE_LIMIT: &str = "RT_TESTS_FILE_BYTES";
/// Longest that a run may take to come to its end once it is told to.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the runtime is set up.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Units of the device.
    pub units: u32,
    /// Their ids; `CHANNEL:1` where there are none.
    pub ids: Vec<String>,
    /// Mean rate of a unit, spikes/s.
    pub unit_rate_hz: f64,
    /// Bin width of the mean-rate model, ms.
    pub bin_ms: f64,
    /// History of the mean-rate model, ms.
    pub history_ms: f64,
    /// The model; the mean rates without one.
    pub checkpoint: Option<PathBuf>,
    /// From a bin's close to its publication, ms.
    pub deadline_ms: f64,
    /// How much later than the quickest spikes others may come, ms.
    pub lateness_ms: f64,
    /// Whether the run asks for real-time priorities.
    pub fifo: bool,
    /// A recording, of so many bytes at most.
    pub record: Option<(PathBuf, u64)>,
    /// Whether it can be told what to do.
    pub control: bool,
}

/// What tells a run to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// SIGINT.
    BySignal,
    /// The end of its input.
    ByInput,
}

/// A run.
pub struct Runtime {
    /// The process.
    pub process: Kept,
    output: Option<JoinHandle<String>>,
    by_signal: bool,
    /// Where the bridge listens.
    pub device: SocketAddr,
    /// Where predictions are published.
    pub endpoint: String,
    /// Where it is told what to do.
    pub control: Option<String>,
}

/// A free port of this machine: bound, looked at, and let go.
pub(super) fn free_udp() -> std::io::Result<SocketAddr> {
    UdpSocket::bind("127.0.0.1:0")?.local_addr()
}

/// Text of a TOML string.
fn quoted(text: &str) -> String {
    // What JSON escapes, TOML's basic strings escape the same way.
    Value::from(text).to_string()
}

/// The configuration of a run.
fn configuration(setup: &Setup, device: SocketAddr, endpoint: &str, control: &str) -> String {
    let units = if setup.ids.is_empty() {
        quoted(&format!("0..{}:1", setup.units - 1))
    } else {
        let listed = setup
            .ids
            .iter()
            .zip(0..)
            .map(|(id, channel)| quoted(&format!("{channel}:1={id}")));
        listed.collect::<Vec<_>>().join(", ")
    };
    let model = match &setup.checkpoint {
        Some(checkpoint) => format!(
            "checkpoint = {}\ntrust_units = true\ndevice = \"cpu\"",
            quoted(&checkpoint.display().to_string())
        ),
        None => format!("bin_ms = {:?}\nhistory_ms = {:?}", setup.bin_ms, setup.history_ms),
    };
    format!(
        "[bridge]\nlisten = \"{device}\"\nunits = [{units}]\nclock_exchange = false\nlateness_ms = {:?}\nassumed_rate_hz = {:?}\n\n\
         [model]\n{model}\n\n[pipeline]\ndeadline_ms = {:?}\n\n\
         [publish]\nendpoint = \"{endpoint}\"\nlatest_endpoint = \"\"\nwait_for_subscriber_s = 10.0\n\n\
         [control]\nendpoint = \"{control}\"\n",
        setup.lateness_ms, setup.unit_rate_hz, setup.deadline_ms
    )
}

/// Has this process write no file beyond what the suite says.
///
/// # Errors
/// Where the system refuses.
pub fn limit_files() -> std::io::Result<()> {
    if let Some(bytes) = std::env::var(FILE_LIMIT).ok().and_then(|bytes| bytes.parse().ok()) {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        setrlimit(Resource::Fsize, limit)?;
    }
    Ok(())
}

impl Runtime {
    /// Starts a run; its files lie in `folder`.
    ///
    /// # Errors
    /// What did not work, in words.
    pub fn start(setup: &Setup, folder: &Path) -> Result<Self, String> {
        let problem = |error: std::io::Error| format!("the runtime cannot be started: {error}");
        let device = free_udp().map_err(problem)?;
        let endpoint = crate::subscriber::free_endpoint();
        let control = setup.control.then(crate::subscriber::free_endpoint);
        let file = folder.join("run.toml");
        let text = configuration(setup, device, &endpoint, control.as_deref().unwrap_or_default());
        std::fs::write(&file, text).map_err(problem)?;
        let mut command = command(ROLE).map_err(problem)?;
        command.arg("run").arg(&file).args(["--json", "--quiet"]);
        if setup.fifo {
            command.arg("--realtime");
        }
        if let Some((record, bytes)) = &setup.record {
            command.arg("--record").arg(record).env(FILE_LIMIT, bytes.to_string());
        }
        Self::of(&mut command, device, endpoint, control, Ends::BySignal)
    }

    /// A run that this command starts.
    ///
    /// # Errors
    /// What did not work, in words.
    pub fn of(
        command: &mut std::process::Command,
        device: SocketAddr,
        endpoint: String,
        control: Option<String>,
        ends: Ends,
    ) -> Result<Self, String> {
        let mut process = Kept::spawn(command).map_err(|error| format!("the runtime cannot be started: {error}"))?;
        let output = process.child().stdout.take().map(read_all);
        Ok(Self {
            process,
            output,
            by_signal: ends == Ends::BySignal,
            device,
            endpoint,
            control,
        })
    }

    /// What a run says that ends by itself, because it cannot begin.
    ///
    /// # Errors
    /// Where it does not end, or ends well.
    pub fn ended(mut self) -> Result<String, String> {
        match self.process.wait(PATIENCE) {
            Some(status) if !status.success() => Ok(self.process.errors()),
            Some(_) => Err("the run ended well".into()),
            None => Err("the run goes on".into()),
        }
    }

    /// Tells it to end, and returns its summary.
    ///
    /// # Errors
    /// Where it does not end, or says something else.
    pub fn finish(mut self) -> Result<Value, String> {
        // The real runtime ends by the signal, one with a fault by the end of its input.
        if self.by_signal {
            self.process.signal(Signal::INT);
        }
        drop(self.process.child().stdin.take());
        let status = self.process.wait(PATIENCE);
        let text = self
            .output
            .take()
            .and_then(|output| output.join().ok())
            .unwrap_or_default();
        let errors = self.process.errors();
        let Some(status) = status else {
            return Err(format!(
                "the run did not end within {} s: {}",
                PATIENCE.as_secs(),
                errors.trim()
            ));
        };
        serde_json::from_str(&text).map_err(|_| format!("the run ended with {status}: {}", errors.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neurohorizon::cli::run_config::RunFile;

    #[test]
    fn the_configuration_is_one_that_the_runtime_reads() {
        let mut setup = Setup {
            units: 96,
            ids: Vec::new(),
            unit_rate_hz: 10.0,
            bin_ms: 5.0,
            history_ms: 100.0,
            checkpoint: None,
            deadline_ms: 5.0,
            lateness_ms: 2.0,
            fifo: false,
            record: None,
            control: false,
        };
        let device = "127.0.0.1:5580".parse().unwrap();
        let read = |setup: &Setup| {
            let text = configuration(setup, device, "tcp://127.0.0.1:1", "");
            RunFile::parse("run.toml", &text).unwrap_or_else(|error| panic!("{error}\n{text}"))
        };
        assert_eq!(read(&setup).pipeline.deadline_ms, Some(5.0));
        setup.ids = vec!["a \"quoted\" id".into(), "b".into()];
        setup.checkpoint = Some("some/model.safetensors".into());
        assert_eq!(read(&setup).model.checkpoint, setup.checkpoint);
    }
}
