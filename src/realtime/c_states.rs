//! Idle states: how long a core may take to wake.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::report::Step;

/// Where the kernel takes the demand from. It holds for as long as the file is open.
pub const DEVICE: &str = "/dev/cpu_dma_latency";

/// The demand; it ends when this is dropped.
#[derive(Debug)]
pub struct WakeLatency(#[allow(dead_code, reason = "held open, and that is all")] File);

/// Has no core enter an idle state that takes longer than this to leave, µs.
pub fn demand(device: &Path, most_us: u32) -> (Step, Option<WakeLatency>) {
    let what = format!("cores wake within {most_us} µs");
    match open(device, most_us) {
        Ok(file) => (Step::done(what, ""), Some(WakeLatency(file))),
        Err(error) => {
            let because = format!("{}: {error}", device.display());
            let grant = format!(
                "write access to {DEVICE} (`chgrp realtime {DEVICE} && chmod g+w {DEVICE}`), or the kernel's `intel_idle.max_cstate=1`"
            );
            (Step::refused(what, because, grant), None)
        }
    }
}

fn open(device: &Path, most_us: u32) -> io::Result<File> {
    let mut file = OpenOptions::new().write(true).open(device)?;
    let most = i32::try_from(most_us).unwrap_or(i32::MAX);
    file.write_all(&most.to_ne_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demand_is_a_binary_number_of_microseconds() {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("latency");
        std::fs::write(&device, "").unwrap();
        let (step, held) = demand(&device, 10);
        assert!(step.is_done() && held.is_some(), "{step}");
        assert_eq!(std::fs::read(&device).unwrap(), 10i32.to_ne_bytes());
    }

    #[test]
    fn a_machine_without_the_device_says_so() {
        let (step, held) = demand(Path::new("/nowhere/cpu_dma_latency"), 10);
        assert!(held.is_none());
        assert!(step.to_string().contains("/nowhere/cpu_dma_latency"), "{step}");
    }
}
