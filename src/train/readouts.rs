//! The loss of what is read out: squared deviations of numbers, cross-entropy of classes.

use crate::model::config::{ReadoutConfig, ReadoutKind};

/// Targets that there are: numbers, or classes.
pub fn present(targets: &[f32]) -> usize {
    targets.iter().filter(|target| target.is_finite()).count()
}

/// Sum of the loss over the targets that there are, and its derivative by what was read out, `[R, columns]`, which takes the place
/// of what `gradient` held. `read` are deviations or logits, `targets` as [`crate::model::readout::targets`] scales them.
///
/// ```text
/// numbers   Σ (y − target)²              2 (y − target)
/// classes   −Σ ln softmax(y)[class]      softmax(y) − 1[class]
/// ```
pub fn loss(config: &ReadoutConfig, read: &[f32], targets: &[f32], gradient: &mut [f32]) -> f64 {
    gradient.fill(0.0);
    match config.kind {
        ReadoutKind::Regression => {
            let mut sum = 0.0;
            for ((g, &y), &target) in gradient.iter_mut().zip(read).zip(targets) {
                if target.is_finite() {
                    *g = 2.0 * (y - target);
                    sum += f64::from(y - target).powi(2);
                }
            }
            sum
        }
        ReadoutKind::Classes => {
            let columns = config.columns();
            let rows = gradient.chunks_exact_mut(columns).zip(read.chunks_exact(columns));
            let mut sum = 0.0;
            for ((g, y), target) in rows.zip(targets) {
                if !target.is_finite() {
                    continue;
                }
                let class = *target as usize;
                let most = y.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let all: f64 = y.iter().map(|&y| f64::from(y - most).exp()).sum();
                sum += all.ln() - f64::from(y[class] - most);
                for (g, &y) in g.iter_mut().zip(y) {
                    *g = (f64::from(y - most).exp() / all) as f32;
                }
                g[class] -= 1.0;
            }
            sum
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: ReadoutKind, columns: usize) -> ReadoutConfig {
        ReadoutConfig {
            series: "x".into(),
            kind,
            step_s: 0.1,
            back: 2,
            ahead: 0,
            unit: String::new(),
            labels: vec![String::new(); columns],
            mean: vec![0.0; columns],
            deviation: vec![1.0; columns],
        }
    }

    /// The derivative against central differences, and nothing where there is no target.
    fn check(config: &ReadoutConfig, targets: &[f32]) {
        let read = [0.3, -1.2, 0.8, 2.0, 0.1, -0.4];
        let mut gradient = [9.0; 6];
        loss(config, &read, targets, &mut gradient);
        for at in 0..6 {
            let moved = |by: f32| {
                let mut read = read;
                read[at] += by;
                loss(config, &read, targets, &mut [0.0; 6])
            };
            let expected = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!(
                (f64::from(gradient[at]) - expected).abs() < 1e-4,
                "{at}: {} but {expected}",
                gradient[at]
            );
        }
    }

    #[test]
    fn the_derivative_is_that_of_the_loss() {
        check(
            &config(ReadoutKind::Regression, 3),
            &[0.0, 1.0, f32::NAN, -1.0, 0.5, 0.5],
        );
        check(&config(ReadoutKind::Classes, 3), &[2.0, 0.0]);
        check(&config(ReadoutKind::Classes, 3), &[f32::NAN, 1.0]);
        assert_eq!(present(&[f32::NAN, 1.0]), 1);
    }

    #[test]
    fn even_odds_cost_the_logarithm_of_the_classes() {
        let config = config(ReadoutKind::Classes, 3);
        let sum = loss(&config, &[5.0; 6], &[0.0, 1.0], &mut [0.0; 6]);
        assert!((sum - 2.0 * 3f64.ln()).abs() < 1e-9);
    }
}
