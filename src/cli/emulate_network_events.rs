//! `neurohorizon emulate network-events`: where `neurohorizon trigger` sends its TTL, without the GUI.

use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;

use super::CliError;
use crate::actuate::network_events::emulator::Gui;
use crate::actuate::network_events::{NetworkEventsEmulator, NETWORK_EVENTS};

/// The Open Ephys GUI's plugin Network Events, which `neurohorizon trigger` sends TTL to; until Ctrl-C
///
/// Prints each request with its answer, and at the end what was asked and which lines are left high.
#[derive(Debug, Args)]
pub(super) struct NetworkEventsArgs {
    /// Endpoint to listen on
    #[arg(long, default_value = NETWORK_EVENTS)]
    listen: String,
    /// Begin without acquisition: TTL are answered and dropped until `StartAcquisition`
    #[arg(long)]
    idle: bool,
    /// Answer so many ms late, as the GUI does while it is busy
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=60_000))]
    delay_ms: u64,
}

/// Answers until `stop` is set.
pub(super) fn emulate_network_events(args: &NetworkEventsArgs, stop: &AtomicBool) -> Result<ExitCode, CliError> {
    let cannot = |error: zmq::Error| CliError::Config(format!("{} cannot be listened on: {error}", args.listen));
    let delay = Duration::from_millis(args.delay_ms);
    let emulator = NetworkEventsEmulator::bind(&args.listen, Gui::new(!args.idle), delay).map_err(cannot)?;
    let acquiring = if args.idle { "not acquiring" } else { "acquiring" };
    eprintln!("Network Events on {}, {acquiring}", emulator.endpoint());
    let begin = Instant::now();
    let gui = emulator
        .serve(stop, |request, answer| {
            say!("{:10.3} s  {request}  →  {answer}", begin.elapsed().as_secs_f64());
        })
        .map_err(cannot)?;
    let (counts, high) = (gui.counts(), gui.high_lines());
    say!(
        "{} requests, {} of them TTL ({} dropped because nothing was acquired), {} rises, {} not handled",
        counts.requests,
        counts.ttl,
        counts.dropped,
        counts.rises,
        counts.not_handled
    );
    match high.as_slice() {
        [] => say!("every line is low"),
        high => say!("lines left high: {high:?}"),
    }
    Ok(ExitCode::SUCCESS)
}
