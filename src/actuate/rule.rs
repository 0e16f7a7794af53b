//! When a line is raised and lowered: a state machine without sockets or clocks.
//!
//! The line is raised only by a prediction that was made for its bin, is fresh, and crosses the threshold. It is lowered by a
//! prediction that crosses back, at the end of a pulse, and whenever nothing usable has come for a while. Whatever is doubtful
//! neither raises the line nor keeps it up.

use std::collections::VecDeque;

use serde::Serialize;

use crate::pipeline::message::flags;

/// Flags with which a prediction never raises the line: it was late, is not of its bin, comes from no network, or from a window
/// that lacks what was measured.
pub const REFUSED_FLAGS: u32 = flags::MISSED_DEADLINE
    | flags::SPIKES_REFUSED
    | flags::HELD
    | flags::NEUTRAL
    | flags::SKIPPED
    | flags::MODEL_FAILED
    | flags::CALIBRATING
    | flags::SAMPLES_LOST
    | flags::SOURCE_AWAY
    | flags::SPIKES_LOST
    | flags::CLOCK_RESET
    | flags::STUCK
    | flags::LIMITED
    | flags::STOPPED;
/// Two reads of one clock on two cores may differ by so much, ns; a publication further ahead is by another clock.
const CLOCK_SLACK_NS: i64 = 1_000_000;
/// The window of the rate limit, ns.
const SECOND_NS: i64 = 1_000_000_000;

/// Every flag that this version knows.
pub fn known_flags() -> u32 {
    flags::NAMES.iter().fold(0, |all, (_, bit)| all | bit)
}

/// On which side of its level a number raises the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Greater than the level.
    Above,
    /// Less than the level.
    Below,
}

/// A level with hysteresis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Which side raises.
    pub side: Side,
    /// Beyond this the line is raised.
    pub level: f64,
    /// At this or further back it is lowered.
    pub release: f64,
}

impl Threshold {
    /// Whether the number asks for the line to be raised.
    pub fn is_crossed(&self, value: f64) -> bool {
        match self.side {
            Side::Above => value > self.level,
            Side::Below => value < self.level,
        }
    }

    /// Whether the number asks for the line to be lowered.
    pub fn is_released(&self, value: f64) -> bool {
        match self.side {
            Side::Above => value <= self.release,
            Side::Below => value >= self.release,
        }
    }
}

/// How long the line stays up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Until the number is released, and at least so many ns.
    AtLeast(i64),
    /// A pulse of so many ns whatever is predicted meanwhile; the next one only once the number has been released in between.
    Exactly(i64),
}

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RuleConfig {
    /// What raises and what lowers.
    pub threshold: Threshold,
    /// How long the line stays up.
    pub length: Length,
    /// Between a fall of the line and the next rise, ns.
    pub refractory_ns: i64,
    /// Most rises within any second.
    pub max_per_second: u32,
    /// A prediction whose publication is longer ago than this, ns, counts for nothing.
    pub max_age_ns: i64,
    /// The line falls when no usable prediction has come for this long, ns.
    pub silence_ns: i64,
    /// A prediction counts for nothing when no spike was binned for this long, ns: a device that is away looks like a silent brain.
    /// `None`: silence is believed.
    pub no_spikes_ns: Option<i64>,
    /// Flags with which a prediction counts for nothing, [`REFUSED_FLAGS`] among them.
    pub refused_flags: u32,
}

/// What a prediction says to the rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The number that is compared with the threshold.
    pub value: f64,
    /// The message's flags.
    pub flags: u32,
    /// When it was published, monotonic ns.
    pub publish_ns: i64,
    /// Spikes binned since the prediction before.
    pub spikes_in: u32,
}

/// Why the line fell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fall {
    /// The number was released.
    Released,
    /// The pulse was over.
    PulseEnd,
    /// No usable prediction came.
    Silence,
    /// The runtime was started anew.
    Restart,
    /// The GUI does not answer, or is not there.
    GuiLost,
    /// The trigger ends.
    End,
}

