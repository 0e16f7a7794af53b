//! `neurohorizon emulate`: an acquisition system's wire format without the system.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use clap::{Args, Subcommand, ValueEnum};

use super::emulate_network_events::{emulate_network_events, NetworkEventsArgs};
use super::run_config::{ReplaySection, SimulateSection, Speed};
use super::run_device_sources::carrier;
use super::run_devices::BridgeSection;
use super::run_source::{build_replay, build_simulation};
use super::CliError;
use crate::acquire::blackrock::{self, BlackrockEmulator, BlackrockEmulatorConfig, Protocol, TimeUnit};
use crate::acquire::bridge::{self, BridgeEmulator};
use crate::acquire::intan::{self, IntanEmulator, IntanEmulatorConfig};
use crate::acquire::open_ephys::{self, Form, OpenEphysEmulator, OpenEphysEmulatorConfig};
use crate::acquire::wire::play::Played;
use crate::acquire::{Pace, Source};
use crate::data::Position;

/// Grid that a replayed part begins and ends on, ns.
const GRID_NS: i64 = 1_000_000;

/// Play a recording or the simulated population on an acquisition system's wire format
///
/// To try a rig before there is one: what is written is what the system itself would write, on loopback unless asked for
/// otherwise. `--rig FILE` writes a configuration that `neurohorizon run` reads it with, under the recording's unit ids.
/// `network-events` is the way back, for `neurohorizon trigger`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  neurohorizon emulate intan --recording session.npz --rig rig.toml\n  \
                        neurohorizon run rig.toml --checkpoint model.ckpt"
)]
pub struct EmulateArgs {
    #[command(subcommand)]
    system: System,
}

#[derive(Debug, Subcommand)]
enum System {
    Intan(IntanArgs),
    Blackrock(BlackrockArgs),
    OpenEphys(OpenEphysArgs),
    Bridge(BridgeArgs),
    NetworkEvents(NetworkEventsArgs),
}

/// What is played.
#[derive(Debug, Args)]
struct PlayArgs {
    /// Recording to play: .npz or .nwb [default: the simulated population]
    #[arg(long)]
    recording: Option<PathBuf>,
    /// Speed against life: a number
    #[arg(long, default_value = "1", value_parser = number)]
    speed: f64,
    /// Where to begin, counted from the first spike: a fraction (0.8), a percentage (80%) or seconds (96s)
    #[arg(long, requires = "recording")]
    from: Option<Position>,
    /// Where to end, in the same forms
    #[arg(long, requires = "recording")]
    to: Option<Position>,
    /// Most seconds of device time [default: the recording's, or 60]
    #[arg(long)]
    duration: Option<f64>,
    /// Units of the simulated population
    #[arg(long, default_value_t = 96, conflicts_with = "recording")]
    units: usize,
    /// Seed of the simulated population
    #[arg(long, default_value_t = 1, conflicts_with = "recording")]
    seed: u64,
    /// Write a configuration for `neurohorizon run` to this file
    #[arg(long, value_name = "FILE")]
    rig: Option<PathBuf>,
}

/// Intan RHX's TCP spike output; time starts when a client connects
#[derive(Debug, Args)]
struct IntanArgs {
    #[command(flatten)]
    play: PlayArgs,
    /// Address to listen on
    #[arg(long, default_value_t = SocketAddr::from(([127, 0, 0, 1], intan::SPIKE_PORT)))]
    listen: SocketAddr,
    /// Sampling rate, Hz
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000))]
    sample_rate_hz: u32,
    /// Blocks of 128 samples a write, as RHX's TCPNumberDataBlocksPerWrite
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    blocks_per_write: u32,
}

