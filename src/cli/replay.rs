//! `neurohorizon replay`: a recorded run once more, compared bit by bit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::latents_option::LatentsOption;
use super::replay_verdict::{verdict, Recorded};
use super::run_config::ModelSection;
use super::run_model::{build_predictor, load_checkpoint};
use super::run_source::{Before, SourceFacts};
use super::{print_json, CliError, FAULT_FOUND};
use crate::data::Interval;
use crate::model::checkpoint::Checkpoint;
use crate::pipeline::tap::taps;
use crate::pipeline::{Attached, LoadRecorded, PublishConfig, Run, RunConfig};
use crate::record::format::Kind;
use crate::record::replay::{feed, sources, Compared, Comparison};
use crate::record::{RecordReader, RunHeader};

/// Bytes of each ring between the replay and the comparison; the replay waits where one is full.
const RING_BYTES: usize = 16 << 20;
/// Between two looks at what the replay has published.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Exit status where what was compared is the same, and not all of the recording could be compared.
const IN_PART: u8 = 3;

/// Replay a recorded run (`run --record`) and compare what it publishes, bit by bit
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  neurohorizon replay session.nhr\n  \
                        neurohorizon replay session.nhr --checkpoint moved/model.safetensors --json\n\n\
                        Events are taken, and bins closed, in the recorded order; arrays are compared where they are the model's own \
                        both times. Exit status 0: the same; 1: something differs, nothing could be compared, or the recording is damaged; \
                        3: what was compared is the same, but the replay ended before the recording did.")]
