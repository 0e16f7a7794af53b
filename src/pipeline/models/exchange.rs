//! Models are handed to the decode thread while a run goes on; the former ones come back to be freed.

use std::sync::{Arc, Mutex};

use loom::thread::ThreadId;

use super::super::exchange::model_exchange;
use super::super::predictor::{BinSpikes, PredictError, Predictor};
use super::{model, weak_model, Modelled};

const BIN_NS: i64 = 20_000_000;

/// Which threads have freed a model.
type Freed = Arc<Mutex<Vec<ThreadId>>>;

struct Numbered {
    number: u64,
    units: Vec<String>,
    freed: Freed,
}

impl Drop for Numbered {
    fn drop(&mut self) {
        self.freed.lock().unwrap().push(loom::thread::current().id());
    }
}

impl Predictor for Numbered {
    fn unit_ids(&self) -> &[String] {
        &self.units
    }
    fn bin_ns(&self) -> i64 {
        BIN_NS
    }
    fn history_ns(&self) -> i64 {
        BIN_NS
    }
    fn horizon_bins(&self) -> usize {
        1
    }
    fn model_hash(&self) -> u64 {
        self.number
    }
    fn describe(&self) -> String {
        String::new()
    }
    fn max_spikes(&self) -> usize {
        1
    }
    fn predict(&mut self, _times_s: &[f64], _units: &[u32], _log_rates: &mut [f32]) -> Result<(), PredictError> {
        Ok(())
    }
}

fn threads() {
    let freed = Freed::default();
    let numbered = |number| -> Box<dyn Predictor> {
        Box::new(Numbered {
            number,
            units: vec!["u".into()],
            freed: freed.clone(),
        })
    };
    let mut running = numbered(0);
    let (mut port, exchange, _notes) = model_exchange::<Modelled>(running.as_ref(), BIN_NS);
    let decoder = loom::thread::spawn(move || {
        let mut ran = vec![running.model_hash()];
        for bin in 1..=3 {
            let spikes = BinSpikes {
                end_ns: bin * BIN_NS,
                counts: &[0],
                times_ns: &[],
                units: &[],
            };
            port.joining();
            port.bin_closed(&spikes);
            if port.exchange(&mut running) {
                ran.push(running.model_hash());
            }
        }
        // What is left is freed by whoever asks.
        (loom::thread::current().id(), ran, (port, running))
    });
    let mut taken = vec![0];
    for number in 1..=4 {
        if exchange.hand_over(numbered(number), BIN_NS).is_ok() {
            taken.push(number);
        }
    }
    let (decoder, ran, left) = decoder.join().unwrap();
    let (handed, exchanged) = exchange.counts();
    assert_eq!((handed, exchanged), (taken.len() as u64 - 1, ran.len() as u64 - 1));
    // They run in the order in which they were taken, and the last is on its way at most.
    assert!(
        taken.starts_with(&ran) && taken.len() <= ran.len() + 1,
        "{taken:?} {ran:?}"
    );
    drop(left);
    exchange.close();
    let freed = freed.lock().unwrap();
    assert_eq!(freed.len(), 5);
    assert!(!freed.contains(&decoder), "the decode thread has freed a model");
}

#[test]
fn models_run_in_order_and_the_decode_thread_frees_none() {
    model(3, threads);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_notices_atomics_that_are_too_weak() {
    weak_model(3, threads);
}
