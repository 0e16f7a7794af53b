//! `neurohorizon ctl`: tells a run what to do while it goes on.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{print_json, signals, CliError};
use crate::control::{Client, ControlError, Request, DEFAULT_ENDPOINT};
use crate::pipeline::{ParameterValues, NO_LIMIT_HZ};

/// Tell a run what to do while it goes on
///
/// Talks to the control socket of `neurohorizon run` ([control] of its configuration). Answers are said in words, or with --json as the run
/// gave them. Exit status 1: the run refused; 2: nobody answered.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  neurohorizon ctl state\n  neurohorizon ctl statistics --every 1\n  \
                        neurohorizon ctl set deadline_ms=15 most_rate_hz=300\n  neurohorizon ctl swap better.safetensors\n  \
                        neurohorizon ctl emergency-stop\n  neurohorizon ctl release\n  \
                        neurohorizon ctl heartbeat --every 0.1    # while it runs, predictions go out (guards.heartbeat_ms)\n\n\
                        SIGUSR2 stops predictions too, without a socket: kill -USR2 PID."
)]
pub struct CtlArgs {
    #[command(subcommand)]
    command: CtlCommand,
    /// Where the run listens
    #[arg(long, global = true, default_value = DEFAULT_ENDPOINT)]
    endpoint: String,
    /// Seconds to wait for an answer
    #[arg(long, global = true, default_value_t = 5.0)]
    patience: f64,
    /// The answer as one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// This client's keys, where the run encrypts
    #[cfg(feature = "curve")]
    #[arg(long, global = true, value_name = "FILE", requires = "server_key")]
    keys: Option<PathBuf>,
    /// The run's public key
    #[cfg(feature = "curve")]
    #[arg(long, global = true, value_name = "KEY", requires = "keys")]
    server_key: Option<String>,
}

/// What it is told.
#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// What runs, in which state, with which parameters
    State,
    /// The figures so far, and those of the sources
    Statistics {
        /// Again every so many seconds, until Ctrl-C
        #[arg(long, value_name = "SECONDS")]
        every: Option<f64>,
    },
    /// Change parameters between two bins: all that are named, or none
    Set {
        /// deadline_ms, stuck_after_ms, most_rate_hz (inf: no limit), heartbeat_ms
        #[arg(required = true, value_name = "KEY=NUMBER")]
        parameters: Vec<String>,
    },
    /// Put another model in the place of the one that predicts, between two bins and without a missed one
    Swap {
        /// Its checkpoint
        checkpoint: PathBuf,
        /// Which of its sessions the units are of, where it knows several
        #[arg(long)]
        session: Option<String>,
    },
    /// Compute the units' identities anew, from their last activity
    Recalibrate,
    /// From the next prediction on let only mean rates out, and zeros, until `release`
    EmergencyStop,
    /// Let predictions out again
    Release,
    /// Say that the consumer is there
    Heartbeat {
        /// Again every so many seconds, until Ctrl-C or until the run ends
        #[arg(long, value_name = "SECONDS")]
        every: Option<f64>,
    },
    /// End the run in order
    Stop,
    /// Make a pair of keys for an encrypted control socket
    #[cfg(feature = "curve")]
    Keygen {
        /// Receives both keys; readable by its owner only
        file: PathBuf,
    },
}

/// Shortest time between two requests of `--every`, s.
const SHORTEST_S: f64 = 0.01;

fn parameters(pairs: &[String]) -> Result<ParameterValues, CliError> {
    let mut map = Map::new();
    for pair in pairs {
        let fault = || CliError::Config(format!("{pair:?} is not KEY=NUMBER"));
        let (key, number) = pair.split_once('=').ok_or_else(fault)?;
        let value: f64 = number.trim().parse().map_err(|_| fault())?;
        if value.is_nan() {
            return Err(fault());
        }
        // No other parameter may be infinite: the run refuses it by name.
        let value = serde_json::Number::from_f64(value.min(NO_LIMIT_HZ)).ok_or_else(fault)?;
        map.insert(key.trim().to_string(), Value::Number(value));
    }
    serde_json::from_value(Value::Object(map)).map_err(|error| CliError::Config(error.to_string()))
}

fn every(seconds: Option<f64>) -> Result<Option<Duration>, CliError> {
    match seconds {
        Some(s) if !(SHORTEST_S..=3600.0).contains(&s) => Err(CliError::Config(format!(
            "--every {s} is not between {SHORTEST_S} s and an hour"
        ))),
        seconds => Ok(seconds.map(Duration::from_secs_f64)),
    }
}

fn connect(args: &CtlArgs) -> Result<Client, CliError> {
    if !(0.01..=3600.0).contains(&args.patience) {
        return Err(CliError::Config(format!(
            "--patience {} is not between 0.01 s and an hour",
            args.patience
        )));
    }
    let patience = Duration::from_secs_f64(args.patience);
    #[cfg(feature = "curve")]
    let set_up = |socket: &zmq::Socket| match (&args.keys, &args.server_key) {
        (Some(keys), Some(server)) => crate::control::curve::encrypt_client(socket, keys, server),
        _ => Ok(()),
    };
    #[cfg(not(feature = "curve"))]
    let set_up = |_: &zmq::Socket| Ok(());
    Ok(Client::connect(&args.endpoint, patience, set_up)?)
}

