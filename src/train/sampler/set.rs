//! Recordings as a set to train on: sessions, units, parts, mean rates.

use super::SamplerError;
use crate::data::{Interval, Position, Recording};
use crate::evaluate::forward::window_starts;
use crate::model::network::LOG_RATE_LIMIT;
use crate::model::window::{Spikes, WindowShape};

/// A part of a recording.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// Its start, rounded to the recording's grid of bins.
    pub from: Position,
    /// Its end, rounded down to the same grid.
    pub to: Position,
}

/// A recording and what its parts are for. A part that is in none of the lists is not looked at.
#[derive(Debug, Clone)]
pub struct Source {
    /// The session's name. Recordings with the same name are of the same units, by their ids.
    pub session: String,
    /// The recording.
    pub recording: Recording,
    /// What is trained on; may be empty where another recording of the session is trained on.
    pub training: Vec<Span>,
    /// What training is judged by.
    pub validation: Vec<Span>,
    /// Where nothing of the session is trained on: what its units' rates and identities are taken from.
    pub reference: Vec<Span>,
    /// What must not be touched; only checked against the others.
    pub test: Vec<Span>,
}

/// Units that were recorded together.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Its name.
    pub name: String,
    /// Ids of its N units as its recordings have them.
    pub recorded_ids: Vec<String>,
    /// Number of its first unit in [`TrainingSet::unit_ids`], where the others follow.
    pub first_unit: usize,
    /// ln of each unit's mean count a bin over the observed training intervals, clamped to [−10, 10], `[N]`.
    pub null_log_rates: Vec<f64>,
}

/// A recording of a [`TrainingSet`].
#[derive(Debug, Clone)]
pub struct TrainingRecording {
    /// The recording with the session's units only, numbered as in [`Session::recorded_ids`].
    pub recording: Recording,
    /// Number of its session.
    pub session: usize,
    /// Where its grid of bins begins (with the first spike of all units, those left out included).
    pub grid_origin_ns: i64,
    /// The observed stretches of its training intervals, ascending within each interval.
    pub training: Vec<Interval>,
    /// The observed stretches of its validation intervals.
    pub validation: Vec<Interval>,
    /// The observed stretches that its units' rates and identities are taken from: the training intervals, or those of the
    /// reference.
    pub reference: Vec<Interval>,
}

impl TrainingRecording {
    /// Its spikes, units numbered within the session.
    pub fn spikes(&self) -> Spikes<'_> {
        Spikes {
            times_ns: &self.recording.spike_times_ns,
            units: &self.recording.spike_units,
        }
    }

    /// The first bin edge at or after a time.
    pub(in crate::train) fn grid_at_or_after(&self, t_ns: i64, bin_ns: i64) -> i64 {
        t_ns + (self.grid_origin_ns - t_ns).rem_euclid(bin_ns)
    }
}

/// A window of history with the counts that followed it.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Number of its recording in [`TrainingSet::recordings`].
    pub recording: usize,
    /// Start of the history on the recording's clock.
    pub start_ns: i64,
    /// The units that were kept, numbers within the session, ascending.
    pub units: Vec<u32>,
    /// Spikes of the kept units in the history: seconds from its start, ascending.
    pub times_s: Vec<f64>,
    /// Their units, numbers within the session.
    pub unit: Vec<u32>,
    /// Counts of the horizon `[T, N]`; N is all units of the session, also those not kept.
    pub counts: Vec<f32>,
}

/// Recordings to train on.
#[derive(Debug, Clone)]
pub struct TrainingSet {
    shape: WindowShape,
    sessions: Vec<Session>,
    recordings: Vec<TrainingRecording>,
    unit_ids: Vec<String>,
}

impl TrainingSet {
    /// Takes the units that fire at `min_rate_hz` or more in the observed training intervals of their session; 0 takes all.
    ///
    /// # Errors
    /// [`SamplerError`].
    pub fn new(sources: Vec<Source>, shape: WindowShape, min_rate_hz: f64) -> Result<Self, SamplerError> {
        if sources.is_empty() {
            return Err(SamplerError::NoRecordings);
        }
        if !(min_rate_hz.is_finite() && min_rate_hz >= 0.0) {
            let what = format!("`min_rate_hz` is {min_rate_hz}, expected a rate from 0");
            return Err(SamplerError::Option(what));
        }
        let mut names: Vec<String> = Vec::new();
        let mut recordings = Vec::with_capacity(sources.len());
        for source in sources {
            let session = names.iter().position(|name| *name == source.session);
            let session = session.unwrap_or_else(|| {
                names.push(source.session.clone());
                names.len() - 1
            });
            recordings.push(placed(source, session, shape)?);
        }
        let mut set = TrainingSet {
            shape,
            sessions: Vec::with_capacity(names.len()),
            recordings,
            unit_ids: Vec::new(),
        };
        let several = names.len() > 1;
        for (index, name) in names.into_iter().enumerate() {
            let session = set.take_units(index, name, min_rate_hz)?;
            let id = |unit: &String| match several {
                true => format!("{}/{unit}", session.name),
                false => unit.clone(),
            };
            set.unit_ids.extend(session.recorded_ids.iter().map(id));
            set.sessions.push(session);
        }
        Ok(set)
    }

