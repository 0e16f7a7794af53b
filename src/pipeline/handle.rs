//! What others may ask of a run while it goes on, and tell it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::calibrate::{CalibrationControl, CalibrationCounts, Calibrator};
use super::clock::monotonic_ns;
use super::exchange::{ModelExchange, ModelNote};
use super::live::{Live, LiveSnapshot};
use super::parameters::Parameters;
use super::predictor::Predictor;
use super::sources::{SourceReport, SourceView};
use super::switch::StopSwitch;
use crate::model::identity::IdentityError;
use crate::realtime::ComputeThreads;

/// The thread that computes identities, and what it comes to.
type CalibratorThread = (JoinHandle<Result<(), IdentityError>>, Arc<CalibrationControl>);

/// A run as others see it. Nothing here is for the hot threads but the atomics in it.
pub struct RunHandle {
    pub(super) live: Arc<Live>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) switch: Arc<StopSwitch>,
    pub(super) parameters: Arc<Parameters>,
    pub(super) exchange: ModelExchange,
    pub(super) views: Vec<SourceView>,
    pub(super) units: usize,
    pub(super) epoch: u64,
    compute_threads: ComputeThreads,
    models: Mutex<Models>,
}

/// The model that predicts, those that came after it, and their calibrators.
struct Models {
    running: ModelNote,
    next: Option<(ModelNote, Option<Arc<CalibrationControl>>)>,
    calibration: Option<Arc<CalibrationControl>>,
    threads: Vec<JoinHandle<Result<(), IdentityError>>>,
}

impl RunHandle {
    pub(super) fn new(
        (live, stop): (Arc<Live>, Arc<AtomicBool>),
        (switch, parameters): (Arc<StopSwitch>, Arc<Parameters>),
        (exchange, compute_threads): (ModelExchange, ComputeThreads),
        views: Vec<SourceView>,
        (model, units, epoch): (ModelNote, usize, u64),
    ) -> Self {
        Self {
            live,
            stop,
            switch,
            parameters,
            exchange,
            views,
            units,
            epoch,
            compute_threads,
            models: Mutex::new(Models {
                running: model,
                next: None,
                calibration: None,
                threads: Vec::new(),
            }),
        }
    }

    fn models(&self) -> std::sync::MutexGuard<'_, Models> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let (handed, exchanged) = self.exchange.counts();
        if handed == exchanged {
            if let Some((note, calibration)) = models.next.take() {
                models.running = note;
                models.calibration = calibration;
                self.exchange.collect();
            }
        }
        models
    }

    /// Starts the calibrator that the run begins with.
    pub(super) fn calibrate_with(&self, calibrator: Calibrator) -> std::io::Result<()> {
        let (thread, control) = spawn(calibrator)?;
        let mut models = self.models();
        models.threads.push(thread);
        models.calibration = Some(control);
        Ok(())
    }

    /// Every calibrator that was started.
    pub(super) fn take_calibrators(&self) -> Vec<JoinHandle<Result<(), IdentityError>>> {
        std::mem::take(&mut self.models().threads)
    }

    /// The figures so far.
    pub fn live(&self) -> LiveSnapshot {
        self.live.snapshot()
    }

    /// The publisher's epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Units of the model.
    pub fn units(&self) -> usize {
        self.units
    }

    /// The switch that lets predictions out, or not.
    pub fn switch(&self) -> &StopSwitch {
        &self.switch
    }

    /// Lets predictions out again.
    ///
    /// # Errors
    /// Where the consumer's heartbeat does not come.
    pub fn release(&self) -> Result<(), String> {
        self.switch.release(monotonic_ns(), self.parameters.heartbeat_ns())
    }

    /// The consumer is there.
    pub fn heartbeat(&self) {
        self.switch.heartbeat(monotonic_ns());
    }

    /// What may change while the run goes on.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The sources, and what has become of what devices sent.
    pub fn sources(&self) -> Vec<SourceReport> {
        self.views.iter().map(SourceView::report).collect()
    }

    /// The model that predicts.
    pub fn model(&self) -> ModelNote {
        self.models().running.clone()
    }

    /// The model that goes along until it is ready to take that one's place.
    pub fn next_model(&self) -> Option<ModelNote> {
        self.models().next.as_ref().map(|(note, _)| note.clone())
    }

    /// Models that have taken another one's place so far.
    pub fn exchanged(&self) -> u64 {
        self.exchange.counts().1
    }

    /// Puts another model in the place of the one that predicts, between two bins, once it has what it needs for it. `last_bin_ns` is
    /// the width of its last predicted bin.
    ///
    /// # Errors
    /// One sentence where it does not fit this run, or another is on its way.
    pub fn exchange_model(&self, mut predictor: Box<dyn Predictor>, last_bin_ns: i64) -> Result<(), String> {
        let note = ModelNote::of(predictor.as_ref());
        // Before the model is handed over, which would wait for it for ever; where it is not taken, its calibrator ends with it.
        let started = predictor.take_calibrator().map(spawn).transpose();
        let started = started.map_err(|error| error.to_string())?;
        let mut models = self.models();
        let control = started.map(|(thread, control)| {
            models.threads.push(thread);
            control
        });
        // Before the decode thread waits for them.
        self.compute_threads.set_up(&predictor.worker_threads());
        self.exchange.hand_over(predictor, last_bin_ns)?;
        models.next = Some((note, control));
        Ok(())
    }

    /// Has the units' identities computed once more, from their last activity; they are taken in between two bins. False where
    /// this run computes none.
    pub fn recalibrate(&self) -> bool {
        let control = self.calibration();
        control.map(|control| control.recalibrate()).is_some()
    }

    /// What this run's calibrations have come to, and the identities computed last; none where it computes none. It can be
    /// asked after the end too.
    pub fn calibration(&self) -> Option<Arc<CalibrationControl>> {
        self.models().calibration.clone()
    }

    /// The same in figures.
    pub fn calibration_counts(&self) -> Option<CalibrationCounts> {
        self.calibration().map(|control| control.counts())
    }

    /// What the device said when it failed and the CPU took over, once that has happened.
    pub fn device_failure(&self) -> Option<&str> {
        self.live.device_failure.get().map(String::as_str)
    }

    /// Asks the run to end: sources stop, what they delivered is published.
    pub fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    /// Whether it was asked to end.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Relaxed)
    }
}

fn spawn(calibrator: Calibrator) -> std::io::Result<CalibratorThread> {
    let control = calibrator.control();
    let thread = std::thread::Builder::new().name("calibrate".into());
    let thread = thread.spawn(move || calibrator.run())?;
    Ok((thread, control))
}
