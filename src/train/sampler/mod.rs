//! What a step of training sees: windows drawn from recordings.
//!
//! A [`TrainingSet`] is made of one or many recordings: their sessions and units, which parts of them are trained on and
//! which are for validation, and each unit's mean rate. A [`Sampler`] draws batches of windows from it; [`Prefetch`] has
//! the next ones made in the background. Batch number k depends on the seed and on k and on nothing else, so training that
//! is resumed at step k goes on with the batches that it would have seen.

mod draw;
mod prefetch;
mod set;
#[cfg(test)]
mod tests;

pub use draw::{Batch, Sampler, SamplerOptions, UnitDropout};
pub use prefetch::Prefetch;
pub use set::{Session, Source, Span, TrainingRecording, TrainingSet, Window};

use crate::data::DataError;

/// Why there is nothing to draw from, or why drawing stopped; each is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    /// A recording cannot answer, such as for a part that it does not have.
    #[error(transparent)]
    Data(#[from] DataError),
    /// No recording was given.
    #[error("there is no recording to train on")]
    NoRecordings,
    /// Two parts of a recording that have to be apart.
    #[error("{recording}: the {first} interval {first_s} and the {second} interval {second_s} overlap")]
    Overlap {
        /// The recording's name.
        recording: String,
        /// `training`, `validation` or `test`.
        first: &'static str,
        /// From where to where, from the origin of the recording's grid.
        first_s: String,
        /// As `first`.
        second: &'static str,
        /// As `first_s`.
        second_s: String,
    },
    /// A part of a recording in which no window fits.
    #[error(
        "{recording}: the {part} interval {interval_s} has no observed stretch as long as a window of history and \
         horizon, which is {window_s:.3} s"
    )]
    ShortInterval {
        /// The recording's name.
        recording: String,
        /// `training` or `validation`.
        part: &'static str,
        /// From where to where, from the origin of the recording's grid.
        interval_s: String,
        /// Length of a window.
        window_s: f64,
    },
    /// A recording whose training intervals hold no spike.
    #[error("{recording} has no spikes in its training intervals")]
    NoTrainingSpikes {
        /// The recording's name.
        recording: String,
    },
    /// A session that is validated and never trained on.
    #[error("session {session} has no training interval, so its units' rates are unknown")]
    NoTrainingInterval {
        /// The session's name.
        session: String,
    },
    /// A recording with training and reference intervals.
    #[error("{recording} has both training and reference intervals; what is trained on is its own reference")]
    Reference {
        /// The recording's name.
        recording: String,
    },
    /// Recordings of one session that are not of the same units.
    #[error(
        "{first} and {second} are both of session {session}, but unit {unit} is in one of them only; recordings of \
         different units need different session names"
    )]
    DifferentUnits {
        /// The session's name.
        session: String,
        /// A recording.
        first: String,
        /// Another.
        second: String,
        /// A unit that one of them has.
        unit: String,
    },
    /// A threshold that leaves nothing.
    #[error(
        "no unit of session {session} fires at {min_rate_hz} Hz or more in the training intervals; the highest rate is \
         {highest_hz:.3} Hz"
    )]
    NoUnits {
        /// The session's name.
        session: String,
        /// The threshold.
        min_rate_hz: f64,
        /// What the most active unit reaches.
        highest_hz: f64,
    },
    /// A key that is out of range.
    #[error("sampler: {0}")]
    Option(String),
    /// The thread that prepares batches could not be started or ended before its time.
    #[error("the thread that prepares batches {0}")]
    Thread(String),
}
