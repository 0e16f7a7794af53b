//! `neurohorizon trigger`: TTL out to the Open Ephys GUI, by what the runtime predicts.

use std::process::ExitCode;

use clap::{ArgGroup, Args};

use super::trigger_report::{print, tell, Printed};
use super::{signals, CliError};
use crate::actuate::line::{DryRun, TtlLine};
use crate::actuate::network_events::{NetworkEvents, NetworkEventsConfig, LINES, NETWORK_EVENTS};
use crate::actuate::rule::{known_flags, Length, RuleConfig, Side, Threshold, REFUSED_FLAGS};
use crate::actuate::signal::{Bins, Column, Signal};
use crate::actuate::subscription::Subscription;
use crate::actuate::trigger::Trigger;
use crate::control::Heart;
use crate::pipeline::message::{flags, HELLO_TOPIC, PREDICTION_TOPIC};

/// Longest time that a flag may give, ms: a day.
const LONGEST_MS: f64 = 86_400_000.0;

/// Raise and lower a TTL line of the Open Ephys GUI by what the runtime predicts
///
/// A process of its own beside `neurohorizon run`, on the same machine: it subscribes to the endpoint of every prediction and sends
/// `TTL Line=N State=1` or `0` to the GUI's plugin Network Events.
///
/// The line is raised when the number crosses --above or --below, and lowered when it crosses --release. A prediction that is late,
/// held, neutral, skipped, of a failed model, calibrating, or made while spikes or samples were lost (the flags missed_deadline,
/// held, neutral, skipped, model_failed, calibrating, spikes_refused, samples_lost, and any that this version does not know) neither
/// raises the line nor keeps it up; nor does one that was published more than --max-age-ms ago. The line falls when nothing
/// usable has come for --silence-ms, when the runtime is started anew, when the GUI does not answer, and at the end (Ctrl-C,
/// SIGTERM, SIGHUP).
///
/// A TTL is sent at once or never. When contact with the GUI was lost, the line is lowered first, and the next prediction decides.
/// Exit status 1: it ended and the GUI did not confirm that the line is low.
#[derive(Args, Clone, Debug)]
#[command(
    group(ArgGroup::new("signal").required(true).args(["unit", "topic"])),
    group(ArgGroup::new("threshold").required(true).args(["above", "below"])),
    after_help = "Examples:\n  \
        neurohorizon trigger --topic behaviour/hand_vel --channel norm --above 0.2 --release 0.1\n  \
        neurohorizon trigger --unit unit12 --bins 0..2 --above 0.8 --pulse-ms 5 --refractory-ms 100 --line 3\n  \
        neurohorizon trigger --topic behaviour/trial_condition --channel go --above 0.9 --dry-run\n\n\
        To try it without a rig or a GUI, each in a terminal of its own:\n  \
        neurohorizon emulate network-events\n  \
        neurohorizon run configs/simulate.toml --checkpoint configs/demo.safetensors\n  \
        neurohorizon trigger --topic behaviour/hand_vel --channel norm --above 0.2 --release 0.1"
)]
pub struct TriggerArgs {
    /// A unit, by its id: the spikes that it is expected to fire in a bin
    #[arg(long, value_name = "ID", conflicts_with_all = ["channel", "row"])]
    unit: Option<String>,
    /// Which bins of the horizon the mean is taken over: one (0 is the next bin) or FIRST..LAST, both included [default: all]
    #[arg(long, value_name = "BINS", requires = "unit")]
    bins: Option<Bins>,
    /// An output of the runtime, such as `behaviour/NAME`
    #[arg(long, requires = "channel")]
    topic: Option<String>,
    /// Its channel: a number from 0, a name, or `norm`, the length of the vector of all
    #[arg(long, value_name = "CHANNEL", requires = "topic")]
    channel: Option<Column>,
    /// Its row, from 0 [default: the newest that is not of the future]
    #[arg(long, requires = "topic")]
    row: Option<usize>,
    /// Raise the line when the number is greater than this
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    above: Option<f64>,
    /// Raise the line when the number is less than this
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    below: Option<f64>,
    /// Lower it when the number is back at this [default: the same as --above or --below]
    #[arg(long, value_name = "Y", allow_negative_numbers = true)]
    release: Option<f64>,
    /// Once raised, the line stays up at least so long
    #[arg(long, value_name = "MS", default_value_t = 10.0)]
    hold_ms: f64,
    /// A pulse of this length at each crossing, whatever is predicted meanwhile; the number must be back at --release before the next
    #[arg(long, value_name = "MS", conflicts_with = "hold_ms")]
    pulse_ms: Option<f64>,
    /// Once lowered, the line stays low at least so long
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    refractory_ms: f64,
    /// Most rises within any second
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    max_per_second: u32,
    /// Oldest publication that counts
    #[arg(long, value_name = "MS", default_value_t = 50.0)]
    max_age_ms: f64,
    /// The line falls when no usable prediction has come for so long
    #[arg(long, value_name = "MS", default_value_t = 200.0)]
    silence_ms: f64,
    /// Predictions count for nothing when no spike of any unit was binned for so long, which is what a device that is away
    /// looks like; 0: silence is believed
    #[arg(long, value_name = "MS", default_value_t = 1_000.0)]
    no_spikes_ms: f64,
    /// A further flag with which predictions count for nothing, such as spikes_late (`hello` lists all); may be repeated
    #[arg(long, value_name = "FLAG", value_parser = flag)]
    refuse_flag: Vec<u32>,
    /// TTL line of the GUI
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=i64::from(LINES)))]
    line: u16,
    /// The runtime's endpoint of every prediction
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:5571")]
    predictions: String,
    /// Endpoint of the GUI's plugin Network Events
    #[arg(long, value_name = "ENDPOINT", default_value = NETWORK_EVENTS)]
    gui: String,
    /// How long the GUI may take to answer before contact is made anew
    #[arg(long, value_name = "MS", default_value_t = 250.0)]
    answer_timeout_ms: f64,
    /// Be the consumer whose heartbeat the run asks for ([guards] heartbeat_ms): the run's control socket, such as
    /// tcp://127.0.0.1:5573. It beats while the GUI answers
    #[arg(long, value_name = "ENDPOINT")]
    heartbeat: Option<String>,
    /// Between two heartbeats
    #[arg(long, value_name = "MS", default_value_t = 50.0, requires = "heartbeat")]
    heartbeat_ms: f64,
    /// Print what would be sent, with the time, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object at the end instead of text
    #[arg(long)]
    json: bool,
    /// Say nothing of each rise and fall
    #[arg(long)]
    quiet: bool,
}

