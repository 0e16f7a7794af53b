//! What the suite puts a run through.

use super::faulty;
use super::schedule::Rate;

/// Bins of the network of the demonstration, ms.
const NETWORK_BIN_MS: f64 = 20.0;

/// What predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// The mean rates: what is measured is the pipeline without the network's own time.
    MeanRate,
    /// The network that travels with the program.
    Network,
    /// A network on a GPU that hangs after a while; see [`faulty`].
    GpuHangs,
    /// A network whose weights are not numbers.
    NanWeights,
}

/// What goes on beside the run, or happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    None,
    /// A process on every core that computes without end.
    Hogs,
    /// A process that takes most of the free memory again and again.
    Memory,
    /// The run records, and its disk is full after a while.
    DiskFull,
    /// A second subscriber that takes 20 messages a second.
    SlowSubscriber,
    /// Two more subscribers that stand still in the second half.
    FrozenSubscribers,
    /// A second subscriber that is killed in the middle.
    GoneSubscriber,
    /// Nine more subscribers.
    TenSubscribers,
    /// The device stops for a second, twice, and begins anew.
    SourceKilled,
    /// The device's clock jumps by an hour, and back.
    ClockJumps,
    /// Another model takes the network's place in the middle.
    ModelSwap,
}

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What happens, in a sentence.
    pub about: &'static str,
    /// What predicts.
    pub model: Model,
    /// Units of the device.
    pub units: u32,
    /// What it sends.
    pub rate: Rate,
    /// Whether the run, the sender and the subscriber are under FIFO.
    pub fifo: bool,
    /// What goes on beside it.
    pub event: Event,
    /// Whether its latency is that of the pipeline by itself, which gates speak of.
    pub gated: bool,
    /// Bin width, ms: short, so that there are many; a network has its own.
    pub bin_ms: f64,
}

const PLAIN: Scenario = Scenario {
    name: "idle",
    about: "1000 spikes/s of 96 units, nothing else on the machine",
    model: Model::MeanRate,
    units: 96,
    rate: Rate {
        hz: 1_000.0,
        bursts: false,
    },
    fifo: false,
    event: Event::None,
    gated: false,
    bin_ms: 5.0,
};

/// What a small network's window takes.
const SLOW: Rate = Rate {
    hz: 100.0,
    bursts: false,
};

/// The soak: hours of a real recording.
pub fn soak(units: u32, hz: f64, fifo: bool) -> Scenario {
    Scenario {
        name: "soak",
        about: "the neuropixels recording in a loop",
        model: Model::MeanRate,
        units,
        rate: Rate { hz, bursts: false },
        fifo,
        event: Event::None,
        gated: true,
        bin_ms: 20.0,
    }
}

/// All of them, in the order in which they are run.
pub fn all() -> Vec<Scenario> {
    let scenario = |name, about| Scenario { name, about, ..PLAIN };
    vec![
        Scenario { gated: true, ..PLAIN },
        Scenario {
            fifo: true,
            gated: true,
            ..scenario("idle-fifo", "the same under FIFO (--realtime)")
        },
        Scenario {
            event: Event::Hogs,
            ..scenario("hogs", "a process on every core that computes without end")
        },
        Scenario {
            event: Event::Hogs,
            fifo: true,
            gated: true,
            ..scenario("hogs-fifo", "the same, and the run under FIFO")
        },
        Scenario {
            event: Event::Memory,
            ..scenario(
                "memory-pressure",
                "a process that takes most of the free memory, again and again",
            )
        },
        Scenario {
            event: Event::DiskFull,
            ..scenario(
                "disk-full",
                "the run records, and its disk is full after a second or so",
            )
        },
        Scenario {
            event: Event::SlowSubscriber,
            ..scenario("slow-subscriber", "a second subscriber takes 20 messages a second")
        },
        Scenario {
            event: Event::FrozenSubscribers,
            units: 512,
            bin_ms: 2.0,
            ..scenario(
                "frozen-subscribers",
                "two more subscribers stand still in the second half",
            )
        },
        Scenario {
            event: Event::GoneSubscriber,
            ..scenario("gone-subscriber", "a second subscriber is killed in the middle")
        },
        Scenario {
            event: Event::TenSubscribers,
            ..scenario("ten-subscribers", "ten subscribers, one of them measured")
        },
        Scenario {
            rate: Rate {
                hz: 1_000.0,
                bursts: true,
            },
            ..scenario("bursts", "bursts of 50 times the mean rate, 0.1 s long, every 1.5 s")
        },
        Scenario {
            units: 1,
            ..scenario("units-1", "one unit")
        },
        Scenario {
            units: 32,
            ..scenario("units-32", "32 units")
        },
        Scenario {
            units: 256,
            ..scenario("units-256", "256 units")
        },
        Scenario {
            units: 1_024,
            ..scenario("units-1024", "1024 units")
        },
        Scenario {
            event: Event::SourceKilled,
            ..scenario("source-killed", "the device stops for a second and begins anew, twice")
        },
        Scenario {
            event: Event::ClockJumps,
            ..scenario("clock-jumps", "the device's clock jumps by an hour, and back")
        },
        Scenario {
            model: Model::Network,
            bin_ms: NETWORK_BIN_MS,
            ..scenario("network", "the network of the demonstration predicts")
        },
        Scenario {
            model: Model::Network,
            bin_ms: NETWORK_BIN_MS,
            event: Event::ModelSwap,
            ..scenario("model-swap", "another network takes its place in the middle")
        },
        Scenario {
            model: Model::GpuHangs,
            units: faulty::UNITS,
            bin_ms: faulty::BIN_MS,
            rate: SLOW,
            ..scenario(
                "gpu-hang",
                "the GPU, played by a device that computes nothing, hangs after ten predictions",
            )
        },
        Scenario {
            model: Model::NanWeights,
            units: faulty::UNITS,
            bin_ms: faulty::BIN_MS,
            rate: SLOW,
            ..scenario(
                "nan-weights",
                "a network's weights are not numbers; a file of them is refused",
            )
        },
    ]
}
