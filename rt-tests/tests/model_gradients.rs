//! The gradient of the whole network, every decoder variant, against central finite differences in FP64.

use kernels::reference::{Nudge, Reference};
use kernels::tape::DropRates;
use neurohorizon::model::config::{Decoder, Feedback, IdentityScheme, ModelConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rt_tests::tiny::{conditions, config, history, identity, readouts, Case, DECODERS};
use std::collections::BTreeMap;

/// Step of the finite differences: over five points their error is about its fourth power; that of rounding, 1e-15 over it.
const STEP: f64 = 2e-4;

fn learn(case: &Case, nudge: Option<Nudge>, rates: DropRates) -> (f64, BTreeMap<String, Vec<f64>>) {
    case.learn(nudge.map_or_else(Reference::<f64>::default, Reference::nudged), rates)
}

fn check(case: &Case, rates: DropRates) {
    let (_, gradients) = learn(case, None, rates);
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let mut moved = 0;
    for (name, gradient) in &gradients {
        let largest = gradient.iter().fold(0.0f64, |most, g| most.max(g.abs()));
        moved += usize::from(largest > 0.0);
        let cols = *case.checkpoint.tensors[name].shape.last().unwrap();
        for _ in 0..4 {
            let at = random.random_range(0..gradient.len());
            let loss = |change| {
                let nudge = Nudge {
                    name: name.clone(),
                    row: at / cols,
                    col: at % cols,
                    change,
                };
                learn(case, Some(nudge), rates).0
            };
            let (near, far) = (loss(STEP) - loss(-STEP), loss(2.0 * STEP) - loss(-2.0 * STEP));
            let expected = (8.0 * near - far) / (12.0 * STEP);
            // The gradient is handed out in FP32.
            let error = (gradient[at] - expected).abs();
            assert!(
                error <= 1e-7 * expected.abs().max(largest).max(1e-2),
                "{name}[{at}]: {} but {expected} by finite differences",
                gradient[at]
            );
        }
    }
    // Memory attention exists in every checkpoint and is of use to two variants only; identities that are computed take
    // the place of four tables.
    let unused = gradients.len() - moved;
    let most = if case.checkpoint.config.identity.is_some() {
        6
    } else {
        2
    };
    assert!(
        unused <= most,
        "{unused} parameters of {} have no gradient",
        gradients.len()
    );
}

#[test]
fn every_decoder() {
    for decoder in DECODERS {
        println!("{decoder:?}");
        check(&Case::new(decoder), DropRates::default());
    }
}

#[test]
fn with_recent_history() {
    let decoder = Decoder::QueryAug(Feedback::None);
    let config = ModelConfig {
        history: Some(history()),
        ..config(decoder)
    };
    check(&Case::of(config), DropRates::default());
}

#[test]
fn with_identities_from_activity() {
    for scheme in [IdentityScheme::Binned, IdentityScheme::Events] {
        println!("{scheme:?}");
        let config = ModelConfig {
            history: Some(history()),
            identity: Some(identity(scheme)),
            ..config(Decoder::PredictionMemory)
        };
        check(&Case::of(config), DropRates::default());
    }
}

#[test]
fn with_other_modalities() {
    let config = ModelConfig {
        conditions: conditions(),
        ..config(Decoder::PredictionMemory)
    };
    check(&Case::of(config), DropRates::default());
}

#[test]
fn with_readouts() {
    for history in [None, Some(history())] {
        let config = ModelConfig {
            readouts: readouts(),
            history,
            ..config(Decoder::QueryAug(Feedback::None))
        };
        check(&Case::of(config), DropRates::default());
    }
}

#[test]
fn with_dropout() {
    let rates = DropRates {
        hidden: 0.2,
        weights: 0.3,
        residual: 0.4,
    };
    let case = Case::new(Decoder::PredictionMemory);
    assert_ne!(learn(&case, None, rates).0, learn(&case, None, DropRates::default()).0);
    check(&case, rates);
}