/// Runs the command.
///
/// # Errors
/// Nobody answers, or what is asked for is no request.
pub fn run(args: &CtlArgs) -> Result<ExitCode, CliError> {
    let (request, again) = match &args.command {
        CtlCommand::State => (Request::State {}, None),
        CtlCommand::Statistics { every: seconds } => (Request::Statistics {}, every(*seconds)?),
        CtlCommand::Set { parameters: pairs } => {
            let parameters = parameters(pairs)?;
            (Request::Set { parameters }, None)
        }
        CtlCommand::Swap { checkpoint, session } => {
            // The run may work in another folder.
            let checkpoint = std::path::absolute(checkpoint).unwrap_or_else(|_| checkpoint.clone());
            let session = session.clone();
            (Request::Swap { checkpoint, session }, None)
        }
        CtlCommand::Recalibrate => (Request::Recalibrate {}, None),
        CtlCommand::EmergencyStop => (Request::EmergencyStop {}, None),
        CtlCommand::Release => (Request::Release {}, None),
        CtlCommand::Heartbeat { every: seconds } => (Request::Heartbeat {}, every(*seconds)?),
        CtlCommand::Stop => (Request::Stop {}, None),
        #[cfg(feature = "curve")]
        CtlCommand::Keygen { file } => {
            say!("{}", crate::control::curve::write_keys(file)?);
            return Ok(ExitCode::SUCCESS);
        }
    };
    let client = connect(args)?;
    let Some(again) = again else {
        return match client.ask(&request) {
            Ok(answer) => print(args, &answer).map(|()| ExitCode::SUCCESS),
            Err(ControlError::Refused(sentence)) => {
                eprintln!("refused: {sentence}");
                Ok(ExitCode::FAILURE)
            }
            Err(error) => Err(error.into()),
        };
    };
    let stop = signals::catch_every_end()?;
    let beats = matches!(args.command, CtlCommand::Heartbeat { .. });
    let mut due = Instant::now();
    let mut said = Value::Null;
    while !stop.load(Relaxed) {
        let answer = match client.ask(&request) {
            Err(ControlError::Refused(sentence)) => {
                eprintln!("refused: {sentence}");
                return Ok(ExitCode::FAILURE);
            }
            answer => answer?,
        };
        // A heart that beats says nothing until something changes.
        if !beats || answer != said {
            print(args, &answer)?;
            said = answer;
        }
        due += again;
        while !stop.load(Relaxed) && Instant::now() < due {
            std::thread::sleep((due - Instant::now()).min(Duration::from_millis(50)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `value` as lines of `name  value`, names of what lies inside behind those of what holds it.
fn lines(name: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name}.{key}")
                };
                lines(&name, value, out);
            }
        }
        Value::Array(all) => {
            for (place, value) in all.iter().enumerate() {
                lines(&format!("{name}[{place}]"), value, out);
            }
        }
        Value::Null => out.push((name.into(), "none".into())),
        Value::String(text) => out.push((name.into(), text.clone())),
        other => out.push((name.into(), other.to_string())),
    }
}

fn print(args: &CtlArgs, answer: &Value) -> Result<(), CliError> {
    if args.json {
        return print_json(answer);
    }
    let mut answer = answer.clone();
    if let Some(map) = answer.as_object_mut() {
        map.shift_remove("ok");
    }
    let mut all = Vec::new();
    lines("", &answer, &mut all);
    if all.is_empty() {
        say!("done");
    }
    let width = all.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in all {
        say!("{name:<width$}  {value}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_or_refused_by_name() {
        let read = |pairs: &[&str]| {
            let pairs: Vec<String> = pairs.iter().map(|pair| pair.to_string()).collect();
            parameters(&pairs).map_err(|error| error.to_string())
        };
        let values = read(&["deadline_ms=15", "most_rate_hz=inf"]).unwrap();
        assert_eq!(
            (values.deadline_ms, values.most_rate_hz),
            (Some(15.0), Some(NO_LIMIT_HZ))
        );
        assert!(read(&["deadline"]).unwrap_err().contains("\"deadline\""));
        assert!(read(&["deadline_ms=soon"]).unwrap_err().contains("soon"));
        assert!(read(&["deadline_ms=NaN"]).unwrap_err().contains("NaN"));
        assert!(read(&["dedline_ms=1"]).unwrap_err().contains("`dedline_ms`"));
    }

    #[test]
    fn answers_are_lines() {
        let answer = serde_json::json!({"state": "RUNNING", "stopped": null, "parameters": {"deadline_ms": 20.0}, "sources": [{"name": "a"}]});
        let mut out = Vec::new();
        lines("", &answer, &mut out);
        let out: Vec<String> = out.iter().map(|(name, value)| format!("{name} {value}")).collect();
        assert_eq!(
            out,
            [
                "state RUNNING",
                "stopped none",
                "parameters.deadline_ms 20.0",
                "sources[0].name a"
            ]
        );
    }
}
