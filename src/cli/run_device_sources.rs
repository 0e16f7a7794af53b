//! From the tables of acquisition systems to sources.

use super::run_config::{ms_to_ns, s_to_ns, RunFile};
use super::run_devices::{BlackrockSection, BridgeSection, Common, IntanSection, OpenEphysSection};
use super::run_source::BuiltSource;
use super::CliError;
use crate::acquire::blackrock::{Blackrock, BlackrockConfig};
use crate::acquire::bridge::{Bridge, BridgeConfig, Carrier};
use crate::acquire::intan::{Intan, IntanConfig};
use crate::acquire::open_ephys::{OpenEphys, OpenEphysConfig};
use crate::acquire::wire::device::DeviceLink;
use crate::acquire::wire::{ClockConfig, Device};
use crate::acquire::Source;

/// Most places for units that are not listed, and the rate at which one that nobody has is taken to fire, Hz.
const MOST_SPARES: usize = 1_024;
const SPARE_HZ: f64 = 0.1;

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

    /// Units, listed or to be learned.
    fn units(&self) -> Result<Vec<String>, CliError> {
        let table = self.table;
        match self.learn_units_s {
            None if self.units.is_empty() => Err(CliError::Config(format!(
                "{table}.units lists no unit: list them, or have them learned from the first seconds ({table}.learn_units_s)"
            ))),
            Some(_) if !self.units.is_empty() => Err(CliError::Config(format!(
                "{table} lists units and wants them learned (learn_units_s): one of both"
            ))),
            Some(seconds) if !(0.1..=3600.0).contains(&seconds) => {
                Err(self.refuse("learn_units_s", format!("{seconds} is not in 0.1–3600")))
            }
            _ => Ok(self.units.to_vec()),
        }
    }

    /// Adds the places for units that are not listed.
    fn with_spares<L: DeviceLink>(&self, device: Device<L>) -> Result<Device<L>, CliError> {
        match self.spare_units {
            0 => Ok(device),
            places if places > MOST_SPARES => {
                Err(self.refuse("spare_units", format!("{places} is more than {MOST_SPARES}")))
            }
            places => Ok(device.with_spare_units(places, self.unit_prefix)),
        }
    }

    /// The mean log rates of units and, behind them, of the places for others.
    fn with_spare_rates(&self, mut log_rates: Vec<f64>, bin_s: f64) -> Vec<f64> {
        log_rates.resize(log_rates.len() + self.spare_units, (SPARE_HZ * bin_s).ln());
        log_rates
    }

    /// A source with its units. Their mean rates are not known before the run, unless they were learned with them:
    /// `assumed_rate_hz` stands for them.
    fn built<L: DeviceLink + 'static>(&self, mut device: Device<L>, bin_ns: i64) -> Result<BuiltSource, CliError> {
        let rate = self.assumed_rate_hz;
        if !(rate.is_finite() && rate > 0.0 && rate <= 1_000.0) {
            return Err(self.refuse("assumed_rate_hz", format!("{rate} is not in 0–1000")));
        }
        let bin_s = bin_ns as f64 * 1e-9;
        let Some(seconds) = self.learn_units_s else {
            let device = device.with_unit_prefix(self.unit_prefix);
            let units = device.unit_ids().len();
            let device = self.with_spares(device)?;
            let means_from = format!("{rate} Hz, {}.assumed_rate_hz", self.table);
            return Ok(BuiltSource {
                notes: vec![format!(
                    "no mean rate of {} is known beforehand: where the checkpoint has none, predictions start from {means_from}, \
                     and bits per spike are counted against it; that units fire like the checkpoint's cannot be checked",
                    device.name()
                )],
                source: Box::new(device),
                mean_log_rates: self.with_spare_rates(vec![(rate * bin_s).ln(); units], bin_s),
                means_from,
                before: None,
                observed: Vec::new(),
            });
        };
        eprintln!(
            "source       {}: learning its units for {seconds} s from its first spike on",
            device.name()
        );
        let learned = device.learn(seconds, || true)?;
        let device = device.with_unit_prefix(self.unit_prefix);
        let ids = device.unit_ids();
        let listed: Vec<String> = ids.iter().take(8).map(|id| format!("{id:?}")).collect();
        let more = if ids.len() > 8 { ", …" } else { "" };
        // Half a spike for a unit that fired none, as nobody knows that it never will.
        let log_rate = |&spikes: &u64| ((spikes as f64).max(0.5) / learned.seconds * bin_s).ln();
        Ok(BuiltSource {
            notes: vec![format!(
                "{} units were learned in {:.1} s of {}: units = [{}{more}]",
                ids.len(),
                learned.seconds,
                device.name(),
                listed.join(", ")
            )],
            mean_log_rates: self.with_spare_rates(learned.spikes.iter().map(log_rate).collect(), bin_s),
            means_from: format!("{:.1} s before the run", learned.seconds),
            source: Box::new(self.with_spares(device)?),
            before: None,
            observed: Vec::new(),
        })
    }
}

