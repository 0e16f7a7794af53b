//! Identities computed while a run goes on: the decode thread hands the spikes of every closed bin to a thread of its own
//! kind, which computes the units' identities from the last of them and hands these back between two bins.
//!
//! ```text
//! decode thread   bins' spikes ─ring→  calibrator thread: reference → one forward pass, refined or not
//!                 takes them in ←ring─ identities
//! ```
//! What the decode thread does for it is bounded: it copies spikes into a ring, and once a calibration it writes the units'
//! tables and what follows from them. It waits for nobody (but where sources run as fast as they may: there it waits for the
//! calibrator, so that each run of the same spikes is the same). Where the ring is full, the spikes of that bin are left out of the
//! reference and counted, and the reference begins anew.
//!
//! The reference is always that of the last seconds: units that appear, vanish or drift have their new identities once it
//! reaches back to no time before that. When identities are computed says [`Calibration`], and whoever asks by
//! [`CalibrationControl::recalibrate`]; in a replay, the recording ([`recorded`]).

mod control;
pub(super) mod recorded;

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Producer};

pub use self::control::{Asked, CalibrationControl, CalibrationCounters, CalibrationCounts};
use super::sharing::{ring, Number, Real, Receiver, Sender, Sharing};
use crate::data::Interval;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::IdentityConfig;
use crate::model::identity::{Identities, IdentityComputer, IdentityError, Reference};
use crate::model::window::Spikes;

/// What is wanted of a run's calibration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Seconds of activity that identities are computed from.
    pub reference_s: f64,
    /// Seconds from one calibration to the next; only the first without it.
    pub every_s: Option<f64>,
    /// Whether the decode thread waits for the calibrator at every bin: where no time passes but that of the spikes, both have to
    /// go through it together.
    pub in_step: bool,
}

/// Spikes that may wait for the calibrator: those of some seconds at a million a second.
const RING: usize = 1 << 20;
/// How often the calibrator looks; and both, where they go in step.
const LOOK: Duration = Duration::from_millis(20);
const LOOK_IN_STEP: Duration = Duration::from_micros(20);
/// Calibrations that may be on their way.
const ON_THE_WAY: usize = 2;
/// Places for those that come back: every one that lay in the other ring or was in the decode thread's hands when this was emptied
/// last, and the next.
const USED: usize = 2 * ON_THE_WAY;

/// One entry of the ring.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    Spike {
        time_ns: i64,
        unit: u32,
    },
    /// A bin has closed: all of its spikes came before.
    Closed {
        end_ns: i64,
    },
    /// Spikes are missing here.
    Gap,
}

/// Identities on their way.
struct Computed {
    identities: Identities,
    /// Where the reference ended that they were computed from, device ns.
    end_ns: i64,
}

/// The decode thread's end.
pub struct CalibrationPort<S: Sharing = Real> {
    spikes: Sender<S, Entry>,
    identities: Receiver<S, Box<Computed>>,
    used: Sender<S, Box<Computed>>,
    /// A gap that could not even be told of yet.
    gap: bool,
    /// Closed bins told of.
    told: Arc<S::Number>,
    in_step: bool,
    /// Closed bins that the calibrator has dealt with.
    bins: Arc<S::Number>,
    counters: Arc<CalibrationCounters>,
}

impl<S: Sharing> CalibrationPort<S> {
    /// Hands a closed bin's spikes over; allocates nothing, and waits for nobody unless they go in step.
    pub fn bin_closed(&mut self, end_ns: i64, times_ns: &[i64], units: &[u32]) {
        // One place is kept for the mark of a gap.
        let fits = self.spikes.vacant_len() > times_ns.len() + 2;
        if self.gap || !fits {
            self.counters.gaps.fetch_add(u64::from(!fits), Relaxed);
            self.gap = self.spikes.try_push(Entry::Gap).is_err();
            if self.gap || !fits {
                return;
            }
        }
        // Before it is: who asks for identities after this means a later bin.
        let told = self.told.fetch_add(1, Relaxed) + 1;
        let spikes = times_ns.iter().zip(units);
        let spikes = spikes.map(|(&time_ns, &unit)| Entry::Spike { time_ns, unit });
        self.spikes
            .push_iter(spikes.chain(std::iter::once(Entry::Closed { end_ns })));
        if self.in_step {
            while self.bins.load(Acquire) < told && self.spikes.read_is_held() {
                S::pause(LOOK_IN_STEP);
            }
        }
    }

