//! The TOML of `neurohorizon run`. Unknown keys are refused; `configs/*.toml` document every key in place.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use super::latents_option::LatentsOption;
use super::record_option::RecordSection;
use super::run_control::ControlSection;
use super::run_devices::{BlackrockSection, BridgeSection, Devices, IntanSection, OpenEphysSection};
use super::run_guards::GuardsSection;
use super::run_realtime::RealtimeSection;
use super::{CliError, Device, Weights};
use crate::acquire::Pace;
use crate::data::Position;

/// A whole configuration: a recording, the simulated population, or one or more devices.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Spikes from a recording.
    pub replay: Option<ReplaySection>,
    /// Spikes from the simulated population.
    pub simulate: Option<SimulateSection>,
    /// Spikes from Intan RHX.
    #[serde(default)]
    pub intan: Devices<IntanSection>,
    /// Spikes from a Blackrock device.
    #[serde(default)]
    pub blackrock: Devices<BlackrockSection>,
    /// Spikes from the Open Ephys GUI.
    #[serde(default)]
    pub open_ephys: Devices<OpenEphysSection>,
    /// Spikes and samples in the project's own packets.
    #[serde(default)]
    pub bridge: Devices<BridgeSection>,
    /// What predicts.
    #[serde(default)]
    pub model: ModelSection,
    /// Bins, rings and the deadline.
    #[serde(default)]
    pub pipeline: PipelineSection,
    /// Where predictions go.
    #[serde(default)]
    pub publish: PublishSection,
    /// What may go out.
    #[serde(default)]
    pub guards: GuardsSection,
    /// Where the run can be told what to do.
    #[serde(default)]
    pub control: ControlSection,
    /// What is asked of the system.
    #[serde(default)]
    pub realtime: RealtimeSection,
    /// Whether the run is recorded.
    pub record: Option<RecordSection>,
    /// The configuration's text.
    #[serde(skip)]
    pub text: String,
}

/// `[replay]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySection {
    /// The recording's file, from the working directory.
    pub recording: PathBuf,
    /// Speed against life.
    #[serde(default)]
    pub speed: Speed,
    /// Where to begin; the recording's first spike without it.
    #[serde(default, deserialize_with = "position")]
    pub from: Option<Position>,
    /// Where to end; the recording's end without it.
    #[serde(default, deserialize_with = "position")]
    pub to: Option<Position>,
    /// Most seconds of device time.
    pub duration_s: Option<f64>,
    /// Device time between two deliveries, ms.
    #[serde(default = "one_ms")]
    pub tick_ms: f64,
}

impl ReplaySection {
    /// The whole of a recording at the speed of life.
    pub fn of(recording: PathBuf) -> Self {
        Self {
            recording,
            speed: Speed::default(),
            from: None,
            to: None,
            duration_s: None,
            tick_ms: one_ms(),
        }
    }
}

/// `[simulate]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimulateSection {
    /// Units of the population.
    pub units: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Speed against life.
    pub speed: Speed,
    /// Seconds of device time that mean rates are fitted on before the run.
    pub fit_s: f64,
    /// Seconds of device time to run.
    pub duration_s: f64,
    /// Device time between two deliveries, ms.
    pub tick_ms: f64,
}

impl Default for SimulateSection {
    fn default() -> Self {
        Self {
            units: 96,
            seed: 1,
            speed: Speed::default(),
            fit_s: 10.0,
            duration_s: 60.0,
            tick_ms: 1.0,
        }
    }
}

/// `[model]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// The checkpoint; without one, each unit's mean rate is predicted.
    pub checkpoint: Option<PathBuf>,
    /// Which of the checkpoint's sessions the source's units are of, where it knows several.
    pub session: Option<String>,
    /// Go on although units that are named like the checkpoint's do not fire like them.
    pub trust_units: bool,
    /// Compute the units' identities from their activity while the run goes on, in place of looking them up.
    pub calibrate: Option<CalibrateSection>,
    /// What computes it.
    pub device: Device,
    /// How long a GPU's answer may take, ms, before the CPU takes over.
    pub device_patience_ms: f64,
    /// In which precision its weights are held; without it FP16 on a GPU, FP32 elsewhere.
    pub weights: Option<Weights>,
    /// Threads that compute it.
    pub threads: usize,
    /// Cores that they are pinned to, the decode thread to the first; without it the system places them.
    pub cores: Option<Vec<usize>>,
    /// Bin width of the mean-rate model, ms; a checkpoint has its own.
    pub bin_ms: f64,
    /// History of the mean-rate model, ms; a checkpoint has its own.
    pub history_ms: f64,
    /// Bins to predict; without it as the checkpoint was trained, or 12 of the mean-rate model.
    pub horizon_bins: Option<usize>,
    /// Most spikes in a history; the oldest above it are left out, counted and flagged.
    pub max_spikes: usize,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            checkpoint: None,
            session: None,
            trust_units: false,
            calibrate: None,
            device: Device::Auto,
            device_patience_ms: 50.0,
            weights: None,
            threads: 2,
            cores: None,
            bin_ms: 20.0,
            history_ms: 500.0,
            horizon_bins: None,
            max_spikes: 16_384,
        }
    }
}