fn flag(name: &str) -> Result<u32, String> {
    let known = flags::NAMES.iter().find(|(known, _)| *known == name);
    known.map(|(_, bit)| *bit).ok_or_else(|| {
        let names: Vec<&str> = flags::NAMES.iter().map(|(name, _)| *name).collect();
        format!("the flags are {}", names.join(", "))
    })
}

fn ns(flag: &str, ms: f64, least_ms: f64) -> Result<i64, CliError> {
    if (least_ms..=LONGEST_MS).contains(&ms) {
        return Ok((ms * 1e6) as i64);
    }
    Err(CliError::Config(format!(
        "{flag} is {ms}: {least_ms} to {LONGEST_MS} ms is expected"
    )))
}

impl TriggerArgs {
    fn signal(&self) -> Result<Signal, CliError> {
        match (&self.unit, &self.topic, &self.channel) {
            (Some(unit), _, _) => Ok(Signal::Unit {
                unit: unit.clone(),
                bins: self.bins,
            }),
            (None, Some(topic), _) if topic == PREDICTION_TOPIC || topic == HELLO_TOPIC => Err(CliError::Config(
                "--topic is an output such as behaviour/NAME; --unit looks at the prediction".into(),
            )),
            (None, Some(topic), Some(channel)) => Ok(Signal::Output {
                topic: topic.clone(),
                row: self.row,
                column: channel.clone(),
            }),
            _ => Err(CliError::Config("--unit, or --topic with --channel, is needed".into())),
        }
    }