    /// Gives the newest identities to `take`, if there are new ones, and says where their reference ended, device ns.
    pub fn take_new(&mut self, mut take: impl FnMut(&Identities)) -> Option<i64> {
        let mut newest = None;
        while let Some(computed) = self.identities.try_pop() {
            if let Some(older) = newest.replace(computed) {
                self.give_back(older);
            }
        }
        let computed = newest?;
        let begin = Instant::now();
        take(&computed.identities);
        let ns = begin.elapsed().as_nanos() as u64;
        self.counters.longest_take_ns.fetch_max(ns, Relaxed);
        self.counters.taken_in.fetch_add(1, Relaxed);
        let end_ns = computed.end_ns;
        self.give_back(computed);
        Some(end_ns)
    }

    /// Lets the calibrator free them.
    fn give_back(&mut self, computed: Box<Computed>) {
        // There is a place: the calibrator empties it before it computes further ones.
        let given = self.used.try_push(computed);
        debug_assert!(given.is_ok());
    }
}

/// Who computes identities; the network's encoder, or what stands for it in a model of the threads.
pub trait Compute {
    /// The identities of the reference's units.
    ///
    /// # Errors
    /// A device that failed.
    fn compute(&mut self, reference: &Reference) -> Result<Identities, IdentityError>;
}

impl Compute for IdentityComputer {
    fn compute(&mut self, reference: &Reference) -> Result<Identities, IdentityError> {
        IdentityComputer::compute(self, reference)
    }
}

/// The calibrator: spikes in, identities out.
pub struct Calibrator<S: Sharing = Real, C = IdentityComputer> {
    spikes: Receiver<S, Entry>,
    identities: Sender<S, Box<Computed>>,
    used: Receiver<S, Box<Computed>>,
    computer: C,
    config: IdentityConfig,
    wanted: Calibration,
    bin_ns: i64,
    units: usize,
    bins: Arc<S::Number>,
    counters: Arc<CalibrationCounters>,
    control: Arc<CalibrationControl<S>>,
    times_ns: VecDeque<i64>,
    unit_numbers: VecDeque<u32>,
    /// Everything from here to the last closed bin is known.
    whole_from_ns: Option<i64>,
    last_ns: Option<i64>,
}

/// Both ends for a network of `units` units.
///
/// # Errors
/// A checkpoint without an encoder of identities; a reference shorter than one of its windows.
pub fn calibration(
    checkpoint: &Checkpoint,
    units: usize,
    wanted: Calibration,
) -> Result<(CalibrationPort, Calibrator), IdentityError> {
    let config = checkpoint.config.identity.ok_or(IdentityError::NoEncoder)?;
    let window_s = config.window_ns() as f64 * 1e-9;
    if wanted.reference_s < window_s {
        let reference_s = wanted.reference_s;
        return Err(IdentityError::Short { reference_s, window_s });
    }
    let computer = IdentityComputer::new(checkpoint)?;
    let bin_ns = (checkpoint.config.bin_size * 1e9).round() as i64;
    Ok(calibration_of(computer, config, (bin_ns, units), wanted, RING))
}

/// The same with any rings, of which that for spikes has so many places, and whoever computes.
pub(crate) fn calibration_of<S: Sharing, C: Compute>(
    computer: C,
    config: IdentityConfig,
    (bin_ns, units): (i64, usize),
    wanted: Calibration,
    places: usize,
) -> (CalibrationPort<S>, Calibrator<S, C>) {
    let (spikes_in, spikes_out) = ring::<S, _>(places);
    let (identities_in, identities_out) = ring::<S, _>(ON_THE_WAY);
    let (used_in, used_out) = ring::<S, _>(USED);
    let (told, bins) = (Arc::<S::Number>::default(), Arc::<S::Number>::default());
    let counters = Arc::<CalibrationCounters>::default();
    let port = CalibrationPort {
        spikes: spikes_in,
        identities: identities_out,
        used: used_in,
        gap: false,
        told: told.clone(),
        in_step: wanted.in_step,
        bins: bins.clone(),
        counters: counters.clone(),
    };
    let calibrator = Calibrator {
        spikes: spikes_out,
        identities: identities_in,
        used: used_out,
        computer,
        config,
        wanted,
        bin_ns,
        units,
        bins,
        control: Arc::new(CalibrationControl::new(told, counters.clone())),
        counters,
        times_ns: VecDeque::new(),
        unit_numbers: VecDeque::new(),
        whole_from_ns: None,
        last_ns: None,
    };
    (port, calibrator)
}

impl<S: Sharing, C: Compute> Calibrator<S, C> {
    /// What calibrations came to.
    pub fn counters(&self) -> Arc<CalibrationCounters> {
        self.counters.clone()
    }

    /// What the rest of the program asks of it, and has of it.
    pub fn control(&self) -> Arc<CalibrationControl<S>> {
        self.control.clone()
    }

