//! Tables of the run's TOML for acquisition systems, and the sources that they describe.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::run_config::{ms_to_ns, s_to_ns, RunFile};
use super::run_source::BuiltSource;
use super::CliError;
use crate::acquire::blackrock::{Blackrock, BlackrockConfig, Protocol, TimeUnit, DATA_PORT};
use crate::acquire::bridge::{Bridge, BridgeConfig, PORT};
use crate::acquire::intan::{Intan, IntanConfig, SPIKE_PORT};
use crate::acquire::open_ephys::{OpenEphys, OpenEphysConfig, EVENT_BROADCASTER};
use crate::acquire::wire::{ClockConfig, WireCounters};
use crate::acquire::{Pace, Source};

/// `[intan]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IntanSection {
    /// Where the spike output of RHX listens.
    pub address: SocketAddr,
    /// Sampling rate, Hz.
    pub sample_rate_hz: u32,
    /// The units: `CHANNEL:UNIT`, `CHANNEL:UNIT=ID` or `FIRST..LAST:UNIT`.
    pub units: Vec<String>,
    /// How much later than the quickest spikes others may come, ms.
    pub lateness_ms: f64,
    /// Device seconds a host second: 1 for a device.
    pub speed: f64,
    /// Seconds to run; without it until the run is stopped.
    pub duration_s: Option<f64>,
    /// Every unit's mean rate where nothing is known of it, Hz.
    pub assumed_rate_hz: f64,
}

impl Default for IntanSection {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], SPIKE_PORT)),
            sample_rate_hz: 30_000,
            units: Vec::new(),
            lateness_ms: 50.0,
            speed: 1.0,
            duration_s: None,
            assumed_rate_hz: ASSUMED_RATE_HZ,
        }
    }
}

/// `[blackrock]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BlackrockSection {
    /// Where the device's packets come to.
    pub listen: SocketAddr,
    /// The layout of its packets, found out without it.
    pub protocol: Option<Protocol>,
    /// What its clock counts, found out without it.
    pub time_unit: Option<TimeUnit>,
    /// The units: `CHANNEL:UNIT`, `CHANNEL:UNIT=ID` or `FIRST..LAST:UNIT`.
    pub units: Vec<String>,
    /// How much later than the quickest spikes others may come, ms.
    pub lateness_ms: f64,
    /// Device seconds a host second: 1 for a device.
    pub speed: f64,
    /// Seconds to run; without it until the run is stopped.
    pub duration_s: Option<f64>,
    /// Every unit's mean rate where nothing is known of it, Hz.
    pub assumed_rate_hz: f64,
}

impl Default for BlackrockSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], DATA_PORT)),
            protocol: None,
            time_unit: None,
            units: Vec::new(),
            lateness_ms: 5.0,
            speed: 1.0,
            duration_s: None,
            assumed_rate_hz: ASSUMED_RATE_HZ,
        }
    }
}

/// `[open_ephys]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenEphysSection {
    /// Endpoint of the Event Broadcaster or the ZMQ Interface.
    pub endpoint: String,
    /// The stream whose spikes are taken; without it that of the first spike.
    pub stream: Option<String>,
    /// Sampling rate, Hz, where messages do not say so.
    pub sample_rate_hz: u32,
    /// Take in the ZMQ Interface's continuous data too, so that missing messages are counted.
    pub every_message: bool,
    /// The units: `ELECTRODE:UNIT`, `ELECTRODE:UNIT=ID` or `FIRST..LAST:UNIT`.
    pub units: Vec<String>,
    /// How much later than the quickest spikes others may come, ms.
    pub lateness_ms: f64,
    /// Device seconds a host second: 1 for a device.
    pub speed: f64,
    /// Seconds to run; without it until the run is stopped.
    pub duration_s: Option<f64>,
    /// Every unit's mean rate where nothing is known of it, Hz.
    pub assumed_rate_hz: f64,
}

