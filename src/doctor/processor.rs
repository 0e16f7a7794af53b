//! Clock, clock rates, idle states, shared cores, and whether there is another system below this one.

use std::path::Path;

use super::finding::{Files, Finding};
use super::MEASURED_ON;
use crate::pipeline::clock::monotonic_ns;
use crate::realtime::c_states;
use crate::realtime::governor::governors;

const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0";
const CPU: &str = "/sys/devices/system/cpu";
/// Idle states that take longer than this to leave, µs, show in latencies.
const DEEP_US: u64 = 50;
/// Of the processor time: more than this taken by other machines shows in the tail.
const MUCH_STEAL: f64 = 0.005;
/// Reads of the clock that are timed.
const READS: i64 = 20_000;

/// The clock that stamps are read from.
pub fn clock_source(files: &Files) -> Finding {
    const NAME: &str = "clock source";
    let begun = monotonic_ns();
    let last = (0..READS).map(|_| monotonic_ns()).max().unwrap_or(begun);
    let read_ns = (last - begun) / READS;
    let Some(source) = files.read(&format!("{CLOCK}/current_clocksource")) else {
        return Finding::unknown(NAME, CLOCK);
    };
    let now = format!("{source}; a read takes {read_ns} ns");
    match source.as_str() {
        "tsc" | "arch_sys_counter" | "kvm-clock" | "hyperv_clocksource_tsc_page" => Finding::good(NAME, now),
        _ => Finding::change(NAME, now)
            .by("`clocksource=tsc tsc=reliable` on the kernel's command line, where the processor's counter is invariant")
            .worth(format!("a read becomes 19 ns; {MEASURED_ON}")),
    }
}

/// How clock rates are chosen.
pub fn governor(files: &Files) -> Finding {
    const NAME: &str = "governor";
    let governors: Vec<String> = governors(&files.path(CPU)).into_iter().collect();
    match &governors[..] {
        [] => Finding::good(NAME, "none: the clock rate is not chosen here"),
        [only] if only == "performance" => Finding::good(NAME, "performance"),
        _ => Finding::change(NAME, governors.join(", "))
            .by("`cpupower frequency-set -g performance`")
            .worth("the first milliseconds after a sleep run at the full rate (not measured here)"),
    }
}

/// The idle states of the first core: name and time to leave, µs, of those that are not disabled.
fn states(files: &Files) -> Vec<(String, u64)> {
    let state = |number: usize| {
        let read = |name: &str| files.read(&format!("{CPU}/cpu0/cpuidle/state{number}/{name}"));
        let (name, latency) = (read("name")?, read("latency")?.parse().ok()?);
        (read("disable").as_deref() != Some("1")).then_some((name, latency))
    };
    (0..16).filter_map(state).collect()
}

/// Idle states, and whether a run may forbid the deep ones.
pub fn idle_states(files: &Files) -> Finding {
    const NAME: &str = "idle states";
    let states = states(files);
    let Some((name, latency)) = states.iter().max_by_key(|(_, latency)| *latency) else {
        return Finding::good(NAME, "none to choose from");
    };
    let now = format!("deepest {name}, {latency} µs to leave");
    if *latency <= DEEP_US {
        return Finding::good(NAME, now);
    }
    let device = files.path(c_states::DEVICE);
    if std::fs::OpenOptions::new().write(true).open(device).is_ok() {
        return Finding::good(NAME, format!("{now}; `run --realtime` keeps cores out of it"));
    }
    Finding::change(NAME, format!("{now}, and {} cannot be written", c_states::DEVICE))
        .by(format!("`chgrp realtime {0} && chmod g+w {0}`", c_states::DEVICE))
        .worth(format!("up to {latency} µs at every wake-up (the kernel's own figure)"))
}

/// Whether two cores share one.
pub fn siblings(files: &Files) -> Finding {
    const NAME: &str = "SMT";
    let path = format!("{CPU}/smt/active");
    match files.read(&path).as_deref() {
        None => Finding::unknown(NAME, &path),
        Some("0") => Finding::good(NAME, "no two cores share one"),
        Some(_) => {
            let list = files.read(&format!("{CPU}/cpu0/topology/thread_siblings_list"));
            let list = list.map_or(String::new(), |list| format!(" (core 0: {list})"));
            Finding::note(NAME, format!("cores share execution units in pairs{list}"))
                .by(format!(
                    "`echo off > {CPU}/smt/control`, or pin threads that compute to cores that are no siblings"
                ))
                .worth("a busy sibling takes up to half of a core's rate (not measured here)")
        }
    }
}

/// Ticks of all cores since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// Taken by other machines.
    pub steal: u64,
    /// All.
    pub all: u64,
}

impl Ticks {
    /// Now.
    pub fn read(files: &Files) -> Self {
        files
            .read("/proc/stat")
            .map_or_else(Self::default, |text| Self::parse(&text))
    }

