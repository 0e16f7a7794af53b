//! The rule by examples, and against every promise that it makes on random predictions.

use proptest::prelude::*;

use super::rule::*;
use crate::pipeline::message::flags;

const MS: i64 = 1_000_000;

const CONFIG: RuleConfig = RuleConfig {
    threshold: Threshold {
        side: Side::Above,
        level: 1.0,
        release: 0.5,
    },
    length: Length::AtLeast(10 * MS),
    refractory_ns: 0,
    max_per_second: 20,
    max_age_ns: 50 * MS,
    silence_ns: 200 * MS,
    no_spikes_ns: None,
    refused_flags: REFUSED_FLAGS,
};

fn reading(value: f64, publish_ns: i64) -> Reading {
    Reading {
        value,
        flags: 0,
        publish_ns,
        spikes_in: 1,
    }
}

/// Judges a fresh reading at this time, ms.
fn see(rule: &mut Rule, at_ms: i64, value: f64) -> Option<Change> {
    assert_eq!(rule.tick(at_ms * MS), None, "something was due before {at_ms} ms");
    rule.take(&reading(value, at_ms * MS), at_ms * MS, true)
}

const RAISED: Option<Change> = Some(Change::Raised);

fn lowered(reason: Fall) -> Option<Change> {
    Some(Change::Lowered(reason))
}

#[test]
fn the_line_follows_the_number_with_hysteresis_and_a_least_time() {
    let mut rule = Rule::new(CONFIG);
    assert_eq!(see(&mut rule, 0, 1.0), None, "the level itself is not beyond it");
    assert_eq!(see(&mut rule, 20, 1.1), RAISED);
    assert_eq!(see(&mut rule, 40, 0.6), None, "between release and level it stays");
    assert_eq!(see(&mut rule, 60, 0.5), lowered(Fall::Released));
    assert_eq!(see(&mut rule, 80, 0.9), None);
    assert_eq!(see(&mut rule, 100, 2.0), RAISED);
    assert_eq!(see(&mut rule, 104, 0.0), None, "10 ms are not over");
    assert_eq!(rule.due_ns(), Some(110 * MS));
    assert_eq!(see(&mut rule, 105, 2.0), None, "and by then it is wanted again");
    assert_eq!(rule.due_ns(), Some(305 * MS));
    assert_eq!(see(&mut rule, 106, 0.0), None);
    assert_eq!(rule.tick(110 * MS), lowered(Fall::Released));
    assert_eq!((rule.counts().raised, rule.counts().lowered.released), (2, 2));
}

#[test]
fn below_is_the_mirror_image() {
    let threshold = Threshold {
        side: Side::Below,
        level: -1.0,
        release: -0.5,
    };
    let mut rule = Rule::new(RuleConfig { threshold, ..CONFIG });
    assert_eq!(see(&mut rule, 0, -1.0), None);
    assert_eq!(see(&mut rule, 20, -1.1), RAISED);
    assert_eq!(see(&mut rule, 40, -0.6), None);
    assert_eq!(see(&mut rule, 60, -0.5), lowered(Fall::Released));
}

#[test]
fn a_pulse_marks_a_crossing_and_waits_for_the_release() {
    let length = Length::Exactly(30 * MS);
    let mut rule = Rule::new(RuleConfig { length, ..CONFIG });
    assert_eq!(see(&mut rule, 0, 2.0), None, "nobody saw it cross");
    assert_eq!(see(&mut rule, 20, 0.0), None);
    assert_eq!(see(&mut rule, 40, 2.0), RAISED);
    assert_eq!(see(&mut rule, 60, 2.0), None);
    assert_eq!(rule.tick(70 * MS), lowered(Fall::PulseEnd));
    assert_eq!(see(&mut rule, 80, 2.0), None, "it has not been back");
    assert_eq!(see(&mut rule, 100, 0.5), None);
    assert_eq!(see(&mut rule, 120, 2.0), RAISED);
    assert_eq!(rule.counts().refused, Refused::default());
}

#[test]
fn nothing_doubtful_raises_the_line_or_keeps_it_up() {
    let mut rule = Rule::new(CONFIG);
    let mut doubtful: Vec<Reading> = flags::NAMES
        .iter()
        .map(|(_, bit)| Reading {
            flags: *bit,
            ..reading(2.0, 0)
        })
        .filter(|reading| reading.flags & REFUSED_FLAGS != 0)
        .collect();
    assert_eq!(doubtful.len(), 14);
    doubtful.extend([
        reading(f64::NAN, 0),
        reading(f64::INFINITY, 0),
        reading(2.0, -51 * MS),
        reading(2.0, 2 * MS),
    ]);
    for reading in &doubtful {
        assert_eq!(rule.take(reading, 0, true), None, "{reading:?}");
    }
    let refused = rule.counts().refused;
    assert_eq!((refused.flagged, refused.not_finite, refused.stale), (14, 2, 2));
    assert_eq!(see(&mut rule, 0, 2.0), RAISED);
    for at_ms in (20..200).step_by(20) {
        let held = Reading {
            flags: flags::HELD,
            ..reading(2.0, at_ms * MS)
        };
        assert_eq!(rule.tick(at_ms * MS), None);
        assert_eq!(rule.take(&held, at_ms * MS, true), None);
    }
    assert_eq!(rule.tick(200 * MS - 1), None);
    assert_eq!(rule.tick(200 * MS), lowered(Fall::Silence));
    assert_eq!(rule.counts().unusable, 18 + 9);
}

