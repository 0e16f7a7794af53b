//! The calibrator of a replay. A recording says of all identities that a run took in which reference they were computed from; these
//! are computed again from the same spikes, and handed over before the same bin. Nothing here is due by itself, or asked for.

use std::collections::{HashSet, VecDeque};

use ringbuf::traits::{Consumer, Producer};

use super::super::sharing::{Real, Sharing};
use super::{Calibrator, Compute, Computed, IdentityComputer};
use crate::model::identity::IdentityError;

/// A calibrator that goes by a recording, on the thread that decodes it.
pub(crate) struct RecordedCalibrator<S: Sharing = Real, C = IdentityComputer> {
    calibrator: Calibrator<S, C>,
    /// Where the references end that are to be computed, device ns.
    ends_ns: HashSet<i64>,
    /// Those that have been, until they are handed over.
    computed: VecDeque<Box<Computed>>,
    /// Of how many references identities were handed over.
    handed_over: u64,
}

impl<S: Sharing, C: Compute> RecordedCalibrator<S, C> {
    /// One that computes identities from references that end at these device times, ns.
    pub fn new(calibrator: Calibrator<S, C>, ends_ns: impl IntoIterator<Item = i64>) -> Self {
        Self {
            calibrator,
            ends_ns: ends_ns.into_iter().collect(),
            computed: VecDeque::new(),
            handed_over: 0,
        }
    }

    /// Takes in the spikes of bins that have closed, and computes identities where a reference ends that was recorded.
    ///
    /// # Errors
    /// A device that failed.
    pub fn look(&mut self) -> Result<(), IdentityError> {
        let calibrator = &mut self.calibrator;
        calibrator.free_used();
        while let Some(entry) = calibrator.spikes.try_pop() {
            let Some(end_ns) = calibrator.collect(entry) else {
                continue;
            };
            if self.ends_ns.remove(&end_ns) && calibrator.is_whole(end_ns) {
                self.computed.extend(calibrator.compute(end_ns)?);
            }
            calibrator.dealt_with();
        }
        Ok(())
    }

    /// Hands over those whose reference ended there: they are taken in with the next look at them. Older ones are not taken in any
    /// more. False where there are none of that reference.
    pub fn hand_over(&mut self, end_ns: i64) -> bool {
        let place = self.computed.iter().position(|computed| computed.end_ns == end_ns);
        let Some(computed) = place.and_then(|place| self.computed.drain(..=place).next_back()) else {
            return false;
        };
        self.handed_over += 1;
        self.calibrator.identities.try_push(computed).is_ok()
    }

    /// Of how many references identities were handed over.
    pub fn handed_over(&self) -> u64 {
        self.handed_over
    }

    /// Length of a reference, s.
    pub fn reference_s(&self) -> f64 {
        self.calibrator.wanted.reference_s
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{calibration_of, Calibration, CalibrationPort};
    use super::*;
    use crate::model::config::{IdentityConfig, IdentityScheme};
    use crate::model::identity::{Identities, Reference};

    const BIN_NS: i64 = 20_000_000;
    const UNITS: usize = 3;
    const BINS: usize = 60;
    const ENCODER: IdentityConfig = IdentityConfig {
        scheme: IdentityScheme::Binned,
        window_bins: 2,
        bin_s: 0.02,
        hidden: 1,
        population: false,
        components: 0,
        refine: false,
    };
    const PLACES: usize = 1 << 12;

    /// The counts of the reference themselves, in place of a network.
    struct Counts;

    impl Compute for Counts {
        fn compute(&mut self, reference: &Reference) -> Result<Identities, IdentityError> {
            Ok(Identities::made_up(
                reference.counts().to_vec(),
                reference.log_rates().to_vec(),
            ))
        }
    }

    type Ends = (CalibrationPort<Real>, Calibrator<Real, Counts>);

    fn ends(every_s: Option<f64>, places: usize) -> Ends {
        let wanted = Calibration {
            reference_s: 0.2,
            every_s,
            in_step: false,
        };
        calibration_of(Counts, ENCODER, (BIN_NS, UNITS), wanted, places)
    }

    /// Spikes of a bin.
    type Spikes = Vec<(i64, u32)>;

    fn close(port: &mut CalibrationPort<Real>, bin: usize, spikes: &Spikes) {
        let start_ns = bin as i64 * BIN_NS;
        let times_ns: Vec<i64> = spikes.iter().map(|(within, _)| start_ns + within).collect();
        let units: Vec<u32> = spikes.iter().map(|(_, unit)| *unit).collect();
        port.bin_closed(start_ns + BIN_NS, &times_ns, &units);
    }

    /// What was taken in with a bin: where the reference ended, and the identities.
    fn taken(port: &mut CalibrationPort<Real>) -> Option<(i64, Identities)> {
        let mut identities = None;
        let end_ns = port.take_new(|new| identities = Some(new.clone()))?;
        Some((end_ns, identities?))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Whenever the calibrator came to look, whoever asked, and whatever it could not be told of.
        #[test]
        fn what_was_taken_in_is_taken_in_again_with_the_same_bin(
            spikes in prop::collection::vec(prop::collection::vec((0..BIN_NS, 0..UNITS as u32), 0..6), BINS),
            looks in prop::collection::vec(prop::bool::weighted(0.4), BINS),
            asks in prop::collection::vec(prop::bool::weighted(0.1), BINS),
            every_s in prop::option::of(0.02f64..0.4),
            places in prop_oneof![20usize..60, Just(PLACES)],
        ) {
            let spikes: Vec<Spikes> = spikes
                .into_iter()
                .map(|mut spikes| {
                    spikes.sort_unstable();
                    spikes
                })
                .collect();
            let (mut port, mut calibrator) = ends(every_s, places);
            let control = calibrator.control();
            let mut live = Vec::new();
            for bin in 0..BINS {
                close(&mut port, bin, &spikes[bin]);
                if asks[bin] {
                    control.recalibrate();
                }
                if looks[bin] {
                    calibrator.look().unwrap();
                }
                live.push(taken(&mut port));
            }
            let (mut port, calibrator) = ends(every_s, PLACES);
            let ends_ns = live.iter().flatten().map(|(end_ns, _)| *end_ns);
            let mut recorded = RecordedCalibrator::new(calibrator, ends_ns);
            for bin in 0..BINS {
                close(&mut port, bin, &spikes[bin]);
                recorded.look().unwrap();
                if let Some((end_ns, _)) = &live[bin] {
                    prop_assert!(recorded.hand_over(*end_ns));
                }
                prop_assert_eq!(&taken(&mut port), &live[bin]);
            }
        }
    }

    #[test]
    fn a_reference_that_is_not_whole_or_never_ended_has_no_identities() {
        let (mut port, calibrator) = ends(None, PLACES);
        let (short, whole, odd) = (9 * BIN_NS, 10 * BIN_NS, 10 * BIN_NS + 1);
        let mut recorded = RecordedCalibrator::new(calibrator, [short, whole, odd]);
        for bin in 0..12 {
            close(&mut port, bin, &vec![(0, 0)]);
            recorded.look().unwrap();
            assert_eq!(taken(&mut port), None);
        }
        assert!(!recorded.hand_over(short) && !recorded.hand_over(odd));
        assert!(recorded.hand_over(whole) && !recorded.hand_over(whole));
        assert_eq!(taken(&mut port).map(|(end_ns, _)| end_ns), Some(whole));
        assert_eq!(recorded.handed_over(), 1);
    }
}
