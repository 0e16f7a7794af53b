//! Another model in place of the one that predicts, between two bins.
//!
//! ```text
//! whoever asks     checks that it fits ─ring→  decode thread: goes along until it is ready, then predicts
//!                  frees the former    ←ring─
//! ```
//! The new model goes along with the old one, bin by bin, until it has what it needs: identities of the units where it computes
//! them, and its recent history where that is not the old one's. Until then the old one predicts, so that no bin is missed. What
//! the decode thread does for it is bounded, and it frees nothing.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, PoisonError};

use ringbuf::traits::{Consumer, Producer};

use super::output::OutputSpec;
use super::predictor::{BinSpikes, Predictor};
use super::sharing::{ring, Number, Real, Receiver, Sender, Sharing};
use crate::model::config::{ConditionConfig, HistoryConfig};

/// Time constants of its longest trace that a new model goes along for: what it has not seen then counts for e⁻⁵, less than 1 %.
const TIME_CONSTANTS: f64 = 5.0;

/// Models that the publish thread may not have heard of yet.
const NOTES: usize = 64;

/// What a model must have in common with the one whose place it takes: subscribers, sources and buffers rely on it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shape {
    unit_ids: Vec<String>,
    bin_ns: i64,
    history_ns: i64,
    horizon_bins: usize,
    last_bin_ns: i64,
    max_spikes: usize,
    outputs: Vec<OutputSpec>,
    conditions: Vec<ConditionConfig>,
}

impl Shape {
    /// Of a model whose last predicted bin is `last_bin_ns` wide.
    pub fn of(predictor: &dyn Predictor, last_bin_ns: i64) -> Self {
        let conditions = predictor.network_config().map(|network| network.conditions.clone());
        Self {
            unit_ids: predictor.unit_ids().to_vec(),
            bin_ns: predictor.bin_ns(),
            history_ns: predictor.history_ns(),
            horizon_bins: predictor.horizon_bins(),
            last_bin_ns,
            max_spikes: predictor.max_spikes(),
            outputs: predictor.outputs(),
            conditions: conditions.unwrap_or_default(),
        }
    }

    /// One sentence about the first thing that is not the same.
    fn differs(&self, new: &Self) -> Option<String> {
        let differs = |what: &str, now: &dyn std::fmt::Debug, new: &dyn std::fmt::Debug| {
            Some(format!("its {what} is {new:?}, and the running model's is {now:?}"))
        };
        if self.unit_ids != new.unit_ids {
            let other = self.unit_ids.iter().zip(&new.unit_ids).find(|(a, b)| a != b);
            return match other {
                Some((now, new)) => differs("order of units", now, new),
                None => differs("number of units", &self.unit_ids.len(), &new.unit_ids.len()),
            };
        }
        let numbers = [
            ("bin width in ns", self.bin_ns, new.bin_ns),
            ("history in ns", self.history_ns, new.history_ns),
            ("number of bins", self.horizon_bins as i64, new.horizon_bins as i64),
            ("last bin's width in ns", self.last_bin_ns, new.last_bin_ns),
            ("most spikes of a window", self.max_spikes as i64, new.max_spikes as i64),
        ];
        if let Some((what, now, new)) = numbers.into_iter().find(|(_, now, new)| now != new) {
            return differs(what, &now, &new);
        }
        if self.outputs != new.outputs {
            let topics = |shape: &Self| -> Vec<String> {
                let named = |o: &OutputSpec| format!("{} {} × {}", o.topic, o.rows, o.cols);
                shape.outputs.iter().map(named).collect()
            };
            return differs("list of outputs", &topics(self), &topics(new));
        }
        if self.conditions != new.conditions {
            let series = |shape: &Self| -> Vec<String> { shape.conditions.iter().map(|c| c.series.clone()).collect() };
            return differs("list of modalities", &series(self), &series(new));
        }
        None
    }
}

/// What a model is, for people and for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelNote {
    /// One line.
    pub description: String,
    /// The messages' model hash.
    pub hash: u64,
}

impl ModelNote {
    pub(crate) fn of(predictor: &dyn Predictor) -> Self {
        Self {
            description: predictor.describe(),
            hash: predictor.model_hash(),
        }
    }
}

/// A model on its way to the decode thread.
struct Incoming {
    predictor: Box<dyn Predictor>,
    /// Bins that it still has to go along.
    bins: u64,
    /// Whether its recent history is the running model's.
    takes_up: bool,
}

/// The decode thread's end.
pub(crate) struct ModelPort<S: Sharing = Real> {
    incoming: Receiver<S, Incoming>,
    next: Option<Incoming>,
    /// Models that went along so far: the number of the last one, where 0 is the run's first.
    joined: u64,
    /// The number of the one that predicts.
    predicts: u64,
    former: Sender<S, Box<dyn Predictor>>,
    exchanged: Arc<S::Number>,
}

/// The end of those who ask.
pub(crate) struct ModelExchange<S: Sharing = Real> {
    /// None once the run is over.
    ends: Mutex<Option<Ends<S>>>,
    /// Models handed over, and of these those that predict or did.
    handed: AtomicU64,
    exchanged: Arc<S::Number>,
}

struct Ends<S: Sharing> {
    incoming: Sender<S, Incoming>,
    former: Receiver<S, Box<dyn Predictor>>,
    notes: Sender<S, ModelNote>,
    shape: Shape,
    history: Option<HistoryConfig>,
}

