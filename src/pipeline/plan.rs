//! What a run is made of, and whether it fits together.

use std::sync::Arc;

use thiserror::Error;

use super::bin::EVENTS_AT_ONCE;
use super::decode::replay::Feed;
use super::guard::GuardConfig;
use super::handle::RunHandle;
use super::output::{self, OutputSpec};
use super::predictor::Predictor;
use super::publish::PublishConfig;
use super::socket::PublishError;
use super::switch::StopSwitch;
use super::tap::Taps;
use crate::acquire::{Pace, SampledSeries, Source, SpikeEvent};
use crate::realtime;

/// How a run is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// Device time of the start of bin 0, ns.
    pub start_ns: i64,
    /// How long a bin stays open for late spikes, ns of device time.
    pub grace_ns: i64,
    /// From a bin's close to its publication, ns; `None`: one bin width of host time.
    pub deadline_ns: Option<i64>,
    /// From a bin's close to the mean rates that are published where the decode thread is stuck, ns; `None`: twice the deadline.
    pub stuck_after_ns: Option<i64>,
    /// Events that a source's ring holds.
    pub ring_events: usize,
    /// Core that the decode thread is pinned to, where the system allows it.
    pub decode_core: Option<usize>,
    /// Where predictions go.
    pub publish: PublishConfig,
    /// What is asked of the system for the run's threads.
    pub realtime: realtime::Settings,
    /// What may go out.
    pub guard: GuardConfig,
}

impl RunConfig {
    /// A switch for a run of this configuration.
    pub fn switch(&self) -> Arc<StopSwitch> {
        Arc::new(StopSwitch::new(self.guard.heartbeat_ns.is_some()))
    }

    /// Published like this, from device time 0 on, with a deadline of a bin, and nothing asked of the system or of what goes out.
    pub fn new(publish: PublishConfig) -> Self {
        Self {
            start_ns: 0,
            grace_ns: 0,
            deadline_ns: None,
            stuck_after_ns: None,
            ring_events: 1 << 16,
            decode_core: None,
            publish,
            realtime: realtime::Settings::default(),
            guard: GuardConfig::default(),
        }
    }
}

/// What scoring and the neutral prediction need to know of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct NullModel {
    /// N: ln of each unit's mean count a bin.
    pub log_rates: Vec<f64>,
    /// Width of the last predicted bin, ns: the bin width, or up to twice that (model.md §2).
    pub last_bin_ns: i64,
}

/// What is attached to a run.
#[derive(Default)]
pub struct Attached {
    /// Copies of what comes in and what is published.
    pub taps: Option<Taps>,
    /// A recording's entries in place of the sources' events: the sources then only say what units and series there are.
    pub feed: Option<Feed>,
    /// The switch of this run, where somebody has to be able to stop predictions before it has begun ([`RunConfig::switch`]).
    pub switch: Option<Arc<StopSwitch>>,
    /// Given the run before a subscriber is waited for: others may ask it and stop it from then on.
    pub before_waiting: Option<Box<dyn FnOnce(Arc<RunHandle>)>>,
}

/// Why a run could not start.
#[derive(Debug, Error)]
pub enum RunError {
    /// Sources, model and configuration do not fit together.
    #[error("{0}")]
    Setup(String),
    /// An endpoint cannot be used.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Says in one sentence what does not fit together.
pub(super) fn check(
    config: &RunConfig,
    sources: &[Box<dyn Source>],
    model: &dyn Predictor,
    null: &NullModel,
    outputs: &[OutputSpec],
) -> Result<(), String> {
    let (bin_ns, units) = (model.bin_ns(), model.unit_ids().len());
    if sources.is_empty() {
        return Err("there is no source of spikes".into());
    }
    if bin_ns <= 0 || model.history_ns() <= 0 || model.horizon_bins() == 0 || units == 0 {
        let (history, horizon) = (model.history_ns(), model.horizon_bins());
        return Err(format!(
            "the model has bins of {bin_ns} ns, a history of {history} ns, {horizon} predicted bins and {units} units; \
             each must be above 0"
        ));
    }
    if null.log_rates.len() != units {
        return Err(format!(
            "{} mean rates were given for {units} units",
            null.log_rates.len()
        ));
    }
    if !(bin_ns..=2 * bin_ns).contains(&null.last_bin_ns) {
        return Err(format!(
            "a last bin of {} ns does not fit bins of {bin_ns} ns",
            null.last_bin_ns
        ));
    }
    if config.grace_ns < 0 {
        return Err(format!("a grace of {} ns is negative", config.grace_ns));
    }
    if config.deadline_ns.is_some_and(|deadline| deadline <= 0) {
        return Err("the deadline must be above 0".into());
    }
    let as_fast = sources.iter().filter(|source| source.pace() == Pace::AsFast).count();
    if as_fast > 0 && as_fast < sources.len() {
        return Err("sources that run by the clock and sources that run as fast as they can do not mix".into());
    }
    output::check(outputs)
}

/// Bytes of the longest values that an entry of a recording has.
pub(super) fn longest_entry((bins, units): (usize, usize), outputs: &[OutputSpec], series: &[SampledSeries]) -> usize {
    let numbers = outputs.iter().map(|output| output.rows * output.cols);
    let numbers = numbers.chain(series.iter().map(|series| series.channels));
    let numbers = numbers.chain([bins * units]).max().unwrap_or(0);
    (numbers * size_of::<f32>()).max(EVENTS_AT_ONCE * size_of::<SpikeEvent>())
}
