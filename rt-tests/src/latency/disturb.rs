//! What goes on beside a run: processes that take every core, and one that takes memory.

use std::time::Duration;

use super::child::{command, end_with_the_parent, Kept};

/// The role of a process that computes without end.
pub const HOG: &str = "rt-hog";
/// The role of a process that takes memory, touches it and gives it back, again and again.
pub const MEMORY: &str = "rt-memory";
/// Memory that is left to others at least, MiB.
const LEFT_MIB: u64 = 2_048;
/// Bytes from a touch to the next: a page.
const PAGE: usize = 4_096;
/// A block of memory, MiB.
const BLOCK_MIB: u64 = 64;

/// Cores of this machine that the suite may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn start(role: &str, arguments: &[String]) -> Result<Kept, String> {
    let started = command(role).and_then(|mut command| Kept::spawn(command.args(arguments)));
    started.map_err(|error| format!("{role} cannot be started: {error}"))
}

/// A process on every core.
///
/// # Errors
/// Where one cannot be started.
pub fn hogs() -> Result<Vec<Kept>, String> {
    (0..cores()).map(|_| start(HOG, &[])).collect()
}

/// The role: computes until the suite ends.
///
/// # Errors
/// Where the suite has gone.
pub fn hog() -> Result<(), String> {
    end_with_the_parent().map_err(|error| error.to_string())?;
    let mut number = 1u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

/// MiB that the system says are available.
fn available_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1_024
}

/// MiB that are taken: three quarters of what is available, so that some is left, and no more than is said.
pub fn pressure_mib(most_mib: u64) -> u64 {
    let available = available_mib();
    most_mib.min(available * 3 / 4).min(available.saturating_sub(LEFT_MIB))
}

/// A process that takes so much.
///
/// # Errors
/// Where it cannot be started.
pub fn memory(mib: u64) -> Result<Kept, String> {
    start(MEMORY, &[mib.to_string()])
}

/// The role.
///
/// # Errors
/// Where the suite has gone.
pub fn take_memory(arguments: &[String]) -> Result<(), String> {
    end_with_the_parent().map_err(|error| error.to_string())?;
    let mib = arguments.first().and_then(|mib| mib.parse::<u64>().ok()).unwrap_or(0);
    loop {
        let mut blocks: Vec<Vec<u8>> = Vec::new();
        for _ in 0..mib / BLOCK_MIB {
            let mut block = vec![0u8; (BLOCK_MIB << 20) as usize];
            block.iter_mut().step_by(PAGE).for_each(|byte| *byte = 1);
            blocks.push(std::hint::black_box(block));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