    fn threshold(&self) -> Result<Threshold, CliError> {
        let (side, level, name) = match (self.above, self.below) {
            (Some(level), _) => (Side::Above, level, "--above"),
            (None, Some(level)) => (Side::Below, level, "--below"),
            (None, None) => return Err(CliError::Config("--above or --below is needed".into())),
        };
        let release = self.release.unwrap_or(level);
        if !level.is_finite() || !release.is_finite() {
            return Err(CliError::Config(format!("{name} and --release must be finite numbers")));
        }
        let threshold = Threshold { side, level, release };
        if threshold.is_crossed(release) {
            return Err(CliError::Config(format!(
                "--release {release} is beyond {name} {level}: the line would be raised and lowered by the same number"
            )));
        }
        Ok(threshold)
    }

    fn rule(&self) -> Result<RuleConfig, CliError> {
        let length = match self.pulse_ms {
            Some(ms) => Length::Exactly(ns("--pulse-ms", ms, 0.1)?),
            None => Length::AtLeast(ns("--hold-ms", self.hold_ms, 0.0)?),
        };
        let no_spikes_ns = ns("--no-spikes-ms", self.no_spikes_ms, 0.0)?;
        Ok(RuleConfig {
            threshold: self.threshold()?,
            length,
            refractory_ns: ns("--refractory-ms", self.refractory_ms, 0.0)?,
            max_per_second: self.max_per_second,
            max_age_ns: ns("--max-age-ms", self.max_age_ms, 1.0)?,
            silence_ns: ns("--silence-ms", self.silence_ms, 1.0)?,
            no_spikes_ns: (no_spikes_ns > 0).then_some(no_spikes_ns),
            refused_flags: self
                .refuse_flag
                .iter()
                .fold(REFUSED_FLAGS | !known_flags(), |all, bit| all | bit),
        })
    }
}

/// Runs the command.
///
/// # Errors
/// What in the flags or endpoints cannot be used, a signal that the runtime does not publish, a GUI that does not understand.
pub fn run(args: &TriggerArgs) -> Result<ExitCode, CliError> {
    let (signal, rule) = (args.signal()?, args.rule()?);
    let answer_timeout_ns = ns("--answer-timeout-ms", args.answer_timeout_ms, 1.0)?;
    let stop = signals::catch_every_end()?;
    let context = zmq::Context::new();
    let subscription = Subscription::connect(&context, &args.predictions, signal.clone())
        .map_err(|problem| CliError::Config(format!("{} cannot be connected to: {problem}", args.predictions)))?;
    let config = NetworkEventsConfig {
        endpoint: args.gui.clone(),
        line: args.line,
        answer_timeout_ns,
    };
    let line: Box<dyn TtlLine> = if args.dry_run {
        Box::new(DryRun::new(args.line, |request| say!("{request}")))
    } else {
        Box::new(NetworkEvents::connect(context, config)?)
    };
    let every_ns = ns("--heartbeat-ms", args.heartbeat_ms, 1.0)?;
    let heart = args
        .heartbeat
        .as_deref()
        .map(|endpoint| Heart::connect(endpoint, every_ns));
    let mut heart = heart.transpose()?;
    let gui = if args.dry_run { "nobody (--dry-run)" } else { &args.gui };
    tell(&format!("signal       {signal}, from {}", args.predictions));
    tell(&format!("line         {} of {gui}", args.line));
    let trigger = Trigger::new(subscription, rule, line, |news| {
        super::trigger_report::tell_news(news, &args.predictions, args.quiet);
    });
    let mut failed = None;
    let trigger = match &mut heart {
        None => trigger,
        Some(heart) => trigger.with_heartbeat(|now_ns| {
            if let Err(error) = heart.turn(now_ns) {
                failed.get_or_insert(error);
            }
        }),
    };
    let (report, done) = trigger.run(&stop);
    let printed = Printed {
        signal: signal.to_string(),
        line: args.line,
        dry_run: args.dry_run,
        report,
    };
    print(&printed, args.json)?;
    done?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(ExitCode::from(u8::from(printed.report.line_may_be_high)))
}