    /// Chooses the units of a session and drops the others from its recordings.
    fn take_units(&mut self, index: usize, name: String, min_rate_hz: f64) -> Result<Session, SamplerError> {
        let mut members: Vec<&mut TrainingRecording> =
            self.recordings.iter_mut().filter(|r| r.session == index).collect();
        let ids = members[0].recording.unit_ids.clone();
        for other in &members[1..] {
            if let Some(unit) = lone_unit(&members[0].recording, &other.recording) {
                return Err(SamplerError::DifferentUnits {
                    session: name,
                    first: members[0].recording.name.clone(),
                    second: other.recording.name.clone(),
                    unit,
                });
            }
        }
        let mut counts = vec![0u64; ids.len()];
        let mut observed_ns = 0;
        for member in &mut members {
            member.recording = member.recording.select_units(&ids)?;
            observed_ns += member.reference.iter().map(Interval::duration_ns).sum::<i64>();
            for stretch in &member.reference {
                for &unit in member.spikes().between(stretch.start_ns, stretch.end_ns).units {
                    counts[unit as usize] += 1;
                }
            }
        }
        if observed_ns == 0 {
            return Err(SamplerError::NoTrainingInterval { session: name });
        }
        let rate_hz = |count: u64| count as f64 / (observed_ns as f64 * 1e-9);
        let kept: Vec<usize> = (0..ids.len())
            .filter(|&unit| rate_hz(counts[unit]) >= min_rate_hz)
            .collect();
        if kept.is_empty() {
            return Err(SamplerError::NoUnits {
                session: name,
                min_rate_hz,
                highest_hz: counts.iter().copied().map(rate_hz).fold(0.0, f64::max),
            });
        }
        let recorded_ids: Vec<String> = kept.iter().map(|&unit| ids[unit].clone()).collect();
        for member in members {
            member.recording = member.recording.select_units(&recorded_ids)?;
        }
        let bins = observed_ns as f64 / self.shape.bin_ns as f64;
        let limit = f64::from(LOG_RATE_LIMIT);
        let log_rate = |&unit: &usize| (counts[unit] as f64 / bins).ln().clamp(-limit, limit);
        Ok(Session {
            name,
            null_log_rates: kept.iter().map(log_rate).collect(),
            recorded_ids,
            first_unit: self.unit_ids.len(),
        })
    }

    /// Whether something of every session is trained on.
    ///
    /// # Errors
    /// The first session of which nothing is.
    pub fn all_trained(&self) -> Result<(), SamplerError> {
        let untrained = |&(index, _): &(usize, &Session)| {
            let members = self.recordings.iter().filter(|recording| recording.session == index);
            members.map(|recording| recording.training.len()).sum::<usize>() == 0
        };
        match self.sessions.iter().enumerate().find(untrained) {
            None => Ok(()),
            Some((_, session)) => Err(SamplerError::NoTrainingInterval {
                session: session.name.clone(),
            }),
        }
    }

    /// The geometry of its windows.
    pub fn shape(&self) -> WindowShape {
        self.shape
    }

    /// Its sessions, in the order in which the sources named them first.
    pub fn sessions(&self) -> &[Session] {
        &self.sessions
    }

    /// Its recordings, in the order of the sources.
    pub fn recordings(&self) -> &[TrainingRecording] {
        &self.recordings
    }

    /// Ids of the units of all sessions, session after session: as the recordings have them where there is one session,
    /// `SESSION/unit` where there are several.
    pub fn unit_ids(&self) -> &[String] {
        &self.unit_ids
    }

    /// With other mean rates of a session's units, `[N]`, in place of those of its training parts.
    ///
    /// # Panics
    /// If they are not as many as the units.
    pub fn with_null_log_rates(mut self, session: usize, null_log_rates: Vec<f64>) -> Self {
        let session = &mut self.sessions[session];
        assert_eq!(null_log_rates.len(), session.recorded_ids.len(), "one rate a unit");
        session.null_log_rates = null_log_rates;
        self
    }

    /// The session of a recording.
    pub fn session_of(&self, recording: usize) -> &Session {
        &self.sessions[self.recordings[recording].session]
    }

    /// The window of a recording whose history begins at `start_ns`, with all units.
    pub fn window(&self, recording: usize, start_ns: i64) -> Window {
        let (spikes, shape) = (self.recordings[recording].spikes(), self.shape);
        let units = self.session_of(recording).recorded_ids.len();
        let past = spikes.between(start_ns, start_ns + shape.history_ns);
        let mut counts = vec![0.0; shape.bins * units];
        shape.count(spikes, start_ns + shape.history_ns, units, &mut counts);
        Window {
            recording,
            start_ns,
            units: (0..units as u32).collect(),
            times_s: past.times_ns.iter().map(|&t| (t - start_ns) as f64 * 1e-9).collect(),
            unit: past.units.to_vec(),
            counts,
        }
    }

