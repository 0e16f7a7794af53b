//! Whether a device's clock was set while it went on: a step that is too short to be seen in one record's time shows in how far
//! all of them are from where the two clocks say.
//!
//! A clock that was set forward brings records sooner than any record can come. One that was set back brings a record that is older
//! than the one before, by as much as all that follow are later than they used to be. One that stands still brings times that do not
//! go on. A way that has become longer, or that brings less than is sent, is none of these: what comes by it is late.

/// Records further ahead of the quickest ones are too soon, ns of host time.
const AHEAD_NS: i64 = 20_000_000;
/// Records that are further behind the quickest ones than the lateness, by more than this, are too late, ns of host time; and how far
/// two stretches of them may differ that are late by the same.
const BEHIND_NS: i64 = 5_000_000;
/// So many records have to agree.
const RECORDS: u32 = 8;
/// For so long, where they are too soon, ns of host time.
const AHEAD_FOR_NS: i64 = 100_000_000;
/// Twice for so long, where they are too late, ns of host time: a thread that was kept waiting has caught up by then.
const STRETCH_NS: i64 = 250_000_000;
/// Stretches in which a step back is looked for: those that are late, and the one that it fell into.
const LOOKED_BACK: usize = 3;
/// Of how late the records are, a step back explains at least this share.
const EXPLAINED: f64 = 0.8;
/// Of the host's time, a clock that stands still has passed at most this share.
const STILL: f64 = 1.0 / 16.0;

/// A run of records.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    since_host_ns: i64,
    records: u32,
    /// How far the earliest of them were ahead, ns of device time; below 0 behind.
    most_ahead_ns: i64,
    /// The least and the greatest of their times.
    from_ns: i64,
    to_ns: i64,
}

impl Stretch {
    fn begin(host_ns: i64) -> Self {
        Self {
            since_host_ns: host_ns,
            records: 0,
            most_ahead_ns: i64::MIN,
            from_ns: i64::MAX,
            to_ns: i64::MIN,
        }
    }