fn intan(section: &IntanSection, bin_ns: i64) -> Result<BuiltSource, CliError> {
    let common = section.common();
    let source = Intan::new(&IntanConfig {
        address: section.address,
        sample_rate_hz: section.sample_rate_hz,
        units: common.units()?,
        clock: common.clock()?,
    })?;
    common.built(source, bin_ns)
}

fn blackrock(section: &BlackrockSection, bin_ns: i64) -> Result<BuiltSource, CliError> {
    let common = section.common();
    let source = Blackrock::new(&BlackrockConfig {
        listen: section.listen,
        protocol: section.protocol,
        time_unit: section.time_unit,
        units: common.units()?,
        clock: common.clock()?,
    })?;
    common.built(source, bin_ns)
}

fn open_ephys(section: &OpenEphysSection, bin_ns: i64) -> Result<BuiltSource, CliError> {
    let common = section.common();
    let source = OpenEphys::new(&OpenEphysConfig {
        endpoint: section.endpoint.clone(),
        stream: section.stream.clone(),
        sample_rate_hz: section.sample_rate_hz,
        every_message: section.every_message,
        units: common.units()?,
        clock: common.clock()?,
    })?;
    common.built(source, bin_ns)
}

/// What brings a bridge's packets.
///
/// # Errors
/// Two ways at once, or one that this system does not have.
pub fn carrier(section: &BridgeSection) -> Result<Carrier, CliError> {
    match (&section.serial, &section.shared_memory) {
        (Some(_), Some(_)) => Err(CliError::Config(
            "bridge.serial and bridge.shared_memory are two ways: one table ([[bridge]]) for each".into(),
        )),
        (Some(path), None) => Ok(Carrier::Serial {
            path: path.clone(),
            baud: section.baud,
        }),
        #[cfg(target_os = "linux")]
        (None, Some(name)) => Ok(Carrier::SharedMemory { name: name.clone() }),
        #[cfg(not(target_os = "linux"))]
        (None, Some(_)) => Err(CliError::Config("bridge.shared_memory is there on Linux only".into())),
        (None, None) => Ok(Carrier::Udp {
            listen: section.listen,
            predictions_back: section.predictions_back,
        }),
    }
}

fn bridge(section: &BridgeSection, bin_ns: i64) -> Result<BuiltSource, CliError> {
    let common = section.common();
    let source = Bridge::new(&BridgeConfig {
        carrier: carrier(section)?,
        device_id: section.device_id,
        clock_exchange: section.clock_exchange,
        units: common.units()?,
        series: section.series.clone(),
        clock: common.clock()?,
    })?;
    common.built(source, bin_ns)
}

/// The sources that the tables of devices describe.
///
/// # Errors
/// Where a number is out of its range, a list cannot be used, an address cannot be listened on, or a device fails while its
/// units are learned.
pub fn build_devices(file: &RunFile, bin_ns: i64) -> Result<Vec<BuiltSource>, CliError> {
    let mut sources = Vec::new();
    for section in &file.intan.0 {
        sources.push(intan(section, bin_ns)?);
    }
    for section in &file.blackrock.0 {
        sources.push(blackrock(section, bin_ns)?);
    }
    for section in &file.open_ephys.0 {
        sources.push(open_ephys(section, bin_ns)?);
    }
    for section in &file.bridge.0 {
        sources.push(bridge(section, bin_ns)?);
    }
    Ok(sources)
}
