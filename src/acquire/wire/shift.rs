//! Whether a device's clock was set while it went on: a step that is too short to be seen in one record's time shows in how far
//! all of them are from where the two clocks say.
//!
//! A clock that was set forward brings records sooner than any record can come. One that was set back, or that stands still,
//! brings them all later than they used to; so does a way that has become longer, which comes to the same: nothing that comes by it is
//! on time until the run's time is set by it anew.

/// Records further ahead of the quickest ones are too soon, ns of host time.
const AHEAD_NS: i64 = 20_000_000;
/// Records that are further behind the quickest ones than the lateness, by more than this, are too late, ns of host time.
const BEHIND_NS: i64 = 5_000_000;
/// So many records have to agree.
const RECORDS: u32 = 8;
/// For so long, where they are too soon, ns of host time.
const AHEAD_FOR_NS: i64 = 100_000_000;
/// Twice for so long, where they are too late: a system's block or a thread that was kept waiting is over by then.
const STRETCH_NS: i64 = 250_000_000;

/// A run of records.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    since_host_ns: i64,
    records: u32,
    /// How far the earliest of them were ahead, ns of device time; below 0 behind.
    most_ahead_ns: i64,
}

impl Stretch {
    fn begin(host_ns: i64) -> Self {
        Self {
            since_host_ns: host_ns,
            records: 0,
            most_ahead_ns: i64::MIN,
        }
    }

    fn take(&mut self, ahead_ns: i64) {
        self.records += 1;
        self.most_ahead_ns = self.most_ahead_ns.max(ahead_ns);
    }

    fn is_whole(&self, host_ns: i64, least_ns: i64) -> bool {
        self.records >= RECORDS && host_ns.saturating_sub(self.since_host_ns) >= least_ns
    }
}

/// What a record's place says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shift {
    /// It is as those before.
    None,
    /// It is ahead of them, which one record alone may be by mistake.
    Ahead,
    /// The device's clock was set: by so many ns, ahead, or back where it is less than 0.
    Set(i64),
}

/// Follows how far records are ahead of where they belong. Never allocates.
#[derive(Clone, Debug, Default)]
pub(super) struct ShiftDetector {
    ahead: Option<Stretch>,
    stretch: Option<Stretch>,
    /// How far the stretch before was behind, if all of it was.
    behind_ns: Option<i64>,
}

impl ShiftDetector {
    /// Takes a record that came at host time `host_ns`, `ahead_ns` of device time before the quickest ones of late would, and
    /// `too_soon_ns` before the quickest ones of a minute: what waited somewhere and comes at last is ahead of those, but not of
    /// these. A host second has `speed` device seconds, and records may be `lateness_ns` of device time late.
    pub(super) fn note(
        &mut self,
        (ahead_ns, too_soon_ns): (i64, i64),
        host_ns: i64,
        (speed, lateness_ns): (f64, i64),
    ) -> Shift {
        let scaled = |ns: i64| (ns as f64 * speed) as i64;
        if too_soon_ns > scaled(AHEAD_NS) {
            let ahead = self.ahead.get_or_insert(Stretch::begin(host_ns));
            ahead.take(ahead_ns);
            if ahead.is_whole(host_ns, AHEAD_FOR_NS) {
                let set_ns = ahead.most_ahead_ns;
                *self = Self::default();
                return Shift::Set(set_ns);
            }
            return Shift::Ahead;
        }
        self.ahead = None;
        let stretch = self.stretch.get_or_insert(Stretch::begin(host_ns));
        stretch.take(ahead_ns);
        if !stretch.is_whole(host_ns, STRETCH_NS) {
            return Shift::None;
        }
        let most_ns = stretch.most_ahead_ns;
        self.stretch = None;
        let limit_ns = -scaled(BEHIND_NS).saturating_add(lateness_ns);
        let Some(before_ns) = self.behind_ns.replace(most_ns).filter(|_| most_ns < limit_ns) else {
            self.behind_ns = self.behind_ns.filter(|&most_ns| most_ns < limit_ns);
            return Shift::None;
        };
        // What waited somewhere and now comes faster than it was recorded is on its way to be on time again.
        if most_ns > before_ns.saturating_add(scaled(BEHIND_NS)) {
            return Shift::None;
        }
        *self = Self::default();
        Shift::Set(most_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// The shifts that records at these (host time, ahead) show, ms, with a lateness of 5 ms.
    fn shifts(records: impl IntoIterator<Item = (i64, i64)>) -> Vec<(i64, i64)> {
        let mut detector = ShiftDetector::default();
        let mut set = Vec::new();
        let mut set_by = 0;
        for (host_ms, ahead_ms) in records {
            let ahead = ahead_ms * MS - set_by;
            if let Shift::Set(ns) = detector.note((ahead, ahead), host_ms * MS, (1.0, 5 * MS)) {
                set_by += ns;
                set.push((host_ms, ns / MS));
            }
        }
        set
    }

    #[test]
    fn a_step_either_way_is_seen_by_all_that_comes_after_it() {
        let forward = (0..500).map(|ms| (ms, if ms < 200 { -1 } else { 80 - ms % 2 }));
        assert_eq!(shifts(forward), [(300, 80)]);
        let back = (0..1_000).map(|ms| (ms, if ms < 200 { -1 } else { -60 - ms % 3 }));
        let set = shifts(back);
        assert_eq!(set[0].1, -60);
        assert!((700..=960).contains(&set[0].0), "{set:?}");
    }

    #[test]
    fn single_records_blocks_and_what_waited_are_no_step() {
        let single = (0..5_000).map(|ms| (ms, if ms % 9 == 0 { 500 } else { -2 }));
        assert_eq!(shifts(single), []);
        let late = (0..5_000).map(|ms| (ms, if ms % 100 == 0 { 0 } else { -300 }));
        assert_eq!(shifts(late), []);
        let within = (0..5_000).map(|ms| (ms, -9));
        assert_eq!(shifts(within), []);
        // A backlog of 4 s that is read at 1.25 times the pace it was recorded at.
        let waited = (0..20_000).map(|ms| (ms, (-4_000 + ms / 4).min(0)));
        assert_eq!(shifts(waited), []);
    }

    #[test]
    fn a_clock_that_stands_still_is_set_again_and_again() {
        let still = (0..4_000).map(|ms| (ms, -ms));
        assert!(shifts(still).len() >= 3);
    }

    #[test]
    fn few_records_are_enough_in_time() {
        let back = (0..100).map(|second| (second * 1_000, -400));
        assert_eq!(shifts(back)[0], (15_000, -400));
    }
}
