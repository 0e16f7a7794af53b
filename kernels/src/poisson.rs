//! Counts drawn from Poisson distributions on the host: the draws of `ptx/sample.ptx`, which explains the two methods.

use crate::philox::philox;

/// From this mean on counts are drawn by rejection, below by inversion.
const REJECTION_FROM: f64 = 64.0;
/// Rounds after which rejection gives up; each takes its candidate more often than not.
const MOST_ROUNDS: u32 = 64;
/// A probability of 1e-72 at most, below the largest mean of inversion.
const MOST_BY_INVERSION: f64 = 256.0;

/// The two numbers in (0, 1) of element `element` of `stream` in a round.
pub fn uniform(seed: u64, stream: u64, element: u32, round: u32) -> [f64; 2] {
    let words = philox(seed, [element, round, stream as u32, (stream >> 32) as u32]);
    let number = |high: u32, low: u32| (f64::from(high) * 4_294_967_296.0 + (f64::from(low) + 0.5)) * 2f64.powi(-64);
    [number(words[0], words[1]), number(words[2], words[3])]
}

/// A count from the Poisson distribution of mean `rate`; 0 for rates below 0, and what is infinite or not a number stays so.
pub fn poisson(rate: f32, seed: u64, stream: u64, element: u32) -> f32 {
    if !(rate > 0.0 && rate < f32::INFINITY) {
        return if rate <= 0.0 { 0.0 } else { rate };
    }
    let mean = f64::from(rate);
    if mean < REJECTION_FROM {
        return inversion(mean, uniform(seed, stream, element, 0)[0]) as f32;
    }
    (0..MOST_ROUNDS)
        .find_map(|round| candidate(mean, uniform(seed, stream, element, round)))
        .unwrap_or(mean.floor()) as f32
}

/// The count at which the cumulated probabilities reach `u`.
fn inversion(mean: f64, mut u: f64) -> f64 {
    let (mut k, mut probability) = (0.0, (-mean).exp());
    while u > probability {
        u -= probability;
        k += 1.0;
        probability *= mean / k;
        if k >= MOST_BY_INVERSION {
            return mean.floor();
        }
    }
    k
}

/// One round of PTRS; nothing where it refuses.
fn candidate(mean: f64, [u, v]: [f64; 2]) -> Option<f64> {
    let b = 0.931 + 2.53 * mean.sqrt();
    let a = 0.02483 * b - 0.059;
    let u = u - 0.5;
    let s = 0.5 - u.abs();
    let k = ((2.0 * a / s + b) * u + mean + 0.43).floor();
    // Also refuses what is not a number, from an s of 0.
    if k.is_nan() || k < 1.0 {
        return None;
    }
    if s >= 0.07 && v <= 0.9277 - 3.6224 / (b - 2.0) {
        return Some(k);
    }
    if s < 0.013 && v > s {
        return None;
    }
    let left = (v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (s * s) + b)).ln();
    // k ln λ − λ − ln k!, its large terms cancelled by Stirling's series.
    let stirling = 0.5 * (std::f64::consts::TAU * k).ln() + 1.0 / (12.0 * k) - 1.0 / (360.0 * k * k * k);
    let right = k * (mean / k).ln() - mean + k - stirling;
    (left <= right).then_some(k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_and_variances_are_the_rate() {
        const DRAWS: u32 = 20_000;
        for rate in [0.01f32, 0.7, 5.0, 63.0, 64.0, 900.0] {
            let counts: Vec<f64> = (0..DRAWS).map(|i| f64::from(poisson(rate, 3, 8, i))).collect();
            let (n, rate) = (f64::from(DRAWS), f64::from(rate));
            let mean = counts.iter().sum::<f64>() / n;
            let variance = counts.iter().map(|count| (count - rate).powi(2)).sum::<f64>() / n;
            // Four standard deviations each.
            assert!((mean - rate).abs() < 4.0 * (rate / n).sqrt(), "{rate}: mean {mean}");
            let spread = (rate * (1.0 + 2.0 * rate) / n).sqrt();
            assert!((variance - rate).abs() < 4.0 * spread, "{rate}: variance {variance}");
        }
    }

    #[test]
    fn inversion_by_hand() {
        // Of mean ln 2: P(0) = ½, P(1) = ½ ln 2 = 0.3466, together 0.8466.
        let mean = std::f64::consts::LN_2;
        assert_eq!(
            [0.49, 0.51, 0.84, 0.85].map(|u| inversion(mean, u)),
            [0.0, 1.0, 1.0, 2.0]
        );
        let odd = [0.0, -1.0, f32::NEG_INFINITY, f32::INFINITY].map(|rate| poisson(rate, 1, 1, 0));
        assert_eq!(odd, [0.0, 0.0, 0.0, f32::INFINITY]);
        assert!(poisson(f32::NAN, 1, 1, 0).is_nan());
    }
}
