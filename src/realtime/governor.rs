//! How the cores' clock rates are chosen. A run only says what it finds: a change would outlive it.

use std::collections::BTreeSet;
use std::path::Path;

use super::report::Step;

/// Where the kernel lists its cores.
pub const CORES: &str = "/sys/devices/system/cpu";

/// The governors of the cores below `cores` ([`CORES`]); none where the system chooses no rates.
pub fn governors(cores: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(cores) else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("cpufreq/scaling_governor")).ok())
        .map(|governor| governor.trim().to_string())
        .collect()
}

/// Whether every core runs at its full rate.
pub fn check(cores: &Path) -> Step {
    let what = "cores at their full rate";
    let governors = governors(cores);
    let others: Vec<&str> = governors
        .iter()
        .map(String::as_str)
        .filter(|governor| *governor != "performance")
        .collect();
    match (governors.is_empty(), others.is_empty()) {
        (true, _) => Step::done(what, "this system has no governors"),
        (false, true) => Step::done(what, "governor performance"),
        (false, false) => Step::refused(
            what,
            format!("the governor is {}", others.join(", ")),
            "`cpupower frequency-set -g performance`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_core_that_saves_power_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check(folder.path()).is_done());
        for (core, governor) in [("cpu0", "performance\n"), ("cpu1", "powersave\n")] {
            let policy = folder.path().join(core).join("cpufreq");
            std::fs::create_dir_all(&policy).unwrap();
            std::fs::write(policy.join("scaling_governor"), governor).unwrap();
        }
        let step = check(folder.path());
        assert!(!step.is_done() && step.to_string().contains("powersave"), "{step}");
    }
}
