//! Tables of the run's TOML for acquisition systems. A table may be there once, `[bridge]`, or several times, `[[bridge]]`.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::Deserialize;

use super::run_config::RunFile;
use super::CliError;
use crate::acquire::blackrock::{Protocol, TimeUnit, DATA_PORT};
use crate::acquire::bridge::PORT;
use crate::acquire::intan::SPIKE_PORT;
use crate::acquire::open_ephys::EVENT_BROADCASTER;
use crate::acquire::Pace;

/// The tables of one system.
#[derive(Clone, Debug)]
pub struct Devices<T>(pub Vec<T>);

impl<T> Default for Devices<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Devices<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a table, or several")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| vec![one])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Vec<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(table) = tables.next_element()? {
                    all.push(table);
                }
                Ok(all)
            }
        }
        deserializer.deserialize_any(OneOrMany(PhantomData)).map(Self)
    }
}

/// What the tables of devices have in common.
pub struct Common<'a> {
    /// The table's name.
    pub table: &'static str,
    /// See the tables.
    pub units: &'a [String],
    /// See the tables.
    pub learn_units_s: Option<f64>,
    /// See the tables.
    pub spare_units: usize,
    /// See the tables.
    pub unit_prefix: &'a str,
    /// See the tables.
    pub lateness_ms: f64,
    /// See the tables.
    pub speed: f64,
    /// See the tables.
    pub duration_s: Option<f64>,
    /// See the tables.
    pub assumed_rate_hz: f64,
}

/// A table with the keys that every device has, and their values where they are left out.
macro_rules! device_section {
    ($(#[$doc:meta])* $section:ident, $table:literal, lateness_ms = $lateness_ms:literal {
        $($(#[$key_doc:meta])* $key:ident: $type:ty = $default:expr,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $section {
            $($(#[$key_doc])* pub $key: $type,)*
            /// The units: `CHANNEL:UNIT`, `CHANNEL:UNIT=ID` or `FIRST..LAST:UNIT`.
            pub units: Vec<String>,
            /// In place of a list: the units that are heard in so many seconds before the run.
            pub learn_units_s: Option<f64>,
            /// Places for so many units that are not listed: each has an identity from the next calibration on.
            pub spare_units: usize,
            /// Stands before every unit's id, so that several devices' units have different ones.
            pub unit_prefix: String,
            /// How much later than the quickest events others may come, ms.
            pub lateness_ms: f64,
            /// Device seconds a host second: 1 for a device.
            pub speed: f64,
            /// Seconds to run; without it until the run is stopped.
            pub duration_s: Option<f64>,
            /// Every unit's mean rate where nothing is known of it, Hz.
            pub assumed_rate_hz: f64,
        }

        impl Default for $section {
            fn default() -> Self {
                Self {
                    $($key: $default,)*
                    units: Vec::new(),
                    learn_units_s: None,
                    spare_units: 0,
                    unit_prefix: String::new(),
                    lateness_ms: $lateness_ms,
                    speed: 1.0,
                    duration_s: None,
                    assumed_rate_hz: 5.0,
                }
            }
        }

        impl $section {
            /// What every device's table has.
            pub fn common(&self) -> Common<'_> {
                Common {
                    table: $table,
                    units: &self.units,
                    learn_units_s: self.learn_units_s,
                    spare_units: self.spare_units,
                    unit_prefix: &self.unit_prefix,
                    lateness_ms: self.lateness_ms,
                    speed: self.speed,
                    duration_s: self.duration_s,
                    assumed_rate_hz: self.assumed_rate_hz,
                }
            }
        }
    };
}

device_section! {
    /// `[intan]`
    IntanSection, "intan", lateness_ms = 50.0 {
        /// Where the spike output of RHX listens.
        address: SocketAddr = SocketAddr::from(([127, 0, 0, 1], SPIKE_PORT)),
        /// Sampling rate, Hz.
        sample_rate_hz: u32 = 30_000,
    }
}

device_section! {
    /// `[blackrock]`
    BlackrockSection, "blackrock", lateness_ms = 5.0 {
        /// Where the device's packets come to.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], DATA_PORT)),
        /// The layout of its packets, found out without it.
        protocol: Option<Protocol> = None,
        /// What its clock counts, found out without it.
        time_unit: Option<TimeUnit> = None,
    }
}

device_section! {
    /// `[open_ephys]`
    OpenEphysSection, "open_ephys", lateness_ms = 50.0 {
        /// Endpoint of the Event Broadcaster or the ZMQ Interface.
        endpoint: String = EVENT_BROADCASTER.into(),
        /// The stream whose spikes are taken; without it that of the first spike.
        stream: Option<String> = None,
        /// Sampling rate, Hz, where messages do not say so.
        sample_rate_hz: u32 = 30_000,
        /// Take in the ZMQ Interface's continuous data too, so that missing messages are counted.
        every_message: bool = false,
    }
}

device_section! {
    /// `[bridge]`
    BridgeSection, "bridge", lateness_ms = 5.0 {
        /// Where datagrams come to, unless the packets come by another way.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], PORT)),
        /// Name of a link in shared memory.
        shared_memory: Option<String> = None,
        /// A serial link.
        serial: Option<PathBuf> = None,
        /// Bits a second of the serial link.
        baud: u32 = 2_000_000,
        /// Send predictions back to where datagrams come from; over shared memory they always are.
        predictions_back: bool = false,
        /// Ask the device for its time.
        clock_exchange: bool = true,
        /// Which device, where several send; the first that is heard without it.
        device_id: Option<u32> = None,
        /// The series: `KIND:NUMBER=NAME:CHANNELS`.
        series: Vec<String> = Vec::new(),
    }
}

/// Puts `--speed` and `--duration` in place of what the tables of devices say.
///
/// # Errors
/// A speed of `max`: a device has a clock.
pub fn apply_flags(file: &mut RunFile, speed: Option<Pace>, duration_s: Option<f64>) -> Result<(), CliError> {
    let mut timings: Vec<(&mut f64, &mut Option<f64>)> = Vec::new();
    timings.extend(file.intan.0.iter_mut().map(|own| (&mut own.speed, &mut own.duration_s)));
    timings.extend(
        file.blackrock
            .0
            .iter_mut()
            .map(|own| (&mut own.speed, &mut own.duration_s)),
    );
    timings.extend(
        file.open_ephys
            .0
            .iter_mut()
            .map(|own| (&mut own.speed, &mut own.duration_s)),
    );
    timings.extend(
        file.bridge
            .0
            .iter_mut()
            .map(|own| (&mut own.speed, &mut own.duration_s)),
    );
    for (own_speed, own_duration_s) in timings {
        match speed {
            Some(Pace::AsFast) => {
                let problem = "--speed max needs a recording or the simulated population: a device has a clock";
                return Err(CliError::Config(problem.into()));
            }
            Some(Pace::Clocked(speed)) => *own_speed = speed,
            None => {}
        }
        *own_duration_s = duration_s.or(*own_duration_s);
    }
    Ok(())
}