    /// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal; guests are in user.
    fn parse(text: &str) -> Self {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
        let ticks: Vec<u64> = line
            .unwrap_or("")
            .split_whitespace()
            .take(8)
            .map_while(|number| number.parse().ok())
            .collect();
        Self {
            steal: ticks.get(7).copied().unwrap_or(0),
            all: ticks.iter().sum(),
        }
    }
}

/// Whether this is a virtual machine, and what its host took between two readings.
pub fn virtualisation(files: &Files, before: Ticks, after: Ticks) -> Finding {
    const NAME: &str = "virtualisation";
    let Some(processor) = files.read("/proc/cpuinfo") else {
        return Finding::unknown(NAME, "/proc/cpuinfo");
    };
    let mut flags = processor.lines().filter(|line| line.starts_with("flags"));
    let guest = flags.any(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
        || Path::exists(&files.path("/sys/hypervisor/type"));
    if !guest {
        return Finding::good(NAME, "none");
    }
    let passed = after.all.saturating_sub(before.all);
    let share = after.steal.saturating_sub(before.steal) as f64 / passed.max(1) as f64;
    let now = format!(
        "a virtual machine; its host took {:.1} % of the time just now",
        100.0 * share
    );
    if share > MUCH_STEAL {
        return Finding::change(NAME, now)
            .by("cores that the host gives to nobody else")
            .worth("nothing inside this machine can run while the host has its core");
    }
    Finding::note(NAME, now).worth("a machine without a host has no such pauses")
}

#[cfg(test)]
mod tests {
    use super::super::finding::machine;
    use super::super::Verdict;
    use super::*;

    #[test]
    fn clocks_that_need_a_system_call_are_to_be_changed() {
        for (source, verdict) in [
            ("tsc\n", Verdict::Good),
            ("hpet\n", Verdict::Change),
            ("acpi_pm\n", Verdict::Change),
        ] {
            let (_folder, files) = machine(&[(&format!("{CLOCK}/current_clocksource"), source)]);
            assert_eq!(clock_source(&files).verdict, verdict, "{source}");
        }
    }

    #[test]
    fn deep_idle_states_are_named_unless_they_are_off_or_can_be_forbidden() {
        let state = |number: usize, file: &str| format!("{CPU}/cpu0/cpuidle/state{number}/{file}");
        let (poll, deep) = (
            (state(0, "name"), state(0, "latency")),
            (state(1, "name"), state(1, "latency")),
        );
        let mut texts = vec![
            (&*poll.0, "POLL\n"),
            (&*poll.1, "0\n"),
            (&*deep.0, "C6\n"),
            (&*deep.1, "133\n"),
        ];
        let (_folder, files) = machine(&texts);
        let found = idle_states(&files);
        assert_eq!(found.verdict, Verdict::Change);
        assert!(found.now.contains("C6, 133 µs"), "{found}");
        let off = state(1, "disable");
        texts.push((&off, "1\n"));
        let (_folder, files) = machine(&texts);
        assert_eq!(idle_states(&files).verdict, Verdict::Good);
        texts.pop();
        texts.push((c_states::DEVICE, ""));
        let (_folder, files) = machine(&texts);
        assert_eq!(idle_states(&files).verdict, Verdict::Good);
        assert_eq!(idle_states(&machine(&[]).1).verdict, Verdict::Good);
    }

    #[test]
    fn stolen_time_is_counted_over_all() {
        let before = Ticks::parse("cpu  100 0 100 700 0 0 0 100 50 0\ncpu0 1 2 3\n");
        assert_eq!(before, Ticks { steal: 100, all: 1_000 });
        let after = Ticks { steal: 110, all: 1_100 };
        let (_folder, guest) = machine(&[("/proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor avx\n")]);
        let found = virtualisation(&guest, before, after);
        assert_eq!(found.verdict, Verdict::Change);
        assert!(found.now.contains("10.0 %"), "{found}");
        assert_eq!(virtualisation(&guest, before, before).verdict, Verdict::Note);
        let (_folder, host) = machine(&[("/proc/cpuinfo", "flags\t\t: fpu avx\n")]);
        assert_eq!(virtualisation(&host, before, after).verdict, Verdict::Good);
        assert_eq!(Ticks::parse("intr 5\n"), Ticks::default());
    }

    #[test]
    fn siblings_and_governors_are_told() {
        let (_folder, files) = machine(&[
            (&format!("{CPU}/smt/active"), "1\n"),
            (&format!("{CPU}/cpu0/topology/thread_siblings_list"), "0,4\n"),
            (&format!("{CPU}/cpu0/cpufreq/scaling_governor"), "schedutil\n"),
        ]);
        assert!(siblings(&files).now.contains("0,4"));
        assert_eq!(governor(&files).verdict, Verdict::Change);
    }
}