#[test]
fn a_population_that_is_silent_for_long_is_no_answer() {
    let no_spikes_ns = Some(100 * MS);
    let mut rule = Rule::new(RuleConfig { no_spikes_ns, ..CONFIG });
    let silent = |at_ms: i64| Reading {
        spikes_in: 0,
        ..reading(2.0, at_ms * MS)
    };
    let mut at = |at_ms: i64, reading: Reading| rule.take(&reading, at_ms * MS, true);
    assert_eq!(at(0, reading(0.0, 0)), None);
    assert_eq!(at(101, silent(101)), None);
    assert_eq!(at(120, reading(2.0, 120 * MS)), RAISED, "a spike");
    assert_eq!(rule.counts().refused.no_spikes, 1);
}

#[test]
fn refractory_time_rate_and_the_gui_are_respected() {
    let mut rule = Rule::new(RuleConfig {
        refractory_ns: 50 * MS,
        max_per_second: 2,
        ..CONFIG
    });
    assert_eq!(see(&mut rule, 0, 2.0), RAISED);
    assert_eq!(see(&mut rule, 20, 0.0), lowered(Fall::Released));
    assert_eq!(see(&mut rule, 60, 2.0), None);
    assert_eq!(see(&mut rule, 70, 2.0), RAISED);
    assert_eq!(see(&mut rule, 90, 0.0), lowered(Fall::Released));
    assert_eq!(see(&mut rule, 999, 2.0), None);
    assert_eq!(rule.take(&reading(2.0, 1_000 * MS), 1_000 * MS, false), None);
    assert_eq!(see(&mut rule, 1_020, 2.0), RAISED);
    assert_eq!(rule.lower(1_021 * MS, Fall::GuiLost), lowered(Fall::GuiLost));
    assert_eq!(rule.lower(1_021 * MS, Fall::End), None, "it is low");
    let refused = rule.counts().refused;
    assert_eq!(
        (refused.refractory, refused.rate_limit, refused.gui_not_ready),
        (1, 1, 1)
    );
}

#[test]
fn a_restart_lowers_the_line_and_forgets_what_was_seen() {
    let length = Length::Exactly(300 * MS);
    let mut rule = Rule::new(RuleConfig { length, ..CONFIG });
    see(&mut rule, 0, 0.0);
    assert_eq!(see(&mut rule, 20, 2.0), RAISED);
    see(&mut rule, 40, 0.0);
    assert_eq!(rule.restart(50 * MS), lowered(Fall::Restart));
    assert_eq!(see(&mut rule, 60, 2.0), None, "the release was another runtime's");
}

/// A prediction after a while.
#[derive(Clone, Debug)]
struct Event {
    after_ms: i64,
    age_ms: i64,
    value: f64,
    flags: u32,
    spikes_in: u32,
    ready: bool,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let value = prop_oneof![8 => -2.0..2.0, 1 => Just(f64::NAN)];
    let flag = prop_oneof![
        8 => Just(0),
        2 => Just(flags::STANDBY | flags::SPIKES_UNKNOWN),
        1 => Just(flags::HELD),
        1 => Just(flags::MISSED_DEADLINE),
    ];
    let age_ms = prop_oneof![8 => 0..20_i64, 1 => 20..100_i64, 1 => -20..-1_i64];
    let event = (1..120_i64, age_ms, value, flag, 0..2_u32, prop::bool::weighted(0.9));
    let event = event.prop_map(|(after_ms, age_ms, value, flags, spikes_in, ready)| Event {
        after_ms,
        age_ms,
        value,
        flags,
        spikes_in,
        ready,
    });
    prop::collection::vec(event, 1..200)
}

fn configs() -> impl Strategy<Value = RuleConfig> {
    let length = prop_oneof![
        (0..80_i64).prop_map(|ms| Length::AtLeast(ms * MS)),
        (1..300_i64).prop_map(|ms| Length::Exactly(ms * MS)),
    ];
    let times = (0..100_i64, 1..8_u32, 20..60_i64, 50..300_i64, 50..400_i64);
    (any::<bool>(), 0.0..1.0, length, times).prop_map(|(above, gap, length, times)| {
        let (refractory, max_per_second, max_age, silence, no_spikes) = times;
        let side = if above { Side::Above } else { Side::Below };
        let release = if above { 0.5 - gap } else { 0.5 + gap };
        RuleConfig {
            threshold: Threshold {
                side,
                level: 0.5,
                release,
            },
            length,
            refractory_ns: refractory * MS,
            max_per_second,
            max_age_ns: max_age * MS,
            silence_ns: silence * MS,
            no_spikes_ns: Some(no_spikes * MS),
            refused_flags: REFUSED_FLAGS,
        }
    })
}