/// A change of the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Up.
    Raised,
    /// Down.
    Lowered(Fall),
}

/// Predictions that asked for a rise and were refused, by the first reason that applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// A flag says that it is not to be trusted.
    pub flagged: u64,
    /// It is no number.
    pub not_finite: u64,
    /// It is too old, or by another clock.
    pub stale: u64,
    /// No spike was binned for too long.
    pub no_spikes: u64,
    /// Too soon after the last fall.
    pub refractory: u64,
    /// Too many rises in the last second.
    pub rate_limit: u64,
    /// The GUI is away, or has not answered the last request.
    pub gui_not_ready: u64,
}

/// Falls of the line by their reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Falls {
    /// See [`Fall::Released`].
    pub released: u64,
    /// See [`Fall::PulseEnd`].
    pub pulse_end: u64,
    /// See [`Fall::Silence`].
    pub silence: u64,
    /// See [`Fall::Restart`].
    pub restart: u64,
    /// See [`Fall::GuiLost`].
    pub gui_lost: u64,
    /// See [`Fall::End`].
    pub end: u64,
}

/// What the rule did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleCounts {
    /// Rises.
    pub raised: u64,
    /// Rises that were refused.
    pub refused: Refused,
    /// Falls.
    pub lowered: Falls,
    /// Predictions that counted for nothing, whether or not they asked for a rise.
    pub unusable: u64,
}

/// A rule and the state of its line.
#[derive(Clone, Debug)]
pub struct Rule {
    config: RuleConfig,
    high_since_ns: Option<i64>,
    /// The last usable number asks for the line to be low.
    released: bool,
    /// A crossing raises the line: always, but for pulses only after a release.
    armed: bool,
    last_usable_ns: i64,
    last_spikes_ns: Option<i64>,
    lowered_ns: Option<i64>,
    /// Rises within the last second.
    rises: VecDeque<i64>,
    counts: RuleCounts,
}

impl Rule {
    /// A line that is low.
    pub fn new(config: RuleConfig) -> Self {
        Self {
            high_since_ns: None,
            released: false,
            armed: !config.is_pulse(),
            last_usable_ns: 0,
            last_spikes_ns: None,
            lowered_ns: None,
            rises: VecDeque::new(),
            counts: RuleCounts::default(),
            config,
        }
    }

    /// Whether the line is up.
    pub fn is_high(&self) -> bool {
        self.high_since_ns.is_some()
    }

    /// What was done so far.
    pub fn counts(&self) -> RuleCounts {
        self.counts
    }

    /// Judges a prediction that is seen at `now_ns`; `ready` says whether the line could be raised right now. What was due before
    /// `now_ns` must have been done ([`Rule::tick`]).
    pub fn take(&mut self, reading: &Reading, now_ns: i64, ready: bool) -> Option<Change> {
        if reading.spikes_in > 0 || self.last_spikes_ns.is_none() {
            self.last_spikes_ns = Some(now_ns);
        }
        let crossed = self.config.threshold.is_crossed(reading.value);
        let asks = !self.is_high() && self.armed && (crossed || !reading.value.is_finite());
        if let Some(reason) = self.unusable(reading, now_ns) {
            self.counts.unusable += 1;
            if asks {
                *reason(&mut self.counts.refused) += 1;
            }
            return None;
        }
        self.last_usable_ns = now_ns;
        self.released = self.config.threshold.is_released(reading.value);
        self.armed |= self.released;
        if !asks {
            // A release may end the line's time at once.
            return self.tick(now_ns);
        }
        if let Some(reason) = self.not_now(now_ns, ready) {
            *reason(&mut self.counts.refused) += 1;
            return None;
        }
        self.high_since_ns = Some(now_ns);
        self.armed = !self.config.is_pulse();
        self.rises.push_back(now_ns);
        self.counts.raised += 1;
        Some(Change::Raised)
    }