impl Default for OpenEphysSection {
    fn default() -> Self {
        Self {
            endpoint: EVENT_BROADCASTER.into(),
            stream: None,
            sample_rate_hz: 30_000,
            every_message: false,
            units: Vec::new(),
            lateness_ms: 50.0,
            speed: 1.0,
            duration_s: None,
            assumed_rate_hz: ASSUMED_RATE_HZ,
        }
    }
}

/// `[bridge]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BridgeSection {
    /// Where packets come to.
    pub listen: SocketAddr,
    /// Which device, where several send; the first that is heard without it.
    pub device_id: Option<u32>,
    /// The units: `CHANNEL:UNIT`, `CHANNEL:UNIT=ID` or `FIRST..LAST:UNIT`.
    pub units: Vec<String>,
    /// The series: `KIND:NUMBER=NAME:CHANNELS`.
    pub series: Vec<String>,
    /// How much later than the quickest events others may come, ms.
    pub lateness_ms: f64,
    /// Device seconds a host second: 1 for a device.
    pub speed: f64,
    /// Seconds to run; without it until the run is stopped.
    pub duration_s: Option<f64>,
    /// Every unit's mean rate where nothing is known of it, Hz.
    pub assumed_rate_hz: f64,
}

impl Default for BridgeSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], PORT)),
            device_id: None,
            units: Vec::new(),
            series: Vec::new(),
            lateness_ms: 5.0,
            speed: 1.0,
            duration_s: None,
            assumed_rate_hz: ASSUMED_RATE_HZ,
        }
    }
}

/// Rate that a unit is taken to have where nothing is known, Hz.
const ASSUMED_RATE_HZ: f64 = 5.0;

/// What the tables of devices have in common.
struct Common<'a> {
    table: &'a str,
    lateness_ms: f64,
    speed: f64,
    duration_s: Option<f64>,
    assumed_rate_hz: f64,
}

impl Common<'_> {
    fn refuse(&self, key: &str, problem: String) -> CliError {
        CliError::Config(format!("{}.{key} = {problem}", self.table))
    }

    fn clock(&self) -> Result<ClockConfig, CliError> {
        let lateness_ns = ms_to_ns(&format!("{}.lateness_ms", self.table), self.lateness_ms, 0.0)?;
        if !(self.speed.is_finite() && (0.001..=1_000.0).contains(&self.speed)) {
            return Err(self.refuse("speed", format!("{} is not in 0.001–1000", self.speed)));
        }
        let key = format!("{}.duration_s", self.table);
        let end_ns = self.duration_s.map(|seconds| s_to_ns(&key, seconds)).transpose()?;
        Ok(ClockConfig {
            speed: self.speed,
            lateness_ns,
            end_ns,
        })
    }

    /// The mean rates of a device are not known before the run: `assumed_rate_hz` stands for them.
    fn built<S: Source + 'static>(
        &self,
        source: S,
        counters: Arc<WireCounters>,
        bin_ns: i64,
    ) -> Result<BuiltSource, CliError> {
        let rate = self.assumed_rate_hz;
        if !(rate.is_finite() && rate > 0.0 && rate <= 1_000.0) {
            return Err(self.refuse("assumed_rate_hz", format!("{rate} is not in 0–1000")));
        }
        let units = source.unit_ids().len();
        let assumed = format!("{rate} Hz, {}.assumed_rate_hz", self.table);
        Ok(BuiltSource {
            notes: vec![format!(
                "no mean rate of {} is known beforehand: where the checkpoint has none, predictions start from {assumed}, \
                 and bits per spike are counted against it; that units fire like the checkpoint's cannot be checked",
                source.name()
            )],
            source: Box::new(source),
            mean_log_rates: vec![(rate * bin_ns as f64 * 1e-9).ln(); units],
            means_from: assumed,
            counters: Some(counters),
        })
    }
}

/// The source that an `[intan]` table describes.
///
/// # Errors
/// Where a number is out of its range or the unit list cannot be used.
pub fn build_intan(section: &IntanSection, bin_ns: i64) -> Result<BuiltSource, CliError> {
    let common = Common {
        table: "intan",
        lateness_ms: section.lateness_ms,
        speed: section.speed,
        duration_s: section.duration_s,
        assumed_rate_hz: section.assumed_rate_hz,
    };
    let source = Intan::new(&IntanConfig {
        address: section.address,
        sample_rate_hz: section.sample_rate_hz,
        units: section.units.clone(),
        clock: common.clock()?,
    })?;
    let counters = source.counters();
    common.built(source, counters, bin_ns)
}