/// `[model.calibrate]`
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct CalibrateSection {
    /// Seconds of activity that identities are computed from.
    pub reference_s: f64,
    /// Seconds from one calibration to the next; once only without it.
    pub every_s: Option<f64>,
    /// Whether identities are refined; as the checkpoint says without it.
    pub refine: Option<bool>,
}

impl Default for CalibrateSection {
    fn default() -> Self {
        Self {
            reference_s: 30.0,
            every_s: None,
            refine: None,
        }
    }
}

/// `[pipeline]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineSection {
    /// From a bin's close to its publication, ms; one bin width without it.
    pub deadline_ms: Option<f64>,
    /// From a bin's close to the mean rates that are published where the decode thread is stuck, ms; twice the deadline without it.
    pub stuck_after_ms: Option<f64>,
    /// How long a bin waits for late spikes, ms of device time.
    pub grace_ms: f64,
    /// Events that a source's ring holds.
    pub ring_events: usize,
}

impl Default for PipelineSection {
    fn default() -> Self {
        Self {
            deadline_ms: None,
            stuck_after_ms: None,
            grace_ms: 0.0,
            ring_events: 65_536,
        }
    }
}

/// `[publish]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishSection {
    /// Endpoint of every prediction.
    pub endpoint: String,
    /// Endpoint of the latest only; empty: none.
    pub latest_endpoint: String,
    /// Messages kept for a slow subscriber, at least 1000.
    pub high_water_mark: i32,
    /// How long to wait for a first subscriber before the run starts, s.
    pub wait_for_subscriber_s: f64,
    /// The network's latents on a topic of their own.
    pub latents: LatentsOption,
}

impl Default for PublishSection {
    fn default() -> Self {
        Self {
            endpoint: "tcp://127.0.0.1:5571".into(),
            latest_endpoint: "tcp://127.0.0.1:5572".into(),
            high_water_mark: 1_000,
            wait_for_subscriber_s: 0.0,
            latents: LatentsOption::Off,
        }
    }
}

/// A speed against life: a positive number, or `max`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed(pub Pace);

impl Default for Speed {
    fn default() -> Self {
        Self(Pace::Clocked(1.0))
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self(Pace::AsFast));
        }
        match text.parse::<f64>() {
            Ok(speed) if speed.is_finite() && speed > 0.0 => Ok(Self(Pace::Clocked(speed))),
            _ => Err(format!("speed {text:?} is neither a positive number nor \"max\"")),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(f64),
    Text(String),
}

fn parse_number_or_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = String>,
{
    let text = match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(number) => number.to_string(),
        NumberOrText::Text(text) => text,
    };
    text.parse().map_err(D::Error::custom)
}

impl<'de> Deserialize<'de> for Speed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_number_or_text(deserializer)
    }
}

fn position<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Position>, D::Error> {
    parse_number_or_text(deserializer).map(Some)
}

fn one_ms() -> f64 {
    1.0
}

/// Milliseconds of a configuration as ns.
///
/// # Errors
/// Where the number is not finite, below `least_ms`, or longer than an hour.
pub fn ms_to_ns(key: &str, ms: f64, least_ms: f64) -> Result<i64, CliError> {
    if ms.is_finite() && (least_ms..=3.6e6).contains(&ms) {
        Ok((ms * 1e6).round() as i64)
    } else {
        Err(CliError::Config(format!(
            "{key} = {ms} is not between {least_ms} ms and an hour"
        )))
    }
}

/// Seconds of a configuration as ns.
///
/// # Errors
/// Where the number is not finite, negative, or longer than a year.
pub fn s_to_ns(key: &str, s: f64) -> Result<i64, CliError> {
    if s.is_finite() && (0.0..=3.2e7).contains(&s) {
        Ok((s * 1e9).round() as i64)
    } else {
        Err(CliError::Config(format!("{key} = {s} is not between 0 s and a year")))
    }
}