    /// Lowers the line where its time is over.
    pub fn tick(&mut self, now_ns: i64) -> Option<Change> {
        let (due_ns, reason) = self.next_fall()?;
        if now_ns < due_ns {
            return None;
        }
        self.lower(now_ns, reason)
    }

    /// When [`Rule::tick`] has something to do, unless a prediction comes before.
    pub fn due_ns(&self) -> Option<i64> {
        self.next_fall().map(|(due_ns, _)| due_ns)
    }

    /// Lowers the line whatever is predicted.
    pub fn lower(&mut self, now_ns: i64, reason: Fall) -> Option<Change> {
        self.high_since_ns.take()?;
        self.lowered_ns = Some(now_ns);
        *reason.counter(&mut self.counts.lowered) += 1;
        Some(Change::Lowered(reason))
    }

    /// The runtime was started anew: nothing that was seen before counts. Refractory time and rate limit go on.
    pub fn restart(&mut self, now_ns: i64) -> Option<Change> {
        self.armed = !self.config.is_pulse();
        self.released = false;
        self.last_spikes_ns = None;
        self.lower(now_ns, Fall::Restart)
    }

    fn next_fall(&self) -> Option<(i64, Fall)> {
        let since_ns = self.high_since_ns?;
        let silence = (
            self.last_usable_ns.saturating_add(self.config.silence_ns),
            Fall::Silence,
        );
        let end = match self.config.length {
            Length::Exactly(length_ns) => (since_ns.saturating_add(length_ns), Fall::PulseEnd),
            Length::AtLeast(hold_ns) if self.released => (since_ns.saturating_add(hold_ns), Fall::Released),
            Length::AtLeast(_) => return Some(silence),
        };
        Some(if end.0 <= silence.0 { end } else { silence })
    }

    /// Why a prediction counts for nothing.
    fn unusable(&self, reading: &Reading, now_ns: i64) -> Option<Reason> {
        let age_ns = now_ns.saturating_sub(reading.publish_ns);
        let quiet_ns = self.last_spikes_ns.map_or(0, |last| now_ns.saturating_sub(last));
        if reading.flags & self.config.refused_flags != 0 {
            Some(|refused| &mut refused.flagged)
        } else if !reading.value.is_finite() {
            Some(|refused| &mut refused.not_finite)
        } else if age_ns > self.config.max_age_ns || age_ns < -CLOCK_SLACK_NS {
            Some(|refused| &mut refused.stale)
        } else if self.config.no_spikes_ns.is_some_and(|longest| quiet_ns > longest) {
            Some(|refused| &mut refused.no_spikes)
        } else {
            None
        }
    }

    /// Why the line is not raised though the prediction is good.
    fn not_now(&mut self, now_ns: i64, ready: bool) -> Option<Reason> {
        while self.rises.front().is_some_and(|rise| now_ns - rise >= SECOND_NS) {
            self.rises.pop_front();
        }
        if self
            .lowered_ns
            .is_some_and(|fall| now_ns - fall < self.config.refractory_ns)
        {
            Some(|refused| &mut refused.refractory)
        } else if self.rises.len() >= self.config.max_per_second as usize {
            Some(|refused| &mut refused.rate_limit)
        } else if !ready {
            Some(|refused| &mut refused.gui_not_ready)
        } else {
            None
        }
    }
}

/// The counter of a reason.
type Reason = fn(&mut Refused) -> &mut u64;

impl RuleConfig {
    fn is_pulse(&self) -> bool {
        matches!(self.length, Length::Exactly(_))
    }
}

impl Fall {
    fn counter(self, falls: &mut Falls) -> &mut u64 {
        match self {
            Fall::Released => &mut falls.released,
            Fall::PulseEnd => &mut falls.pulse_end,
            Fall::Silence => &mut falls.silence,
            Fall::Restart => &mut falls.restart,
            Fall::GuiLost => &mut falls.gui_lost,
            Fall::End => &mut falls.end,
        }
    }
}
