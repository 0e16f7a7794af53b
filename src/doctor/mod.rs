//! What a machine lacks for real time, what to change, and what that is worth.
//!
//! Every check reads what the system says of itself below [`Files`], or measures; what cannot be read (in a container much
//! cannot) is said, and is no fault. Worth is measured on the spot where that takes a second; where it is not, its line says
//! where the figure comes from.

pub mod finding;
pub mod gpu;
pub mod limits;
pub mod memory;
pub mod processor;
pub mod scheduling;
pub mod sockets;
pub mod storage;
pub mod timers;

use std::path::{Path, PathBuf};

pub use finding::{Examination, Files, Finding, Verdict};

/// The machine whose figures are quoted where nothing is measured.
pub const MEASURED_ON: &str = "measured on a virtual machine with 2 cores, kernel 6.18";

/// What the examination is to look at beside the machine itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where recordings would be written.
    pub recordings: PathBuf,
}

/// Examines this machine; takes a few seconds.
pub fn examine(options: &Options) -> Examination {
    let files = Files::of_this_machine();
    let before = processor::Ticks::read(&files);
    let (ordinary, real_time) = timers::measure_both();
    let after = processor::Ticks::read(&files);
    let mut findings = vec![
        scheduling::throttling(&files),
        scheduling::isolated(&files),
        scheduling::preemption(&files),
        limits::priority(),
        limits::memory(),
        limits::files(),
        processor::clock_source(&files),
        timers::lateness(ordinary, real_time),
        timers::slack(),
        processor::governor(&files),
        processor::idle_states(&files),
        processor::siblings(&files),
        processor::virtualisation(&files, before, after),
        memory::huge_pages(&files),
        memory::swap(&files, limits::may_lock_memory()),
        gpu::gpu(),
        sockets::receive_buffer(&files),
        sockets::round_trip(),
    ];
    findings.push(storage::shared_memory(Path::new("/dev/shm")));
    findings.push(storage::recordings(&options.recordings));
    Examination { findings }
}
