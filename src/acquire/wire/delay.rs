//! The least delay of a device's records, told from many of them: one record with a wrong time, ahead of the others, must
//! not take the run's time with it.

/// Delays kept of a window.
const KEPT: usize = 64;
/// The least delay is one that so many records at least come close to.
const AGREEING: usize = 8;
/// Of more records, one in so many may be wrong.
const ONE_IN: usize = 1024;

/// The least delays of a window of time, and how many there were. Never allocates.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// Ascending.
    least_ns: [i64; KEPT],
    records: usize,
}

impl Window {
    const EMPTY: Self = Self {
        least_ns: [i64::MAX; KEPT],
        records: 0,
    };

    fn note(&mut self, delay_ns: i64) {
        self.records += 1;
        if delay_ns < self.least_ns[KEPT - 1] {
            let at = self.least_ns.partition_point(|&kept| kept <= delay_ns);
            self.least_ns.copy_within(at..KEPT - 1, at + 1);
            self.least_ns[at] = delay_ns;
        }
    }

    /// The least delay that enough records agree on; of too few, the longest.
    fn least_ns(&self) -> Option<i64> {
        let rank = (AGREEING + self.records / ONE_IN).min(KEPT).min(self.records);
        rank.checked_sub(1).map(|at| self.least_ns[at])
    }
}

/// Windows whose least delay is remembered.
const REMEMBERED: usize = 8;

/// The least delay of this window and of the one before. Never allocates.
#[derive(Clone, Debug)]
pub(super) struct LeastDelay {
    windows: [Window; 2],
    /// Those that were known when the last windows ended.
    before_ns: [i64; REMEMBERED],
    /// The last one known.
    last_ns: i64,
}

impl LeastDelay {
    pub(super) fn new() -> Self {
        Self {
            windows: [Window::EMPTY; 2],
            before_ns: [i64::MAX; REMEMBERED],
            last_ns: 0,
        }
    }

    pub(super) fn note(&mut self, delay_ns: i64) {
        self.windows[0].note(delay_ns);
    }

    /// Begins another window.
    pub(super) fn next_window(&mut self) {
        self.last_ns = self.get();
        self.before_ns.rotate_right(1);
        self.before_ns[0] = self.last_ns;
        self.windows = [Window::EMPTY, self.windows[0]];
    }

    /// Forgets all delays but the last that was known.
    pub(super) fn restart(&mut self) {
        self.windows = [Window::EMPTY; 2];
        self.before_ns = [i64::MAX; REMEMBERED];
    }

    /// The least that it has been in the last windows: what has waited somewhere makes it longer for a while.
    pub(super) fn lowest(&self) -> i64 {
        self.before_ns
            .iter()
            .fold(self.get(), |lowest, &before| lowest.min(before))
    }

    /// Of two windows the lesser delay, but a window of few records counts only where both have few.
    pub(super) fn get(&self) -> i64 {
        let [now, before] = &self.windows;
        let full = |window: &&Window| window.records >= AGREEING;
        let agreed = self.windows.iter().filter(full).filter_map(Window::least_ns).min();
        agreed.or(now.least_ns().max(before.least_ns())).unwrap_or(self.last_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_many_records_to_lessen_it() {
        let mut least = LeastDelay::new();
        assert_eq!(least.get(), 0);
        for delay in [40, 30, 20] {
            least.note(delay);
        }
        assert_eq!(least.get(), 40, "of few the longest");
        (0..100).for_each(|_| least.note(10));
        assert_eq!(least.get(), 10);
        (0..7).for_each(|wrong| least.note(-1_000 * wrong));
        assert_eq!(least.get(), 10);
        least.note(-5);
        assert_eq!(least.get(), 0, "eight agree on a delay of 0 or less");
    }

    #[test]
    fn one_in_a_thousand_may_be_wrong() {
        let mut least = LeastDelay::new();
        for record in 0..50_000 {
            least.note(if record % 1_024 == 1_023 { -record } else { 10 });
        }
        assert_eq!(least.get(), 10);
    }

    #[test]
    fn a_new_window_counts_once_it_has_enough() {
        let mut least = LeastDelay::new();
        (0..9).for_each(|_| least.note(10));
        least.next_window();
        least.note(-900);
        assert_eq!(least.get(), 10);
        (0..9).for_each(|_| least.note(5));
        assert_eq!(least.get(), 5);
        least.next_window();
        least.next_window();
        assert_eq!(least.get(), 5, "the last known");
        (0..9).for_each(|_| least.note(7));
        assert_eq!((least.get(), least.lowest()), (7, 5), "delays may grow");
        (0..8).for_each(|_| least.next_window());
        assert_eq!((least.get(), least.lowest()), (7, 7));
    }
}
