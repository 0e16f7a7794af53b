//! A simulated population as a source.

use super::pace::{Due, Pacer};
use super::simulate::{Population, BEHAVIOUR_STEP_NS, HAND_SERIES};
use super::{EventSink, Pace, Poll, SampledSeries, Source, SourceError, SpikeEvent};

/// Spikes pushed to the sink at once.
const CHUNK: usize = 512;

/// A model of a population that makes spikes as its time goes on.
pub trait SpikeGenerator: Send {
    /// Ids of the units.
    fn unit_ids(&self) -> Vec<String>;

    /// Goes on to time `until_ns` and gives each spike before it, in order of time, to `emit(time_ns, unit)`.
    fn advance_to(&mut self, until_ns: i64, emit: &mut dyn FnMut(i64, u32));

    /// The source has started: device time `device_ns` is host time `host_ns`.
    fn started(&mut self, _device_ns: i64, _host_ns: i64) {}

    /// Whether it has come to an end of its own, before the source's.
    fn ended(&self) -> bool {
        false
    }

    /// The series that are sampled beside the spikes.
    fn series(&self) -> Vec<SampledSeries> {
        Vec::new()
    }

    /// Gives every sample with `from_ns ≤ time < until_ns` to `emit(series, time_ns, values)`, those of a series in order of
    /// time. Does not allocate.
    fn samples(&self, _from_ns: i64, _until_ns: i64, _emit: &mut dyn FnMut(usize, i64, &[f32])) {}
}

impl SpikeGenerator for Population {
    fn unit_ids(&self) -> Vec<String> {
        Population::unit_ids(self)
    }

    fn advance_to(&mut self, until_ns: i64, emit: &mut dyn FnMut(i64, u32)) {
        Population::advance_to(self, until_ns, &mut |time_ns, unit| emit(time_ns, unit));
    }

    fn series(&self) -> Vec<SampledSeries> {
        let series = |[name, unit]: [&str; 2]| SampledSeries {
            name: name.into(),
            unit: unit.into(),
            channels: 2,
        };
        HAND_SERIES.map(series).into()
    }

    fn samples(&self, from_ns: i64, until_ns: i64, emit: &mut dyn FnMut(usize, i64, &[f32])) {
        let steps = (-(-from_ns).div_euclid(BEHAVIOUR_STEP_NS))..;
        for time_ns in steps
            .map(|step| step * BEHAVIOUR_STEP_NS)
            .take_while(|&time| time < until_ns)
        {
            let hand = self.kinematics(time_ns);
            emit(0, time_ns, &hand.position_m.map(|x| x as f32));
            emit(1, time_ns, &hand.velocity_m_s.map(|x| x as f32));
        }
    }
}

/// A source whose spikes a [`SpikeGenerator`] makes while it runs.
#[derive(Debug)]
pub struct Simulated<G> {
    unit_ids: Vec<String>,
    generator: G,
    pacer: Pacer,
    start_ns: i64,
    end_ns: i64,
    chunk: Vec<SpikeEvent>,
    series: Vec<SampledSeries>,
    /// Samples before this time have been delivered.
    sampled_ns: i64,
}

impl<G: SpikeGenerator> Simulated<G> {
    /// A source over `generator`, which has been advanced to `start_ns`; it runs to `end_ns` in steps of `tick_ns`.
    pub fn new(generator: G, start_ns: i64, end_ns: i64, pace: Pace, tick_ns: i64) -> Self {
        let pacer = Pacer::new(pace, start_ns, tick_ns);
        Self {
            unit_ids: generator.unit_ids(),
            series: generator.series(),
            sampled_ns: start_ns,
            generator,
            pacer,
            start_ns,
            end_ns,
            chunk: Vec::with_capacity(CHUNK),
        }
    }
}

impl<G: SpikeGenerator> Source for Simulated<G> {
    fn name(&self) -> &str {
        "simulated population"
    }

    fn unit_ids(&self) -> &[String] {
        &self.unit_ids
    }

    fn series(&self) -> &[SampledSeries] {
        &self.series
    }

    fn pace(&self) -> Pace {
        self.pacer.pace()
    }

    fn start_ns(&self) -> i64 {
        self.start_ns
    }

    fn end_ns(&self) -> Option<i64> {
        Some(self.end_ns)
    }

    fn start(&mut self, host_ns: i64) {
        self.pacer.start(host_ns);
        self.generator.started(self.start_ns, host_ns);
    }

    fn poll(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Result<Poll, SourceError> {
        let due = match self.pacer.due(now_ns) {
            Due::At(host_ns) => return Ok(Poll::WaitUntil(host_ns)),
            Due::Until(due) => due.min(self.end_ns),
        };
        let chunk = &mut self.chunk;
        chunk.clear();
        self.generator.advance_to(due, &mut |time_ns, unit| {
            if chunk.len() == CHUNK {
                sink.spikes(chunk);
                chunk.clear();
            }
            chunk.push(SpikeEvent::spike(time_ns, unit));
        });
        sink.spikes(chunk);
        let mut deliver = |series: usize, time_ns: i64, values: &[f32]| sink.sample(series, time_ns, values);
        self.generator.samples(self.sampled_ns, due, &mut deliver);
        self.sampled_ns = due;
        sink.clock(due, now_ns);
        Ok(if due >= self.end_ns || self.generator.ended() {
            Poll::Finished
        } else {
            Poll::Again
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::replay::tests::Kept;
    use super::super::simulate::SimulationConfig;
    use super::*;

    /// One spike of unit 0 every 3 ns.
    struct Metronome(Vec<String>, i64);

    impl SpikeGenerator for Metronome {
        fn unit_ids(&self) -> Vec<String> {
            self.0.clone()
        }
        fn advance_to(&mut self, until_ns: i64, emit: &mut dyn FnMut(i64, u32)) {
            while self.1 < until_ns {
                emit(self.1, 0);
                self.1 += 3;
            }
        }
    }

    #[test]
    fn every_spike_of_the_generator_comes_through_once() {
        let mut source = Simulated::new(Metronome(vec!["a".into()], 0), 0, 6_000, Pace::AsFast, 4_000);
        source.start(0);
        let mut kept = Kept::default();
        while source.poll(0, &mut kept).unwrap() != Poll::Finished {}
        assert_eq!(kept.spikes.len(), 2_000);
        assert!(kept
            .spikes
            .windows(2)
            .all(|pair| pair[1].time_ns - pair[0].time_ns == 3));
        assert_eq!(kept.clocks, [4_000, 6_000]);
    }

    #[test]
    fn the_hand_is_sampled_as_in_a_recording() {
        const MS: i64 = 1_000_000;
        let population = Population::new(SimulationConfig::default(), 3).unwrap();
        let recorded = population.clone().record(2_000 * MS);
        let mut source = Simulated::new(population, 0, 2_000 * MS, Pace::AsFast, 7 * MS);
        source.start(0);
        let mut kept = Kept::default();
        while source.poll(0, &mut kept).unwrap() != Poll::Finished {}
        for (number, series) in recorded.behaviour.iter().enumerate() {
            assert_eq!(source.series()[number].name, series.name);
            let samples = kept.samples.iter().filter(|(of, _, _)| *of == number);
            let (times, values): (Vec<i64>, Vec<&[f32]>) =
                samples.map(|(_, time, values)| (*time, &values[..])).unzip();
            assert_eq!(
                (times, values.concat()),
                (series.times_ns.clone(), series.values.clone())
            );
        }
    }
}
