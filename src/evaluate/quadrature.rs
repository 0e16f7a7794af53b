//! Where the path of integrated gradients is looked at.

use std::f64::consts::PI;

/// A place of the path, 0 at the baseline and 1 at the inputs, and how much it counts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Node {
    /// Place.
    pub alpha: f64,
    /// Weight; those of all nodes add up to 1.
    pub weight: f64,
}

/// `steps` nodes for `∫₀¹ f(α) dα ≈ Σ weight f(alpha)`: those of Gauss and Legendre in √α, so that most of them lie near the
/// baseline, where networks with LayerNorm change most.
pub fn nodes(steps: usize) -> Vec<Node> {
    let node = |(x, weight): (f64, f64)| {
        // From [−1, 1] to [0, 1]; dα = 2 √α d√α.
        let root = 0.5 * (1.0 + x);
        Node {
            alpha: root * root,
            weight: weight * root,
        }
    };
    (0..steps).rev().map(|index| node(legendre(steps, index))).collect()
}

/// A zero of the Legendre polynomial of degree `n`, the largest first, and its weight on [−1, 1], by Newton's method.
fn legendre(n: usize, index: usize) -> (f64, f64) {
    let mut x = ((index as f64 + 0.75) / (n as f64 + 0.5) * PI).cos();
    let mut slope = 1.0;
    // The first guess is so close that five steps reach the last digit; two more do no harm.
    for _ in 0..7 {
        let (mut p, mut before) = (1.0, 0.0);
        for k in 0..n {
            let k = k as f64;
            (p, before) = (((2.0 * k + 1.0) * x * p - k * before) / (k + 1.0), p);
        }
        slope = n as f64 * (x * p - before) / (x * x - 1.0);
        x -= p / slope;
    }
    (x, 2.0 / ((1.0 - x * x) * slope * slope))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn integral(steps: usize, f: impl Fn(f64) -> f64) -> f64 {
        nodes(steps).iter().map(|node| node.weight * f(node.alpha)).sum()
    }

    #[test]
    fn polynomials_are_integrated_exactly() {
        for steps in [1, 2, 5, 16, 64, 512] {
            assert_eq!(nodes(steps).len(), steps);
            assert!((integral(steps, |_| 1.0) - 1.0).abs() < 1e-12, "{steps}");
            let ascending = nodes(steps).windows(2).all(|pair| pair[0].alpha < pair[1].alpha);
            assert!(
                ascending && nodes(steps).iter().all(|node| node.weight > 0.0),
                "{steps}"
            );
        }
        // α² √α is a polynomial of degree 5 in √α, 6 with the weight 2 √α.
        assert!((integral(4, |a| a.powf(2.5)) - 1.0 / 3.5).abs() < 1e-12);
    }

    #[test]
    fn a_bend_near_the_baseline_is_found() {
        // What LayerNorm does to α x beside a bias 1 000 times smaller: 1 / 1.001 in all.
        let bend = |a: f64| 1e-3 / (a + 1e-3).powi(2);
        let middles = |steps: usize| -> f64 {
            let of = |step: usize| bend((step as f64 + 0.5) / steps as f64);
            (0..steps).map(of).sum::<f64>() / steps as f64
        };
        let exact = 1.0 / 1.001;
        assert!((integral(32, bend) - exact).abs() < 1e-4, "{}", integral(32, bend));
        assert!((middles(32) - exact).abs() > 0.5, "{}", middles(32));
    }
}
