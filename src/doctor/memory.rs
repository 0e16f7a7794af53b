//! Huge pages and swap.

use super::finding::{Files, Finding};

/// Whether the kernel makes huge pages of a program's memory unasked.
pub fn huge_pages(files: &Files) -> Finding {
    const NAME: &str = "huge pages";
    const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    let Some(text) = files.read(ENABLED) else {
        return Finding::unknown(NAME, ENABLED);
    };
    match chosen(&text) {
        Some("always") => Finding::note(NAME, "always; `run --realtime` has none made for itself")
            .by(format!("`echo madvise > {ENABLED}`"))
            .worth("no waiting while pages are put together: tens to hundreds of µs now and then (not measured here)"),
        mode => Finding::good(NAME, mode.unwrap_or(&text).to_string()),
    }
}

/// `always [madvise] never`: the one in brackets.
fn chosen(text: &str) -> Option<&str> {
    text.split_once('[')?.1.split_once(']').map(|(mode, _)| mode)
}

/// Whether memory may be written out to a disk.
pub fn swap(files: &Files, may_lock: bool) -> Finding {
    const NAME: &str = "swap";
    const SWAPS: &str = "/proc/swaps";
    let Some(text) = files.read(SWAPS) else {
        return Finding::unknown(NAME, SWAPS);
    };
    let areas: Vec<&str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let now = areas.join(", ");
    match (areas.is_empty(), may_lock) {
        (true, _) => Finding::good(NAME, "none"),
        (false, true) => {
            Finding::note(NAME, format!("{now}; `run --realtime` locks its own memory")).by("`swapoff -a`")
        }
        (false, false) => Finding::change(NAME, format!("{now}, and memory cannot be locked"))
            .by("`swapoff -a`, or let memory be locked")
            .worth("a page that was written out waits for the disk: milliseconds (not measured here)"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::machine;
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_mode_of_huge_pages_is_the_one_in_brackets() {
        assert_eq!(chosen("always [madvise] never"), Some("madvise"));
        assert_eq!(chosen("madvise"), None);
        let (_folder, files) = machine(&[(
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "[always] madvise never\n",
        )]);
        assert_eq!(huge_pages(&files).verdict, Verdict::Note);
    }

    #[test]
    fn swap_matters_where_memory_cannot_be_locked() {
        let header = "Filename\tType\tSize\tUsed\tPriority\n";
        let (_folder, none) = machine(&[("/proc/swaps", header)]);
        assert_eq!(swap(&none, false).verdict, Verdict::Good);
        let (_folder, one) = machine(&[("/proc/swaps", &format!("{header}/dev/sda2 partition 8 0 -2\n"))]);
        assert_eq!(swap(&one, false).verdict, Verdict::Change);
        assert_eq!(swap(&one, true).verdict, Verdict::Note);
        assert!(swap(&one, true).now.starts_with("/dev/sda2;"));
    }
}