    /// Runs until the decode thread is gone.
    ///
    /// # Errors
    /// A device that failed.
    pub fn run(mut self) -> Result<(), IdentityError> {
        let every = if self.wanted.in_step { LOOK_IN_STEP } else { LOOK };
        while self.spikes.write_is_held() {
            self.look()?;
            S::pause(every);
        }
        // What came last is not predicted with any more, but may be saved.
        self.look()
    }

    /// Takes in what there is, and computes identities where it is time to.
    ///
    /// # Errors
    /// A device that failed.
    pub fn look(&mut self) -> Result<(), IdentityError> {
        self.free_used();
        while let Some(entry) = self.spikes.try_pop() {
            self.take(entry)?;
        }
        Ok(())
    }

    fn free_used(&mut self) {
        while self.used.try_pop().is_some() {}
    }

    fn take(&mut self, entry: Entry) -> Result<(), IdentityError> {
        let Some(end_ns) = self.collect(entry) else {
            return Ok(());
        };
        let asked = self.control.asked.load(Relaxed);
        let due = match (self.last_ns, self.wanted.every_s) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(last_ns), Some(every_s)) => (end_ns - last_ns) as f64 * 1e-9 >= every_s,
        };
        let is_asked = asked > 0 && self.number() >= asked;
        if (due || is_asked) && self.is_whole(end_ns) && self.identities.vacant_len() > 0 {
            // In this order: less is on its way, then, than `USED` has places for.
            self.free_used();
            self.last_ns = Some(end_ns);
            if is_asked {
                // Who has asked meanwhile, and means a later bin, goes on asking.
                let _ = self.control.asked.compare_exchange(asked, 0, Relaxed, Relaxed);
            }
            if let Some(computed) = self.compute(end_ns)? {
                drop(self.identities.try_push(computed));
            }
        }
        self.dealt_with();
        Ok(())
    }

    /// Takes an entry in; says where a bin ended, if one did.
    fn collect(&mut self, entry: Entry) -> Option<i64> {
        match entry {
            Entry::Gap => {
                self.times_ns.clear();
                self.unit_numbers.clear();
                self.whole_from_ns = None;
                None
            }
            Entry::Spike { time_ns, unit } => {
                self.times_ns.push_back(time_ns);
                self.unit_numbers.push_back(unit);
                None
            }
            Entry::Closed { end_ns } => {
                let from_ns = *self.whole_from_ns.get_or_insert(end_ns - self.bin_ns);
                let from_ns = from_ns.max(end_ns - self.reference_ns());
                self.whole_from_ns = Some(from_ns);
                let old = self.times_ns.partition_point(|&time| time < from_ns);
                self.times_ns.drain(..old);
                self.unit_numbers.drain(..old);
                Some(end_ns)
            }
        }
    }

    /// The number of the bin that was collected last, from 1.
    fn number(&self) -> u64 {
        self.bins.load(Relaxed) + 1
    }

    /// What there was to do with that bin is done. After its identities: whoever knows of the bin finds them.
    fn dealt_with(&self) {
        self.bins.fetch_add(1, Release);
    }

    fn reference_ns(&self) -> i64 {
        (self.wanted.reference_s * 1e9).round() as i64
    }

    /// Whether there is a whole reference before the end of the bin that was collected last.
    fn is_whole(&self, end_ns: i64) -> bool {
        self.whole_from_ns
            .is_some_and(|from_ns| end_ns - from_ns >= self.reference_ns())
    }

    /// Identities of the reference that ends with the bin that was collected last.
    fn compute(&mut self, end_ns: i64) -> Result<Option<Box<Computed>>, IdentityError> {
        let start_ns = end_ns - self.reference_ns();
        let spikes = Spikes {
            times_ns: self.times_ns.make_contiguous(),
            units: self.unit_numbers.make_contiguous(),
        };
        let whole = [Interval { start_ns, end_ns }];
        let reference = Reference::of_stretches(&self.config, self.bin_ns, self.units, spikes, &whole);
        let Some(reference) = reference else {
            return Ok(None);
        };
        let begin = Instant::now();
        let identities = self.computer.compute(&reference)?;
        let ns = begin.elapsed().as_nanos() as u64;
        let latest = Arc::new(identities.clone());
        *self.control.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(latest);
        self.counters.longest_ns.fetch_max(ns, Relaxed);
        self.counters.made.fetch_add(1, Relaxed);
        // After those: whoever knows of them finds them.
        self.control.computed.store(self.number(), Release);
        Ok(Some(Box::new(Computed { identities, end_ns })))
    }
}