/// The source that a `[blackrock]` table describes.
///
/// # Errors
/// Where a number is out of its range, the unit list cannot be used, or the address cannot be listened on.
pub fn build_blackrock(section: &BlackrockSection, bin_ns: i64) -> Result<BuiltSource, CliError> {
    let common = Common {
        table: "blackrock",
        lateness_ms: section.lateness_ms,
        speed: section.speed,
        duration_s: section.duration_s,
        assumed_rate_hz: section.assumed_rate_hz,
    };
    let source = Blackrock::new(&BlackrockConfig {
        listen: section.listen,
        protocol: section.protocol,
        time_unit: section.time_unit,
        units: section.units.clone(),
        clock: common.clock()?,
    })?;
    let counters = source.counters();
    common.built(source, counters, bin_ns)
}

/// The source that an `[open_ephys]` table describes.
///
/// # Errors
/// Where a number is out of its range, or the unit list or the endpoint cannot be used.
pub fn build_open_ephys(section: &OpenEphysSection, bin_ns: i64) -> Result<BuiltSource, CliError> {
    let common = Common {
        table: "open_ephys",
        lateness_ms: section.lateness_ms,
        speed: section.speed,
        duration_s: section.duration_s,
        assumed_rate_hz: section.assumed_rate_hz,
    };
    let source = OpenEphys::new(&OpenEphysConfig {
        endpoint: section.endpoint.clone(),
        stream: section.stream.clone(),
        sample_rate_hz: section.sample_rate_hz,
        every_message: section.every_message,
        units: section.units.clone(),
        clock: common.clock()?,
    })?;
    let counters = source.counters();
    common.built(source, counters, bin_ns)
}

/// The source that a `[bridge]` table describes.
///
/// # Errors
/// Where a number is out of its range, a list cannot be used, or the address cannot be listened on.
pub fn build_bridge(section: &BridgeSection, bin_ns: i64) -> Result<BuiltSource, CliError> {
    let common = Common {
        table: "bridge",
        lateness_ms: section.lateness_ms,
        speed: section.speed,
        duration_s: section.duration_s,
        assumed_rate_hz: section.assumed_rate_hz,
    };
    let source = Bridge::new(&BridgeConfig {
        listen: section.listen,
        device_id: section.device_id,
        units: section.units.clone(),
        series: section.series.clone(),
        clock: common.clock()?,
    })?;
    let counters = source.counters();
    common.built(source, counters, bin_ns)
}

/// Puts `--speed` and `--duration` in place of what the table of a device says, where there is one.
///
/// # Errors
/// A speed of `max`: a device has a clock.
pub fn apply_flags(file: &mut RunFile, speed: Option<Pace>, duration_s: Option<f64>) -> Result<(), CliError> {
    let intan = file.intan.as_mut().map(|own| (&mut own.speed, &mut own.duration_s));
    let blackrock = file.blackrock.as_mut().map(|own| (&mut own.speed, &mut own.duration_s));
    let open_ephys = file
        .open_ephys
        .as_mut()
        .map(|own| (&mut own.speed, &mut own.duration_s));
    let bridge = file.bridge.as_mut().map(|own| (&mut own.speed, &mut own.duration_s));
    let Some((own_speed, own_duration_s)) = intan.or(blackrock).or(open_ephys).or(bridge) else {
        return Ok(());
    };
    match speed {
        Some(Pace::AsFast) => {
            let problem = "--speed max needs a recording or the simulated population: a device has a clock";
            return Err(CliError::Config(problem.into()));
        }
        Some(Pace::Clocked(speed)) => *own_speed = speed,
        None => {}
    }
    *own_duration_s = duration_s.or(*own_duration_s);
    Ok(())
}