impl RunFile {
    /// Tables that may describe a source.
    pub const SOURCES: &str = "[replay], [simulate], or one or more of [intan], [blackrock], [open_ephys] and [bridge]";

    /// Number of devices.
    pub fn devices(&self) -> usize {
        self.intan.0.len() + self.blackrock.0.len() + self.open_ephys.0.len() + self.bridge.0.len()
    }

    /// Whether its sources go together: a recording or a simulation stands alone.
    pub fn has_sources(&self) -> bool {
        match usize::from(self.replay.is_some()) + usize::from(self.simulate.is_some()) {
            0 => self.devices() > 0,
            alone => alone == 1 && self.devices() == 0,
        }
    }

    /// Leaves every source out.
    pub fn clear_sources(&mut self) {
        (self.replay, self.simulate) = (None, None);
        (self.intan, self.blackrock) = (Devices::default(), Devices::default());
        (self.open_ephys, self.bridge) = (Devices::default(), Devices::default());
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// One sentence with the file, the line and what is wrong there.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let text = std::fs::read_to_string(path).map_err(|source| CliError::System {
            what: format!("configuration {} cannot be read", path.display()),
            source,
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Parses a configuration; `name` stands for it in errors.
    ///
    /// # Errors
    /// See [`RunFile::read`].
    pub fn parse(name: &str, text: &str) -> Result<Self, CliError> {
        let read: Result<Self, toml::de::Error> = toml::from_str(text);
        let with_text = read.map(|file| Self {
            text: text.to_string(),
            ..file
        });
        with_text.map_err(|error| {
            let message = error.message().replace('\n', ", ");
            let place = error.span().map(|span| {
                let before = text.get(..span.start).unwrap_or(text);
                let line = before.matches('\n').count();
                format!(" line {} ({})", line + 1, text.lines().nth(line).unwrap_or("").trim())
            });
            CliError::Config(format!("{name}{}: {message}", place.unwrap_or_default()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        RunFile::parse("rig.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_key() {
        let unknown = refused("[publish]\n\nendpiont = \"tcp://127.0.0.1:1\"\n");
        assert!(unknown.starts_with("rig.toml line 3 (endpiont ="), "{unknown}");
        assert!(unknown.contains("`endpiont`"), "{unknown}");
        let kind = refused("[pipeline]\ngrace_ms = \"soon\"\n");
        assert!(kind.starts_with("rig.toml line 2 (grace_ms = \"soon\")"), "{kind}");
        let speed = refused("[replay]\nrecording = \"a.npz\"\nspeed = -1\n");
        assert!(
            speed.contains("line 3") && speed.contains("neither a positive number"),
            "{speed}"
        );
        assert!(refused("[replay\n").contains("line 1"));
        assert!(!refused("[a]\nb = [\n").contains('\n'));
    }

    #[test]
    fn speeds_and_positions_are_numbers_or_words() {
        let file = RunFile::parse(
            "c",
            "[replay]\nrecording = \"a\"\nspeed = \"max\"\nfrom = 0.8\nto = \"96.5s\"",
        )
        .unwrap();
        let replay = file.replay.unwrap();
        assert_eq!(replay.speed, Speed(Pace::AsFast));
        assert_eq!(
            (replay.from, replay.to),
            (Some(Position::Fraction(0.8)), Some(Position::Seconds(96.5)))
        );
        assert!("NaN".parse::<Speed>().is_err());
    }

    #[test]
    fn devices_are_one_table_or_several() {
        let file = RunFile::parse(
            "c",
            "[bridge]\nbaud = 9600\n[[intan]]\n[[intan]]\nsample_rate_hz = 20000\n",
        )
        .unwrap();
        assert_eq!(
            (file.bridge.0[0].baud, file.intan.0[1].sample_rate_hz, file.devices()),
            (9_600, 20_000, 3)
        );
        assert!(file.has_sources());
        let with_replay = RunFile::parse("c", "[bridge]\n[replay]\nrecording = \"a\"\n").unwrap();
        assert!(!with_replay.has_sources());
        for text in ["[bridge]\nbuad = 9600\n", "[[bridge]]\nbuad = 9600\n"] {
            let error = refused(text);
            assert!(
                error.starts_with("rig.toml line 2 (buad = 9600)") && error.contains("`buad`"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_shipped_configurations_are_read() {
        for name in [
            "replay.toml",
            "simulate.toml",
            "intan.toml",
            "blackrock.toml",
            "open_ephys.toml",
            "bridge.toml",
        ] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
            let file = RunFile::read(&path).unwrap();
            assert!(file.has_sources(), "{name}");
        }
    }
}