pub struct ReplayArgs {
    /// The recording of a run.
    pub recording: PathBuf,
    /// The checkpoint, where it is no longer where it was.
    #[arg(long)]
    pub checkpoint: Option<PathBuf>,
    /// A checkpoint that took the first one's place during the run, where it is no longer where it was; found by its hash.
    #[arg(long, value_name = "FILE")]
    pub also: Vec<PathBuf>,
    /// Publish the predictions again, on this endpoint.
    #[arg(long, value_name = "ENDPOINT")]
    pub publish: Option<String>,
    /// Seconds to wait for a subscriber of that endpoint.
    #[arg(long, default_value_t = 0.0, requires = "publish")]
    pub wait_for_subscriber: f64,
    /// One JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

/// What a replay came to.
#[derive(Debug, Serialize)]
struct ReplayReport {
    recording: PathBuf,
    program: String,
    model_hash: String,
    recorded_with: String,
    replayed_with: String,
    /// How the recording ends, without the summary.
    whole: bool,
    left_over_bytes: u64,
    damage: Option<String>,
    /// Why not all of it was replayed.
    ended: Option<String>,
    bins: u64,
    spikes: u64,
    /// Times that identities were computed again, of the recorded reference, and taken in before the recorded bin.
    identities: u64,
    /// Requests that changed the run while it was recorded, by command.
    requests: BTreeMap<String, u64>,
    /// Such requests that are not in the recording.
    requests_left_out: u64,
    /// Predictions in the whole recording.
    published: u64,
    #[serde(flatten)]
    compared: Compared,
    /// None where nothing differs, but nothing was compared or only a part.
    same: Option<bool>,
    /// That in a sentence.
    verdict: String,
}

fn config(args: &ReplayArgs, header: &RunHeader) -> Result<RunConfig, CliError> {
    let wait_for_subscriber = super::run_config::s_to_ns("--wait-for-subscriber", args.wait_for_subscriber)?;
    Ok(RunConfig {
        start_ns: header.bins.start_ns,
        grace_ns: header.bins.grace_ns,
        ring_events: header.bins.ring_events,
        ..RunConfig::new(PublishConfig {
            wait_for_subscriber: Duration::from_nanos(wait_for_subscriber as u64),
            ..PublishConfig::at(&args.publish.clone().unwrap_or_else(|| "inproc://replay".into()))
        })
    })
}

/// Loads the models that took the first one's place: from these files, or from where they were.
fn later_models(
    first: &ModelSection,
    latents: &LatentsOption,
    facts: SourceFacts,
    also: Vec<PathBuf>,
) -> Box<LoadRecorded> {
    let (first, latents) = (first.clone(), latents.clone());
    Box::new(move |hash, origin| {
        let recorded = PathBuf::from(origin.file);
        let mut found = None;
        for path in also.iter().chain([&recorded]) {
            match Checkpoint::load(path) {
                Ok(checkpoint) if checkpoint.hash == hash => {
                    found = Some((path, checkpoint));
                    break;
                }
                // Another one, or the one that was named first and is gone.
                Ok(_) => {}
                Err(error) if path != &recorded => return Err(error.to_string()),
                Err(_) => {}
            }
        }
        let Some((path, checkpoint)) = found else {
            return Err(format!("it was {} and is not there any more: --also FILE", origin.file));
        };
        let section = ModelSection {
            checkpoint: Some(path.clone()),
            session: Some(origin.session.to_string()).filter(|session| !session.is_empty()),
            ..first.clone()
        };
        let built = build_predictor(&section, &latents, Some(&checkpoint), &facts, None);
        built.map(|built| built.predictor).map_err(|error| error.to_string())
    })
}

/// Runs the command.
///
/// # Errors
/// A recording that cannot be read at all, or a checkpoint that is not the run's.
pub fn run(args: &ReplayArgs) -> Result<ExitCode, CliError> {
    let reader = RecordReader::open(&args.recording)?;
    let header = reader.header().clone();
    let fault = |what: String| CliError::Config(format!("{}: {what}", args.recording.display()));
    let mut section: ModelSection = serde_json::from_value(header.model.clone())?;
    // They were trusted then.
    section.trust_units = true;
    section.checkpoint = header.checkpoint.as_ref().map(|recorded| match &args.checkpoint {
        Some(path) => path.clone(),
        None => recorded.path.clone().into(),
    });
    let checkpoint = load_checkpoint(&section)?;
    if let (Some(recorded), Some(found)) = (&header.checkpoint, &checkpoint) {
        let hash = format!("{:016x}", found.hash);
        if hash != recorded.hash {
            let path = section.checkpoint.unwrap_or_default();
            let expected = &recorded.hash;
            return Err(fault(format!(
                "{} is not the checkpoint of this run: its hash is {hash}, and the run's was {expected}",
                path.display()
            )));
        }
    }
    let latents = header.latents.parse().map_err(fault)?;
    let sources = sources(&header);
    let names: Vec<&str> = sources.iter().map(|source| source.name()).collect();
    let facts = SourceFacts {
        name: names.join(" + "),
        unit_ids: header.source_units(),
        mean_log_rates: header
            .mean_log_rate_bits
            .iter()
            .map(|&bits| f64::from_bits(bits))
            .collect(),
        means_from: header.means_from.clone(),
        are_devices: false,
        observed: header
            .observed_ns
            .iter()
            .map(|&[start_ns, end_ns]| Interval { start_ns, end_ns })
            .collect(),
        // The replay has identities computed itself, where they were.
        in_step: false,
    };
    let before = header.recent_history.as_ref().map(|bits| {
        let state = bits.iter().map(|&bits| f32::from_bits(bits));
        Before::RecentHistory(state.collect())
    });
    let model = build_predictor(&section, &latents, checkpoint.as_ref(), &facts, before.as_ref())?;
    let replayed_with = model.predictor.describe();
    // After the reader, which knows of no more than this does, where the run still goes on.
    let recorded = Recorded::read(&args.recording)?;
    let published = RecordReader::open(&args.recording)?.entries(Kind::Published);
    let mut comparison = Comparison::new(published);
    let (taps, mut readers) = taps(RING_BYTES);
    let load = later_models(&section, &latents, facts, args.also.clone());
    let (feed, fed) = feed(reader, recorded.identities.clone(), load);
    let attached = Attached {
        taps: Some(taps),
        feed: Some(feed),
        ..Attached::default()
    };
    let run_config = config(args, &header)?;
    let run = Run::start_with(
        &run_config,
        sources,
        model.predictor,
        &model.null,
        Arc::default(),
        attached,
    )?;
    let mut ingested = Vec::new();
    while !(readers.ingest.is_finished() && readers.publish.is_finished()) {
        comparison.look(&mut readers.publish).map_err(fault)?;
        // What is taken in is known already.
        ingested.clear();
        if readers.ingest.take(&mut ingested) == 0 {
            std::thread::sleep(LOOK_EVERY);
        }
    }
    let summary = run.join();
    let compared = comparison.finish();
    let failures = summary.failures.join("; ");
    if !failures.is_empty() {
        return Err(fault(failures));
    }
    let ended = fed.ended.get().cloned();
    let (same, verdict) = verdict(&compared, &recorded, ended.as_deref());
    let mut requests = BTreeMap::new();
    for request in &recorded.requests {
        *requests.entry(request.command().to_string()).or_default() += 1;
    }
    let report = ReplayReport {
        recording: args.recording.clone(),
        program: header.program,
        model_hash: header.model_hash,
        recorded_with: header.description,
        replayed_with,
        whole: recorded.whole,
        left_over_bytes: recorded.left_over_bytes,
        damage: recorded.damage,
        ended,
        bins: summary.bins.closed,
        spikes: summary.spikes.received,
        identities: fed.identities.load(Relaxed),
        requests,
        requests_left_out: recorded.requests_left_out,
        published: recorded.published,
        compared,
        same,
        verdict,
    };
    if args.json {
        print_json(&report)?;
    } else {
        print(&report);
    }
    Ok(match report.same {
        Some(true) => ExitCode::SUCCESS,
        None if report.compared.compared > 0 && report.damage.is_none() => ExitCode::from(IN_PART),
        _ => ExitCode::from(FAULT_FOUND),
    })
}

fn print(report: &ReplayReport) {
    let compared = &report.compared;
    let file = report.recording.display();
    say!(
        "compared     {} of {} published predictions; {} have the same bits",
        compared.compared,
        report.published,
        compared.equal
    );
    match (&report.damage, report.whole) {
        (Some(damage), _) => say!(
            "recording    {file}: DAMAGED ({damage}); {} bytes after that were not read",
            report.left_over_bytes
        ),
        (None, true) => say!("recording    {file}: whole"),
        (None, false) => say!(
            "recording    {file}: cut off, without a summary; {} bytes at its end are of no use",
            report.left_over_bytes
        ),
    }
    say!("recorded by  {} {}", report.program, report.recorded_with);
    if report.recorded_with != report.replayed_with {
        say!("replayed by  {}", report.replayed_with);
    }
    say!("replayed     {} spikes in {} bins", report.spikes, report.bins);
    if report.identities > 0 {
        say!(
            "identities   taken in {} times, computed again from the same spikes",
            report.identities
        );
    }
    print_requests(report);
    if let Some(ended) = &report.ended {
        say!("up to there  {ended}");
    }
    say!(
        "beside them  {} outputs were compared, and {} have the same bits; {} predictions were held, neutral, shortened or made elsewhere, \
         {} are only in the replay",
        compared.outputs[0],
        compared.outputs[1],
        compared.not_full,
        compared.only_replayed
    );
    say!("{}", report.verdict);
}

fn print_requests(report: &ReplayReport) {
    let (commands, left_out) = (&report.requests, report.requests_left_out);
    if commands.is_empty() && left_out == 0 {
        return;
    }
    let counted: Vec<String> = commands.iter().map(|(name, count)| format!("{count} {name}")).collect();
    say!(
        "requests     {} changed the run ({}){}; models and identities came again where they came then, parameters and stops are not \
         applied again",
        commands.values().sum::<u64>(),
        counted.join(", "),
        match left_out {
            0 => String::new(),
            _ => format!(", and {left_out} more that are not recorded"),
        }
    );
}
