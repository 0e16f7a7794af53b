//! The watch over the decode thread: which bins it owes a prediction, and when somebody else has to publish for it.
//!
//! The decode thread announces every bin that it begins to decode. Where a bin's prediction has not come long after its deadline,
//! the publish thread, which has a core of its own, publishes the mean rates in its place; what comes for that bin later is given
//! back unpublished. A decode thread that is stuck announces nothing: from its last bin on, bins are taken to close as they
//! did, one bin width after another, until it is seen again. Bins that it had no slot for, because the publish thread itself had been
//! kept waiting, are told by the next prediction that comes. The publish thread alone decides, so that every bin is published once.

use super::slot::Announced;

/// Bins that may be owed at once.
const OWED: usize = 64;

/// Follows what is owed. Allocates nothing.
pub(crate) struct Watch {
    /// Bin width, ns of device time, and of host time.
    bin_ns: i64,
    bin_host_ns: i64,
    /// Device time of the end of the run, where that is known: no bin closes after it.
    end_ns: i64,
    owed: heapless::Deque<Announced, OWED>,
    /// The bin that was published last.
    published: Option<Announced>,
}

impl Watch {
    /// A watch over bins that are `bin_host_ns` long for the host, and the last of which ends by `end_ns` of device time, where that is
    /// known.
    pub fn new((bin_ns, bin_host_ns): (i64, i64), end_ns: Option<i64>) -> Self {
        Self {
            bin_ns,
            bin_host_ns,
            end_ns: end_ns.unwrap_or(i64::MAX),
            owed: heapless::Deque::new(),
            published: None,
        }
    }

    /// The decode thread begins with a bin.
    pub fn announced(&mut self, bin: Announced) {
        if self.is_news(bin.bin_index) && self.owed.push_back(bin).is_err() {
            // More than are ever waited for: the oldest is as good as published.
            self.owed.pop_front();
            let _ = self.owed.push_back(bin);
        }
    }

    /// Whether a bin's prediction is to be published: none has been for it, nor for a later one.
    pub fn is_news(&self, bin_index: i64) -> bool {
        self.published.is_none_or(|last| bin_index > last.bin_index)
    }

    /// A bin has been published.
    pub fn published(&mut self, bin: Announced) {
        self.published = Some(bin);
        while self.owed.front().is_some_and(|owed| owed.bin_index <= bin.bin_index) {
            self.owed.pop_front();
        }
    }

    /// A bin that has to be published for the decode thread, which was seen to go on at `alive_ns`: `patience_ns` after its close;
    /// none where time means nothing.
    pub fn overdue(&self, (now_ns, alive_ns): (i64, i64), patience_ns: Option<i64>) -> Option<Announced> {
        let patience_ns = patience_ns?;
        if let Some(&owed) = self.owed.front() {
            return (now_ns > owed.close_ns + patience_ns).then_some(owed);
        }
        let next = self.next()?;
        let due_ns = next.close_ns + patience_ns;
        // It goes on: the bin has not closed yet, or nothing is to be said of it.
        let goes_on = alive_ns + patience_ns > now_ns;
        (now_ns > due_ns && !goes_on && next.bin_end_ns <= self.end_ns).then_some(next)
    }

    /// The bin after the one that was published last, taken to have closed as that one did.
    fn next(&self) -> Option<Announced> {
        let last = self.published?;
        Some(Announced {
            bin_index: last.bin_index + 1,
            bin_end_ns: last.bin_end_ns + self.bin_ns,
            close_ns: last.close_ns + self.bin_host_ns,
        })
    }

    /// The first bin before this one, whose prediction has come, that was not published: there was no slot for it.
    pub fn left_out(&self, bin_index: i64) -> Option<Announced> {
        self.next().filter(|next| next.bin_index < bin_index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const PATIENCE: Option<i64> = Some(40 * MS);

    fn bin(index: i64) -> Announced {
        Announced {
            bin_index: index,
            bin_end_ns: (index + 1) * 20 * MS,
            close_ns: 1_000 * MS + index * 20 * MS,
        }
    }

    fn watch() -> Watch {
        Watch::new((20 * MS, 20 * MS), None)
    }

    #[test]
    fn a_bin_is_owed_until_it_is_published() {
        let mut watch = watch();
        watch.announced(bin(5));
        let close = bin(5).close_ns;
        assert_eq!(watch.overdue((close + 40 * MS, close), PATIENCE), None);
        assert_eq!(watch.overdue((close + 41 * MS, close), PATIENCE), Some(bin(5)));
        watch.published(bin(5));
        assert!(!watch.is_news(5) && watch.is_news(6));
        assert_eq!(watch.overdue((close + 41 * MS, close + 41 * MS), PATIENCE), None);
    }

    #[test]
    fn a_stuck_thread_owes_bin_after_bin_until_it_is_seen_again() {
        let mut watch = watch();
        watch.announced(bin(5));
        let (close, stuck) = (bin(5).close_ns, bin(5).close_ns);
        let mut stood_in = Vec::new();
        for ms in 0..200 {
            while let Some(overdue) = watch.overdue((close + ms * MS, stuck), PATIENCE) {
                stood_in.push((ms, overdue.bin_index));
                watch.published(overdue);
            }
        }
        let expected: Vec<(i64, i64)> = (0..8).map(|bin| (41 + 20 * bin, 5 + bin)).collect();
        assert_eq!(stood_in, expected);
        // It comes back, with bins that nobody waits for any more, and then with news.
        for index in 5..13 {
            watch.announced(bin(index));
            assert!(!watch.is_news(index));
        }
        let now = close + 200 * MS;
        assert_eq!(watch.overdue((now, now), PATIENCE), None);
        watch.announced(bin(13));
        assert!(watch.is_news(13));
        watch.published(bin(13));
    }

    #[test]
    fn bins_that_had_no_slot_are_told_by_the_next_that_has_one() {
        let mut watch = watch();
        assert_eq!(watch.left_out(5), None, "the first bin of all");
        watch.published(bin(5));
        assert_eq!(watch.left_out(6), None);
        let mut filled = Vec::new();
        while let Some(missing) = watch.left_out(9) {
            filled.push(missing);
            watch.published(missing);
        }
        assert_eq!(filled, [6, 7, 8].map(bin));
    }

    #[test]
    fn no_bin_is_owed_after_the_end() {
        let mut watch = Watch::new((20 * MS, 20 * MS), Some(bin(6).bin_end_ns));
        watch.announced(bin(5));
        let late = bin(5).close_ns + 1_000 * MS;
        let mut stood_in = Vec::new();
        while let Some(overdue) = watch.overdue((late, 0), PATIENCE) {
            stood_in.push(overdue.bin_index);
            watch.published(overdue);
        }
        assert_eq!(stood_in, [5, 6]);
    }

    #[test]
    fn before_the_first_bin_and_without_a_clock_nothing_is_owed() {
        assert_eq!(watch().overdue((i64::MAX / 2, 0), PATIENCE), None);
        let mut timeless = watch();
        timeless.announced(bin(1));
        assert_eq!(timeless.overdue((i64::MAX / 2, 0), None), None);
    }
}
