//! What the kernel does with real-time threads.

use super::finding::{Files, Finding};
use super::MEASURED_ON;
use crate::realtime::budget::Allowance;

const RUNTIME: &str = "/proc/sys/kernel/sched_rt_runtime_us";
const PERIOD: &str = "/proc/sys/kernel/sched_rt_period_us";

/// RT throttling: how much of a core real-time threads may take.
pub fn throttling(files: &Files) -> Finding {
    const NAME: &str = "RT throttling";
    let (Some(runtime), period) = (files.read(RUNTIME), files.read(PERIOD)) else {
        return Finding::unknown(NAME, RUNTIME);
    };
    let allowance = Allowance::from_texts(Some(&runtime), period.as_deref());
    let (share, period_ms) = (100.0 * allowance.share, allowance.period_ns / 1_000_000);
    if !allowance.enforced {
        return Finding::note(
            NAME,
            format!("off: nothing stops a real-time thread that spins; a run holds itself below {share:.0} %"),
        )
        .by("`sysctl kernel.sched_rt_runtime_us=950000`")
        .worth("a program that spins by mistake leaves a shell to stop it from");
    }
    let now = format!("on: {share:.0} % of every {period_ms} ms; a run holds itself below that");
    if allowance.share < 0.5 {
        return Finding::change(NAME, now)
            .by("`sysctl kernel.sched_rt_runtime_us=950000`")
            .worth("a model that takes more of a core than that loses its priority, and then its deadlines");
    }
    Finding::good(NAME, now)
}

/// Cores that nothing else runs on.
pub fn isolated(files: &Files) -> Finding {
    const NAME: &str = "isolated cores";
    let lists = [("isolated", "isolcpus"), ("nohz_full", "nohz_full")].map(|(file, name)| {
        let list = files.read(&format!("/sys/devices/system/cpu/{file}"));
        // A kernel that lacks the feature says "(null)".
        (name, list.filter(|list| !list.is_empty() && list != "(null)"))
    });
    let set: Vec<String> = lists
        .iter()
        .filter_map(|(name, list)| Some(format!("{name} {}", list.as_ref()?)))
        .collect();
    if !set.is_empty() {
        return Finding::good(NAME, set.join(", "))
            .by("pin threads there: `[realtime] cores = { decode = … }`, `[model] cores`");
    }
    Finding::note(NAME, "none: other programs and the kernel's ticks run on every core")
        .by("`isolcpus=… nohz_full=…` on the kernel's command line, and `[realtime] cores`; only where cores are left over")
        .worth(format!(
            "with a real-time priority little: beside two busy programs FIFO timers were 28 µs late (p99.9), 20 ms without priority; {MEASURED_ON}"
        ))
}

/// How soon the kernel lets a real-time thread run that has become ready.
pub fn preemption(files: &Files) -> Finding {
    const NAME: &str = "preemption";
    let version = files.read("/proc/sys/kernel/version");
    let dynamic = files.read("/sys/kernel/debug/sched/preempt");
    if files.read("/sys/kernel/realtime").as_deref() == Some("1")
        || version.as_ref().is_some_and(|version| version.contains("PREEMPT_RT"))
    {
        return Finding::good(NAME, "PREEMPT_RT");
    }
    let Some(version) = version else {
        return Finding::unknown(NAME, "/proc/sys/kernel/version");
    };
    let model = match dynamic.as_deref().and_then(chosen_mode) {
        Some(mode) => format!("PREEMPT_DYNAMIC, {mode}"),
        None if version.contains("PREEMPT_DYNAMIC") => "PREEMPT_DYNAMIC".into(),
        None if version.contains("PREEMPT") => "PREEMPT".into(),
        None => "none or voluntary".into(),
    };
    Finding::note(NAME, model)
        .by("a kernel with PREEMPT_RT, or `preempt=full` on the command line of one with PREEMPT_DYNAMIC")
        .worth(format!(
            "the tail: FIFO timers are late by what the kernel does meanwhile, 256 µs (p99.9) without either; {MEASURED_ON}"
        ))
}

/// `none voluntary (full) lazy`: the one in parentheses.
fn chosen_mode(text: &str) -> Option<&str> {
    text.split_once('(')?.1.split_once(')').map(|(mode, _)| mode)
}

#[cfg(test)]
mod tests {
    use super::super::finding::machine;
    use super::super::Verdict;
    use super::*;

    #[test]
    fn throttling_is_read_in_every_form() {
        for (runtime, verdict) in [
            ("950000\n", Verdict::Good),
            ("-1\n", Verdict::Note),
            ("100000\n", Verdict::Change),
        ] {
            let (_folder, files) = machine(&[(RUNTIME, runtime), (PERIOD, "1000000\n")]);
            assert_eq!(throttling(&files).verdict, verdict, "{runtime}");
        }
        let (_folder, nothing) = machine(&[]);
        assert!(throttling(&nothing).now.contains("container"));
    }

    #[test]
    fn isolated_cores_are_listed() {
        let cpu = "/sys/devices/system/cpu";
        let (_folder, none) = machine(&[
            (&format!("{cpu}/isolated"), "\n"),
            (&format!("{cpu}/nohz_full"), "(null)\n"),
        ]);
        assert_eq!(isolated(&none).verdict, Verdict::Note);
        let (_folder, some) = machine(&[(&format!("{cpu}/isolated"), "2-3\n")]);
        assert_eq!(isolated(&some).now, "isolcpus 2-3");
    }

    #[test]
    fn the_preemption_model_is_told() {
        let of = |version: &str, mode: &str| {
            let (_folder, files) = machine(&[
                ("/proc/sys/kernel/version", version),
                ("/sys/kernel/debug/sched/preempt", mode),
            ]);
            preemption(&files).now
        };
        assert_eq!(of("#1 SMP PREEMPT_RT Fri\n", ""), "PREEMPT_RT");
        assert_eq!(
            of("#1 SMP PREEMPT_DYNAMIC\n", "none voluntary (full) lazy\n"),
            "PREEMPT_DYNAMIC, full"
        );
        assert_eq!(of("#1 SMP\n", ""), "none or voluntary");
    }
}