    /// Recording and start of every window of the validation intervals: one after another, a horizon of whole bins apart,
    /// from the first bin edge of each observed stretch, as [`evaluate`](crate::evaluate::forward) places them.
    pub fn validation_starts(&self) -> Vec<(usize, i64)> {
        let of = |(index, recording): (usize, &TrainingRecording)| -> Vec<(usize, i64)> {
            let starts = recording.validation.iter().flat_map(|stretch| {
                let first_ns = recording.grid_at_or_after(stretch.start_ns, self.shape.bin_ns);
                window_starts(self.shape, first_ns, stretch.end_ns, self.shape.bins)
            });
            starts.map(|start_ns| (index, start_ns)).collect()
        };
        self.recordings.iter().enumerate().flat_map(of).collect()
    }

    /// The windows at [`validation_starts`](Self::validation_starts).
    pub fn validation_windows(&self) -> impl ExactSizeIterator<Item = Window> + '_ {
        let starts = self.validation_starts().into_iter();
        starts.map(|(recording, start_ns)| self.window(recording, start_ns))
    }
}

/// History and the whole bins that the horizon reaches into.
pub(super) fn window_ns(shape: WindowShape) -> i64 {
    shape.history_ns + (shape.horizon_ns as u64).next_multiple_of(shape.bin_ns as u64) as i64
}

/// A unit that one of two recordings has and the other has not.
fn lone_unit(a: &Recording, b: &Recording) -> Option<String> {
    let ids = |recording: &Recording| {
        recording
            .unit_ids
            .iter()
            .cloned()
            .collect::<std::collections::BTreeSet<_>>()
    };
    ids(a).symmetric_difference(&ids(b)).next().cloned()
}

/// Finds the parts of a source on its grid and refuses those that overlap or hold no window.
fn placed(source: Source, session: usize, shape: WindowShape) -> Result<TrainingRecording, SamplerError> {
    let recording = source.recording;
    let grid_origin_ns = recording.grid_origin_ns().unwrap_or(recording.start_ns);
    let mut parts: Vec<(&'static str, Interval)> = Vec::new();
    for (part, spans) in [
        ("training", &source.training),
        ("validation", &source.validation),
        ("reference", &source.reference),
        ("test", &source.test),
    ] {
        for &span in spans {
            parts.push((part, on_grid(&recording, span, grid_origin_ns, shape.bin_ns)?));
        }
    }
    let seconds = |interval: Interval| {
        let s = |ns: i64| (ns - grid_origin_ns) as f64 * 1e-9;
        format!("{:.3} s to {:.3} s", s(interval.start_ns), s(interval.end_ns))
    };
    for (index, &(first, a)) in parts.iter().enumerate() {
        if let Some(&(second, b)) = parts[..index].iter().find(|(_, b)| a.intersection(b).is_some()) {
            return Err(SamplerError::Overlap {
                recording: recording.name,
                first: second,
                first_s: seconds(b),
                second: first,
                second_s: seconds(a),
            });
        }
    }

    let mut placed = TrainingRecording {
        recording,
        session,
        grid_origin_ns,
        training: Vec::new(),
        validation: Vec::new(),
        reference: Vec::new(),
    };
    for (part, interval) in parts {
        let intervals = placed.recording.intervals.iter();
        let stretches: Vec<Interval> = intervals.filter_map(|seen| seen.intersection(&interval)).collect();
        let holds_window = |stretch: &Interval| {
            placed.grid_at_or_after(stretch.start_ns, shape.bin_ns) + window_ns(shape) <= stretch.end_ns
        };
        match part {
            "test" => continue,
            _ if !stretches.iter().any(holds_window) => {
                return Err(SamplerError::ShortInterval {
                    interval_s: seconds(interval),
                    recording: placed.recording.name,
                    part,
                    window_s: window_ns(shape) as f64 * 1e-9,
                })
            }
            "training" => placed.training.extend(stretches),
            "reference" => placed.reference.extend(stretches),
            _ => placed.validation.extend(stretches),
        }
    }
    if placed.reference.is_empty() {
        placed.reference.clone_from(&placed.training);
    } else if !placed.training.is_empty() {
        return Err(SamplerError::Reference {
            recording: placed.recording.name,
        });
    }
    let spikes = |stretch: &Interval| placed.recording.spikes_between(stretch.start_ns, stretch.end_ns).len();
    if !placed.training.is_empty() && placed.training.iter().map(spikes).sum::<usize>() == 0 {
        return Err(SamplerError::NoTrainingSpikes {
            recording: placed.recording.name,
        });
    }
    Ok(placed)
}

/// A span with both ends on the grid. The end is rounded down, so spans that share a position do not overlap.
fn on_grid(recording: &Recording, span: Span, origin_ns: i64, bin_ns: i64) -> Result<Interval, SamplerError> {
    let (start_ns, end_ns) = recording.grid_interval(span.from, span.to, bin_ns)?;
    let end_ns = end_ns - (end_ns - origin_ns).rem_euclid(bin_ns);
    Ok(Interval { start_ns, end_ns })
}