/// A Blackrock device's UDP packets; time starts at once
#[derive(Debug, Args)]
struct BlackrockArgs {
    #[command(flatten)]
    play: PlayArgs,
    /// Address to send to
    #[arg(long, default_value_t = SocketAddr::from(([127, 0, 0, 1], blackrock::DATA_PORT)))]
    send_to: SocketAddr,
    /// Layout of the packets: 3.11, 4.0 or 4.1
    #[arg(long, default_value = "4.1", value_parser = protocol)]
    protocol: Protocol,
    /// The clock counts nanoseconds, as on Gemini, in place of 30 kHz ticks
    #[arg(long)]
    ns: bool,
    /// Samples of a spike's waveform
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u8).range(0..=128))]
    waveform_samples: u8,
}

/// Messages of the Open Ephys GUI's plugins; time starts when a client subscribes
#[derive(Debug, Args)]
struct OpenEphysArgs {
    #[command(flatten)]
    play: PlayArgs,
    /// Endpoint to publish on
    #[arg(long, default_value = open_ephys::EVENT_BROADCASTER)]
    endpoint: String,
    /// Which plugin, in which of its forms
    #[arg(long, value_enum, default_value_t = MessageForm::Json)]
    form: MessageForm,
    /// Sampling rate, Hz
    #[arg(long, default_value_t = 30_000, value_parser = clap::value_parser!(u32).range(1_000..=100_000))]
    sample_rate_hz: u32,
    /// Messages kept for a slow subscriber; 0: any number
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(i32).range(0..))]
    high_water_mark: i32,
}

/// The project's own packets, with the series of the recording or the simulation; time starts at once
#[derive(Debug, Args)]
struct BridgeArgs {
    #[command(flatten)]
    play: PlayArgs,
    /// Address to send to
    #[arg(long, default_value_t = SocketAddr::from(([127, 0, 0, 1], bridge::PORT)))]
    send_to: SocketAddr,
    /// Send into this link in shared memory instead
    #[arg(long, value_name = "NAME", conflicts_with_all = ["send_to", "serial"])]
    shared_memory: Option<String>,
    /// Send frames on this serial link instead
    #[arg(long, value_name = "TERMINAL", conflicts_with = "send_to")]
    serial: Option<PathBuf>,
    /// Bits a second of the serial link
    #[arg(long, default_value_t = 2_000_000, requires = "serial")]
    baud: u32,
}

/// Forms of messages.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MessageForm {
    /// Event Broadcaster, JSON
    Json,
    /// Event Broadcaster, raw
    Raw,
    /// Event Broadcaster until 2022, JSON
    LegacyJson,
    /// Event Broadcaster until 2022, raw
    LegacyRaw,
    /// ZMQ Interface
    ZmqInterface,
}

impl MessageForm {
    fn form(self) -> Form {
        match self {
            Self::Json => Form::Json,
            Self::Raw => Form::Raw,
            Self::LegacyJson => Form::LegacyJson,
            Self::LegacyRaw => Form::LegacyRaw,
            Self::ZmqInterface => Form::ZmqInterface,
        }
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "3.11" => Ok(Protocol::V311),
        "4.0" => Ok(Protocol::V400),
        "4.1" | "4.2" => Ok(Protocol::V410),
        _ => Err("3.11, 4.0 or 4.1 is expected".into()),
    }
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse::<Speed>()?.0 {
        Pace::Clocked(speed) => Ok(speed),
        Pace::AsFast => Err("a device has a clock: a number is expected".into()),
    }
}

impl PlayArgs {
    fn source(&self, with_series: bool) -> Result<Box<dyn Source>, CliError> {
        let speed = Speed(Pace::Clocked(self.speed));
        let built = match &self.recording {
            Some(recording) => {
                let section = ReplaySection {
                    speed,
                    from: self.from,
                    to: self.to,
                    duration_s: self.duration,
                    ..ReplaySection::of(recording.clone())
                };
                build_replay(&section, GRID_NS, |_| with_series)?
            }
            None => {
                let section = SimulateSection {
                    units: self.units,
                    seed: self.seed,
                    speed,
                    duration_s: self.duration.unwrap_or(60.0),
                    ..SimulateSection::default()
                };
                build_simulation(&section, GRID_NS)?
            }
        };
        Ok(built.source)
    }