    fn take(&mut self, ahead_ns: i64, device_ns: i64) {
        self.records += 1;
        self.most_ahead_ns = self.most_ahead_ns.max(ahead_ns);
        self.from_ns = self.from_ns.min(device_ns);
        self.to_ns = self.to_ns.max(device_ns);
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

/// A stretch of records that were all too late.
#[derive(Clone, Copy, Debug)]
struct Late {
    by_ns: i64,
    stood_still: bool,
}

/// Follows how far records are ahead of where they belong. Never allocates.
#[derive(Clone, Debug, Default)]
pub(super) struct ShiftDetector {
    ahead: Option<Stretch>,
    stretch: Option<Stretch>,
    /// The stretch before, where all of it was too late.
    late: Option<Late>,
    last_device_ns: Option<i64>,
    /// Furthest that a record was older than the one before, in this stretch and those before it.
    back_ns: [i64; LOOKED_BACK],
}

impl ShiftDetector {
    /// Takes a record of device time `device_ns` that came at host time `host_ns`, `ahead_ns` of device time before the quickest ones
    /// of late would, and `too_soon_ns` before the quickest ones of a minute: what waited somewhere and comes at last is ahead of
    /// those, but not of these. A host second has `speed` device seconds, and records may be `lateness_ns` of device time late.
    pub(super) fn note(
        &mut self,
        (ahead_ns, too_soon_ns): (i64, i64),
        (device_ns, host_ns): (i64, i64),
        (speed, lateness_ns): (f64, i64),
    ) -> Shift {
        let scaled = |ns: i64| (ns as f64 * speed) as i64;
        if too_soon_ns > scaled(AHEAD_NS) {
            let ahead = self.ahead.get_or_insert(Stretch::begin(host_ns));
            ahead.take(ahead_ns, device_ns);
            if ahead.is_whole(host_ns, AHEAD_FOR_NS) {
                let set_ns = ahead.most_ahead_ns;
                *self = Self::default();
                return Shift::Set(set_ns);
            }
            return Shift::Ahead;
        }
        self.ahead = None;
        let before_ns = self.last_device_ns.replace(device_ns).unwrap_or(device_ns);
        self.back_ns[0] = self.back_ns[0].max(before_ns.saturating_sub(device_ns));
        let stretch = self.stretch.get_or_insert(Stretch::begin(host_ns));
        stretch.take(ahead_ns, device_ns);
        if !stretch.is_whole(host_ns, STRETCH_NS) {
            return Shift::None;
        }
        let by_ns = stretch.most_ahead_ns.saturating_neg();
        let host_passed_ns = scaled(host_ns.saturating_sub(stretch.since_host_ns)) as f64;
        let late = Late {
            by_ns,
            stood_still: (stretch.to_ns.saturating_sub(stretch.from_ns) as f64) < STILL * host_passed_ns,
        };
        let stepped_back_ns = self.back_ns.iter().fold(0, |most, &back| most.max(back));
        self.stretch = None;
        self.back_ns.rotate_right(1);
        self.back_ns[0] = 0;
        let is_late = by_ns > scaled(BEHIND_NS).saturating_add(lateness_ns);
        let before = std::mem::replace(&mut self.late, is_late.then_some(late));
        let Some(before) = before.filter(|_| is_late) else {
            return Shift::None;
        };
        let by_the_same = by_ns.abs_diff(before.by_ns) <= scaled(BEHIND_NS).unsigned_abs();
        let explained = stepped_back_ns as f64 >= EXPLAINED * by_ns as f64;
        if by_the_same && explained || late.stood_still && before.stood_still {
            *self = Self::default();
            return Shift::Set(-by_ns);
        }
        Shift::None
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
            let times = ((host_ms + ahead_ms) * MS, host_ms * MS);
            if let Shift::Set(ns) = detector.note((ahead, ahead), times, (1.0, 5 * MS)) {
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
        let back = (0..1_500).map(|ms| (ms, if ms < 200 { -1 } else { -60 - ms % 3 }));
        let set = shifts(back);
        assert_eq!((set.len(), set[0].1), (1, -60), "{set:?}");
        assert!((700..=960).contains(&set[0].0), "{set:?}");
    }

    #[test]
    fn single_records_and_a_way_that_is_late_are_no_step() {
        let single = (0..5_000).map(|ms| (ms, if ms % 9 == 0 { 500 } else { -2 }));
        assert_eq!(shifts(single), []);
        let late = (0..5_000).map(|ms| (ms, if ms % 100 == 0 { 0 } else { -300 }));
        assert_eq!(shifts(late), []);
        let within = (0..5_000).map(|ms| (ms, -9));
        assert_eq!(shifts(within), []);
        // A backlog of 4 s that is read at 1.25 times the pace it was recorded at.
        let waited = (0..20_000).map(|ms| (ms, (-4_000 + ms / 4).min(0)));
        assert_eq!(shifts(waited), []);
        // A way that brings four fifths of what is sent, and one that has become longer, in blocks of 40 ms out of order.
        let slow = (0..20_000).map(|ms| (ms, -ms / 5));
        assert_eq!(shifts(slow), []);
        let longer = (0..20_000).map(|ms| (ms, if ms < 2_000 { 0 } else { -90 } - 7 * ms % 40));
        assert_eq!(shifts(longer), []);
    }

    #[test]
    fn a_clock_that_stands_still_is_set_again_and_again() {
        let still = (0..4_000).map(|ms| (ms, -ms));
        assert!(shifts(still).len() >= 3);
    }

    #[test]
    fn few_records_are_enough_in_time() {
        let back = (0..100).map(|second| (second * 1_000, if second < 4 { 0 } else { -20_000 }));
        assert_eq!(shifts(back), [(23_000, -20_000)]);
    }
}
