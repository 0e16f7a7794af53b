//! Classical decoders of behaviour, fitted in the same run as what they are compared with: the [`Wiener`] filter and the
//! [`Kalman`] filter.
//!
//! Both read the square roots of counts, which makes the variance of a count nearly independent of its mean. Both decode bin by
//! bin, from the counts up to there, without allocating: they run beside the network in a live loop as well as over a recording.

mod binned;
mod kalman;
#[cfg(test)]
mod tests;
mod wiener;

pub use binned::BinnedBehaviour;
pub use kalman::Kalman;
pub use wiener::Wiener;

use super::super::behaviour::Decodings;

/// Share of what a decoder is fitted on that its regularisation is chosen by: the end.
const JUDGING_SHARE: f64 = 0.2;

/// Decodes behaviour from counts, bin by bin.
pub trait BinDecoder: Send {
    /// What it is called.
    fn name(&self) -> &str;
    /// Channels that it decodes, C.
    fn columns(&self) -> usize;
    /// Forgets the bins so far, as at the start of a recording or after a gap.
    fn restart(&mut self);
    /// Takes the counts `[N]` of the next bin in, and says what the behaviour is at its end, `[C]`. Does not allocate.
    fn step(&mut self, counts: &[u32], out: &mut [f32]);
}

/// What a decoder says of every bin of `data`, `[n, C]`.
pub fn decode(decoder: &mut dyn BinDecoder, data: &BinnedBehaviour) -> Vec<f32> {
    let columns = decoder.columns();
    let mut out = vec![0.0; data.bins() * columns];
    for (bin, out) in out.chunks_exact_mut(columns.max(1)).enumerate() {
        if data.begins(bin) {
            decoder.restart();
        }
        decoder.step(data.counts(bin), out);
    }
    out
}

/// Why there is nothing to fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// The series is not there.
    #[error("{recording} has no series {series:?} to fit decoders on")]
    NoSeries {
        /// The recording's name.
        recording: String,
        /// The series' name.
        series: String,
    },
    /// Too few bins in which it was recorded.
    #[error("{recording}: decoders of {series:?} are fitted on {bins} bins, and need at least {least}")]
    TooShort {
        /// The recording's name.
        recording: String,
        /// The series' name.
        series: String,
        /// Bins with counts and behaviour.
        bins: usize,
        /// Fewest.
        least: usize,
    },
}

/// Adds what both decoders, fitted on `fit`, say of the bins of `data` that end at `ends_ns`, to what the network said there.
pub fn add_decoders(
    fit: &BinnedBehaviour,
    data: &BinnedBehaviour,
    ends_ns: &[i64],
    lags: usize,
    delay: usize,
    decodings: &mut Decodings,
) {
    let (mut wiener, mut kalman) = (Wiener::fit(fit, lags), Kalman::fit(fit, delay));
    let decoders: [&mut dyn BinDecoder; 2] = [&mut wiener, &mut kalman];
    for decoder in decoders {
        let all = decode(decoder, data);
        let rows = data.ends_ns().iter().zip(all.chunks_exact(decoder.columns()));
        let wanted = rows.filter(|(end, _)| ends_ns.binary_search(end).is_ok());
        let values = wanted.flat_map(|(_, row)| row.iter().copied()).collect();
        decodings.decoders.push((decoder.name().to_owned(), values));
    }
}