    /// Writes the configuration: `[table]`, these lines, the speed, and the units, `place(unit)` each with its id.
    fn write_rig(
        &self,
        source: &dyn Source,
        table: &str,
        lines: &[String],
        place: impl Fn(u32) -> String,
    ) -> Result<(), CliError> {
        let Some(path) = &self.rig else { return Ok(()) };
        let mut text = format!("# Listens to `neurohorizon emulate`.\n[{table}]\n");
        let speed = format!("speed = {:?}", self.speed);
        for line in lines.iter().chain([&speed]) {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("units = [\n");
        for (id, unit) in source.unit_ids().iter().zip(0..) {
            let entry = toml::Value::String(format!("{}={id}", place(unit)));
            text.push_str(&format!("    {entry},\n"));
        }
        text.push_str("]\n");
        std::fs::write(path, text).map_err(|source| CliError::System {
            what: format!("{} cannot be written", path.display()),
            source,
        })
    }
}

fn cannot_listen(address: impl Display) -> impl FnOnce(std::io::Error) -> CliError {
    move |source| CliError::System {
        what: format!("{address} cannot be listened on"),
        source,
    }
}

fn said(played: Played) -> ExitCode {
    say!(
        "{} spikes sent, {} that nobody was there to take",
        played.sent,
        played.unsent
    );
    ExitCode::SUCCESS
}

/// Runs the subcommand.
///
/// # Errors
/// What cannot be played, or an address that cannot be used.
pub fn run(args: &EmulateArgs) -> Result<ExitCode, CliError> {
    let (stop, _) = super::signals::catch()?;
    match &args.system {
        System::Intan(args) => emulate_intan(args, &stop),
        System::Blackrock(args) => emulate_blackrock(args, &stop),
        System::OpenEphys(args) => emulate_open_ephys(args, &stop),
        System::Bridge(args) => emulate_bridge(args, &stop),
        System::NetworkEvents(args) => emulate_network_events(args, &stop),
    }
}

fn emulate_intan(args: &IntanArgs, stop: &AtomicBool) -> Result<ExitCode, CliError> {
    let mut source = args.play.source(false)?;
    let emulator = IntanEmulator::bind(IntanEmulatorConfig {
        listen: args.listen,
        sample_rate_hz: args.sample_rate_hz,
        blocks_per_write: args.blocks_per_write,
    })
    .map_err(cannot_listen(args.listen))?;
    let address = emulator.address().map_err(cannot_listen(args.listen))?;
    let lines = [
        format!("address = \"{address}\""),
        format!("sample_rate_hz = {}", args.sample_rate_hz),
    ];
    args.play.write_rig(source.as_ref(), "intan", &lines, |unit| {
        let (channel, id) = intan::encode::place_of(unit);
        let sorted = match id {
            intan::encode::SpikeId::Unit(unit) => unit,
            _ => 0,
        };
        format!("{}:{sorted}", String::from_utf8_lossy(&channel))
    })?;
    eprintln!("{} units of {} on {address}", source.unit_ids().len(), source.name());
    Ok(said(emulator.play(source.as_mut(), stop)?))
}

fn emulate_blackrock(args: &BlackrockArgs, stop: &AtomicBool) -> Result<ExitCode, CliError> {
    if args.ns && args.protocol == Protocol::V311 {
        return Err(CliError::Config(
            "--ns: the clock of 3.11 has 32 bits and counts ticks".into(),
        ));
    }
    let mut source = args.play.source(false)?;
    let time_unit = if args.ns { TimeUnit::Ns } else { TimeUnit::Ticks };
    let emulator = BlackrockEmulator::new(BlackrockEmulatorConfig {
        to: args.send_to,
        protocol: args.protocol,
        time_unit,
        waveform_samples: args.waveform_samples,
    })
    .map_err(|source| CliError::System {
        what: format!("nothing can be sent to {}", args.send_to),
        source,
    })?;
    let lines = [format!("listen = \"{}\"", args.send_to)];
    args.play.write_rig(source.as_ref(), "blackrock", &lines, |unit| {
        let (channel, sorted) = blackrock::encode::place_of(unit);
        format!("{channel}:{sorted}")
    })?;
    eprintln!(
        "{} units of {} to {}",
        source.unit_ids().len(),
        source.name(),
        args.send_to
    );
    Ok(said(emulator.play(source.as_mut(), stop)?))
}

fn emulate_open_ephys(args: &OpenEphysArgs, stop: &AtomicBool) -> Result<ExitCode, CliError> {
    let mut source = args.play.source(false)?;
    let (form, endpoint) = (args.form.form(), &args.endpoint);
    let cannot = |error: zmq::Error| CliError::Config(format!("{endpoint} cannot be published on: {error}"));
    let emulator = OpenEphysEmulator::bind(OpenEphysEmulatorConfig {
        endpoint: endpoint.clone(),
        form,
        sample_rate_hz: args.sample_rate_hz,
        high_water_mark: args.high_water_mark,
    })
    .map_err(cannot)?;
    let endpoint = emulator.endpoint().map_err(cannot)?;
    let lines = [
        format!("endpoint = {}", toml::Value::String(endpoint.clone())),
        format!("sample_rate_hz = {}", args.sample_rate_hz),
    ];
    args.play.write_rig(source.as_ref(), "open_ephys", &lines, |unit| {
        format!("{}:1", open_ephys::encode::electrode_of(unit, form))
    })?;
    eprintln!("{} units of {} on {endpoint}", source.unit_ids().len(), source.name());
    Ok(said(emulator.play(source.as_mut(), stop)?))
}

fn emulate_bridge(args: &BridgeArgs, stop: &AtomicBool) -> Result<ExitCode, CliError> {
    let mut source = args.play.source(true)?;
    let section = BridgeSection {
        listen: args.send_to,
        shared_memory: args.shared_memory.clone(),
        serial: args.serial.clone(),
        baud: args.baud,
        ..BridgeSection::default()
    };
    let text = |text: &str| toml::Value::String(text.to_string());
    let (place, mut lines) = match (&section.shared_memory, &section.serial) {
        (Some(name), _) => (
            format!("shared memory {name}"),
            vec![format!("shared_memory = {}", text(name))],
        ),
        (_, Some(path)) => {
            let path = path.display().to_string();
            let lines = vec![format!("serial = {}", text(&path)), format!("baud = {}", args.baud)];
            (path, lines)
        }
        (None, None) => (args.send_to.to_string(), vec![format!("listen = \"{}\"", args.send_to)]),
    };
    let mut emulator = BridgeEmulator::new(&carrier(&section)?).map_err(|source| CliError::System {
        what: format!("nothing can be sent to {place}"),
        source,
    })?;
    let series = source.series().iter().enumerate().map(|(number, series)| {
        let unit = if series.unit.is_empty() {
            String::new()
        } else {
            format!(":{}", series.unit)
        };
        text(&format!("behaviour:{number}={}:{}{unit}", series.name, series.channels)).to_string()
    });
    lines.push(format!("series = [{}]", series.collect::<Vec<_>>().join(", ")));
    args.play
        .write_rig(source.as_ref(), "bridge", &lines, |unit| format!("{unit}:1"))?;
    eprintln!(
        "{} units and {} series of {} to {place}",
        source.unit_ids().len(),
        source.series().len(),
        source.name()
    );
    Ok(said(emulator.play(source.as_mut(), stop)?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_command_line_is_well_formed() {
        crate::cli::Cli::command().debug_assert();
    }
}