/// The promises, kept from the changes alone.
struct Witness {
    config: RuleConfig,
    high_since_ns: Option<i64>,
    rises_ns: Vec<i64>,
    last_fall_ns: i64,
    last_usable: Option<(i64, f64)>,
    last_spike_ns: Option<i64>,
    released_since_rise: bool,
}

impl Witness {
    fn is_usable(&self, event: &Event, now_ns: i64) -> bool {
        event.flags & (flags::HELD | flags::MISSED_DEADLINE) == 0
            && event.value.is_finite()
            && (-1..=self.config.max_age_ns / MS).contains(&event.age_ms)
            && now_ns - self.last_spike_ns.unwrap_or(now_ns) <= self.config.no_spikes_ns.unwrap()
    }

    fn must_rise(&self, event: &Event, now_ns: i64) -> bool {
        let above = self.config.threshold.side == Side::Above;
        let beyond = if above { event.value > 0.5 } else { event.value < 0.5 };
        let pulse = matches!(self.config.length, Length::Exactly(_));
        let recent = self.rises_ns.iter().filter(|rise| now_ns - **rise < 1_000 * MS).count();
        self.high_since_ns.is_none()
            && beyond
            && event.ready
            && self.is_usable(event, now_ns)
            && now_ns - self.last_fall_ns >= self.config.refractory_ns
            && recent < self.config.max_per_second as usize
            && (!pulse || self.released_since_rise)
    }

    fn usable_seen(&mut self, event: &Event, now_ns: i64) {
        let release = self.config.threshold.release;
        let above = self.config.threshold.side == Side::Above;
        self.released_since_rise |= if above {
            event.value <= release
        } else {
            event.value >= release
        };
        self.last_usable = Some((now_ns, event.value));
    }

    fn fell(&mut self, reason: Fall, now_ns: i64) -> Result<(), TestCaseError> {
        let since_ns = self.high_since_ns.take();
        prop_assert!(since_ns.is_some(), "a line that is low fell");
        let (up_ns, (usable_ns, value)) = (now_ns - since_ns.unwrap(), self.last_usable.unwrap());
        match (reason, self.config.length) {
            (Fall::Released, Length::AtLeast(hold)) => {
                prop_assert!(up_ns >= hold && self.config.threshold.is_released(value));
            }
            (Fall::PulseEnd, Length::Exactly(length)) => prop_assert_eq!(up_ns, length),
            (Fall::Silence, _) => prop_assert_eq!(now_ns - usable_ns, self.config.silence_ns),
            other => prop_assert!(false, "{:?}", other),
        }
        self.last_fall_ns = now_ns;
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_promise_holds_on_random_predictions(config in configs(), events in events()) {
        let mut rule = Rule::new(config);
        let mut witness = Witness {
            config, high_since_ns: None, rises_ns: Vec::new(), last_fall_ns: i64::MIN / 2, last_usable: None,
            last_spike_ns: None, released_since_rise: false,
        };
        let mut now_ns = 0;
        for event in events {
            now_ns += event.after_ms * MS;
            while let Some(due_ns) = rule.due_ns().filter(|due_ns| *due_ns <= now_ns) {
                prop_assert_eq!(rule.tick(due_ns - 1), None);
                let Some(Change::Lowered(reason)) = rule.tick(due_ns) else {
                    return Err(TestCaseError::fail("what was due was not done"));
                };
                witness.fell(reason, due_ns)?;
            }
            if event.spikes_in > 0 || witness.last_spike_ns.is_none() {
                witness.last_spike_ns = Some(now_ns);
            }
            let must_rise = witness.must_rise(&event, now_ns);
            if witness.is_usable(&event, now_ns) {
                witness.usable_seen(&event, now_ns);
            }
            let reading = Reading {
                value: event.value,
                flags: event.flags,
                publish_ns: now_ns - event.age_ms * MS,
                spikes_in: event.spikes_in,
            };
            let change = rule.take(&reading, now_ns, event.ready);
            prop_assert_eq!(change == RAISED, must_rise);
            match change {
                Some(Change::Raised) => {
                    witness.high_since_ns = Some(now_ns);
                    witness.released_since_rise = false;
                    witness.rises_ns.push(now_ns);
                }
                Some(Change::Lowered(reason)) => witness.fell(reason, now_ns)?,
                None => {}
            }
            prop_assert_eq!(rule.is_high(), witness.high_since_ns.is_some());
        }
        prop_assert_eq!(rule.counts().raised, witness.rises_ns.len() as u64);
    }
}
