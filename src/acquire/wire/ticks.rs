//! Device ticks: 32-bit counters extended over their wraps, and ticks as nanoseconds.

/// Extends a counter of 32 bits that wraps: consecutive values are taken to be less than 2³¹ ticks apart, in either
/// direction, since records of several channels are not sorted by time.
#[derive(Clone, Copy, Debug, Default)]
pub struct WrapClock {
    last: Option<u32>,
    extended: i64,
    /// The value before was far from the ones before it, and was not followed.
    was_far: bool,
}

/// Steps longer than this are far.
const FAR: u32 = 1 << 30;

impl WrapClock {
    /// The counter's value without wraps; the first one is itself.
    pub fn extend(&mut self, ticks: u32) -> i64 {
        let Some(last) = self.last else {
            self.last = Some(ticks);
            self.extended = i64::from(ticks);
            return self.extended;
        };
        let step = ticks.wrapping_sub(last) as i32;
        let extended = self.extended.wrapping_add(i64::from(step));
        // A wrong value half the range away must not take those after it over a wrap that never was: only the second of
        // two such values in a row is followed.
        let far = step.unsigned_abs() > FAR;
        if self.was_far || !far {
            self.last = Some(ticks);
            self.extended = extended;
        }
        self.was_far = far && !self.was_far;
        extended
    }
}

/// Ticks of a clock of `rate_hz` as ns, rounded to the nearest; saturates.
pub fn ticks_to_ns(ticks: i64, rate_hz: u32) -> i64 {
    let rate = i128::from(rate_hz.max(1));
    let ns = (i128::from(ticks) * 1_000_000_000 + rate / 2).div_euclid(rate);
    ns.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// The last tick of a clock of `rate_hz` at or before a time in ns.
pub fn ns_to_ticks(ns: i64, rate_hz: u32) -> i64 {
    (i128::from(ns) * i128::from(rate_hz)).div_euclid(1_000_000_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_goes_on_over_its_wrap_in_either_direction() {
        let mut clock = WrapClock::default();
        assert_eq!(clock.extend(0xFFFF_FFF0), 0xFFFF_FFF0);
        assert_eq!(clock.extend(5), 0x1_0000_0005);
        // A record from before the wrap that comes after it.
        assert_eq!(clock.extend(0xFFFF_FFFF), 0xFFFF_FFFF);
        assert_eq!(clock.extend(6), 0x1_0000_0006);
    }

    #[test]
    fn a_wrong_value_anywhere_in_the_range_is_over_with_itself() {
        for bit in 0..32 {
            let mut clock = WrapClock::default();
            clock.extend(1_000);
            clock.extend(1_001 ^ 1 << bit);
            for ticks in 1_002..1_010 {
                assert_eq!(clock.extend(ticks), i64::from(ticks), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_counter_that_jumped_far_is_followed() {
        let mut clock = WrapClock::default();
        clock.extend(1_000);
        for ticks in 0..10u32 {
            assert_eq!(clock.extend(0x7000_0000 + ticks), 0x7000_0000 + i64::from(ticks));
        }
        assert_eq!(clock.extend(0xE000_0000), 0xE000_0000);
    }

    #[test]
    fn ticks_are_the_nearest_ns_and_come_back() {
        assert_eq!(ticks_to_ns(1, 30_000), 33_333);
        assert_eq!(ticks_to_ns(2, 30_000), 66_667);
        assert_eq!(ticks_to_ns(30_000 * 3_600 * 24 * 365, 30_000), 31_536_000_000_000_000);
        assert_eq!(ticks_to_ns(i64::MAX, 1), i64::MAX);
        assert_eq!(ns_to_ticks(-1, 30_000), -1);
        for ticks in [0, 1, 2, 3, 29_999, 123_456_789_012] {
            assert!((ns_to_ticks(ticks_to_ns(ticks, 30_000) + 1, 30_000) - ticks).abs() <= 1);
        }
    }
}