/// Both ends for a run that begins with `predictor`, and what the publish thread is told of new ones.
pub(crate) fn model_exchange<S: Sharing>(
    predictor: &dyn Predictor,
    last_bin_ns: i64,
) -> (ModelPort<S>, ModelExchange<S>, Receiver<S, ModelNote>) {
    let (incoming_in, incoming_out) = ring::<S, _>(1);
    let (former_in, former_out) = ring::<S, _>(1);
    let (notes_in, notes_out) = ring::<S, _>(NOTES);
    let exchanged = Arc::new(S::Number::default());
    let port = ModelPort {
        incoming: incoming_out,
        next: None,
        joined: 0,
        predicts: 0,
        former: former_in,
        exchanged: exchanged.clone(),
    };
    let ends = Ends {
        incoming: incoming_in,
        former: former_out,
        notes: notes_in,
        shape: Shape::of(predictor, last_bin_ns),
        history: history(predictor),
    };
    let exchange = ModelExchange {
        ends: Mutex::new(Some(ends)),
        handed: AtomicU64::new(0),
        exchanged,
    };
    (port, exchange, notes_out)
}

impl<S: Sharing> ModelPort<S> {
    /// A model that goes along from the bin on that closes next, if one has come.
    pub fn joining(&mut self) -> Option<&dyn Predictor> {
        if self.next.is_some() {
            return None;
        }
        self.next = self.incoming.try_pop();
        self.joined += u64::from(self.next.is_some());
        self.next.as_ref().map(|next| next.predictor.as_ref())
    }

    /// The number of the model that predicts, and of the last that went along.
    pub fn numbers(&self) -> (u64, u64) {
        (self.predicts, self.joined)
    }

    /// A bin has closed: shows it to a model that goes along.
    pub fn bin_closed(&mut self, bin: &BinSpikes<'_>) {
        if let Some(next) = &mut self.next {
            next.predictor.bin_closed(bin);
            next.bins = next.bins.saturating_sub(1);
        }
    }

    /// Has a model that goes along take identities in ([`Predictor::take_identities`]).
    pub fn take_identities(&mut self) -> Option<i64> {
        self.next.as_mut()?.predictor.take_identities()
    }

    /// Puts a model that goes along in the place of `running` once it is ready. Returns whether it did.
    pub fn exchange(&mut self, running: &mut Box<dyn Predictor>) -> bool {
        let Some(next) = &self.next else { return false };
        if next.bins > 0 || next.predictor.calibrating() {
            return false;
        }
        let Some(mut next) = self.next.take() else { return false };
        if let Some(state) = running.recent_history().filter(|_| next.takes_up) {
            next.predictor.take_up(state);
        }
        self.predicts = self.joined;
        let former = std::mem::replace(running, next.predictor);
        // There is a place: no other model is handed over before this one is taken out.
        let _ = self.former.try_push(former);
        // After the former model: whoever knows of the exchange finds that.
        self.exchanged.fetch_add(1, Release);
        true
    }

    /// A model that went along with `running` from the next bin on, in a recorded run.
    ///
    /// # Errors
    /// One sentence where it does not fit.
    pub fn join_recorded(&mut self, running: &dyn Predictor, predictor: Box<dyn Predictor>) -> Result<(), String> {
        // The same program built both: of the last bin it knows.
        if let Some(difference) = Shape::of(running, 0).differs(&Shape::of(predictor.as_ref(), 0)) {
            return Err(difference);
        }
        let takes_up = history(running) == history(predictor.as_ref());
        let bins = u64::MAX;
        self.joined += 1;
        self.next = Some(Incoming {
            predictor,
            bins,
            takes_up,
        });
        Ok(())
    }

    /// It predicted from the next bin on.
    pub fn predict_recorded(&mut self) {
        if let Some(next) = &mut self.next {
            next.bins = 1;
        }
    }
}

fn history(predictor: &dyn Predictor) -> Option<HistoryConfig> {
    predictor.network_config().and_then(|network| network.history.clone())
}

impl<S: Sharing> ModelExchange<S> {
    /// Hands a model over to the decode thread. `last_bin_ns` is the width of its last predicted bin.
    ///
    /// # Errors
    /// One sentence where it does not fit, or another one is on its way.
    pub fn hand_over(&self, predictor: Box<dyn Predictor>, last_bin_ns: i64) -> Result<(), String> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let ends = ends.as_mut().ok_or("the run has ended")?;
        let (handed, exchanged) = self.counts();
        if exchanged < handed {
            return Err("another model is on its way: it goes along with the running one until it is ready".into());
        }
        // Not before the counts: the former model of an exchange in between would keep its place, and the decode thread would
        // have to free the next.
        drop(ends.former.try_pop());
        if let Some(difference) = ends.shape.differs(&Shape::of(predictor.as_ref(), last_bin_ns)) {
            return Err(format!("the new model does not fit this run: {difference}"));
        }
        let history = history(predictor.as_ref());
        let takes_up = history == ends.history;
        let bins = match &history {
            Some(history) if !takes_up => {
                let longest_s = history.time_constants_s.iter().copied().fold(0.0, f64::max);
                (TIME_CONSTANTS * longest_s * 1e9 / predictor.bin_ns() as f64).ceil() as u64
            }
            _ => 0,
        };
        let _ = ends.notes.try_push(ModelNote::of(predictor.as_ref()));
        let incoming = Incoming {
            predictor,
            bins,
            takes_up,
        };
        if ends.incoming.try_push(incoming).is_err() {
            return Err("the decode thread takes no model any more".into());
        }
        ends.history = history;
        self.handed.store(handed + 1, Relaxed);
        Ok(())
    }

    /// Models handed over, and of these those that predict or did.
    pub fn counts(&self) -> (u64, u64) {
        (self.handed.load(Relaxed), self.exchanged.load(Acquire))
    }

    /// Frees the model that no longer predicts.
    pub fn collect(&self) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        drop(ends.as_mut().and_then(|ends| ends.former.try_pop()));
    }

    /// The run is over: frees what is on its way in either direction.
    pub fn close(&self) {
        drop(self.ends.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
