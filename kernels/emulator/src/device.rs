//! [`TestDevice`]: the emulator, or with `NEUROHORIZON_TEST_DEVICE=cuda` the machine's GPU, so that one test runs on both.

use kernels::cuda::driver::{Address, Capability, Driver, DriverError, Launch, Mapped};
use kernels::cuda::gpu::{Gpu, GpuFunction, GpuGraph};

use crate::{Emulator, EmulatorOptions};

/// One or the other.
#[allow(clippy::large_enum_variant)] // one a test
pub enum TestDevice {
    /// Interpreted.
    Emulated(Emulator),
    /// Real.
    Gpu(Gpu),
}

/// A kernel of one or the other.
#[derive(Clone)]
pub enum TestFunction {
    /// Interpreted.
    Emulated(<Emulator as Driver>::Function),
    /// Real.
    Gpu(GpuFunction),
}

/// A captured sequence of one or the other.
pub enum TestGraph {
    /// Interpreted.
    Emulated(<Emulator as Driver>::Graph),
    /// Real.
    Gpu(GpuGraph),
}

const MIXED: &str = "kernels and graphs of the device that made them";

impl TestDevice {
    /// The device that the environment asks for.
    ///
    /// # Panics
    /// If it asks for a GPU and there is none, or for what is neither: tests must not pass on another device than asked.
    #[allow(clippy::new_without_default)] // it reads the environment
    pub fn new() -> Self {
        Self::in_order(EmulatorOptions::default().seed)
    }

    /// The same; where it is emulated warps take turns in an order of this seed.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn in_order(seed: u64) -> Self {
        match std::env::var("NEUROHORIZON_TEST_DEVICE").as_deref() {
            Ok("cuda") => TestDevice::Gpu(Gpu::open(0).expect("NEUROHORIZON_TEST_DEVICE asks for a GPU")),
            Ok("emulator") | Err(_) => TestDevice::with(EmulatorOptions {
                seed,
                ..EmulatorOptions::default()
            }),
            Ok(other) => panic!("NEUROHORIZON_TEST_DEVICE is {other}, not cuda or emulator"),
        }
    }

    /// Emulated, whatever the environment asks for.
    pub fn with(options: EmulatorOptions) -> Self {
        TestDevice::Emulated(Emulator::new(options))
    }
}

macro_rules! either {
    ($self:ident, $device:ident => $call:expr) => {
        match $self {
            TestDevice::Emulated($device) => $call,
            TestDevice::Gpu($device) => $call,
        }
    };
}

impl Driver for TestDevice {
    type Function = TestFunction;
    type Graph = TestGraph;

    fn capability(&self) -> Capability {
        either!(self, device => device.capability())
    }

    fn load(&mut self, name: &str, ptx: &str, entry: &str, shared_bytes: u32) -> Result<TestFunction, DriverError> {
        Ok(match self {
            TestDevice::Emulated(device) => TestFunction::Emulated(device.load(name, ptx, entry, shared_bytes)?),
            TestDevice::Gpu(device) => TestFunction::Gpu(device.load(name, ptx, entry, shared_bytes)?),
        })
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError> {
        either!(self, device => device.allocate(bytes))
    }
    fn free(&mut self, address: Address) {
        either!(self, device => device.free(address))
    }
    fn map(&mut self, bytes: usize) -> Result<Mapped, DriverError> {
        either!(self, device => device.map(bytes))
    }
    fn write_mapped(&mut self, mapped: Mapped, offset: usize, data: &[u8]) {
        either!(self, device => device.write_mapped(mapped, offset, data))
    }
    fn read_mapped(&mut self, mapped: Mapped, offset: usize, data: &mut [u8]) {
        either!(self, device => device.read_mapped(mapped, offset, data))
    }
    fn write(&mut self, address: Address, data: &[u8]) -> Result<(), DriverError> {
        either!(self, device => device.write(address, data))
    }
    fn read(&mut self, address: Address, data: &mut [u8]) -> Result<(), DriverError> {
        either!(self, device => device.read(address, data))
    }

    fn launch(&mut self, launch: &Launch<'_, TestFunction>) -> Result<(), DriverError> {
        fn with<'a, F>(launch: &Launch<'a, TestFunction>, function: &'a F) -> Launch<'a, F> {
            Launch {
                function,
                grid: launch.grid,
                block: launch.block,
                shared_bytes: launch.shared_bytes,
                cooperative: launch.cooperative,
                cluster: launch.cluster,
                parameters: launch.parameters,
            }
        }
        match (self, launch.function) {
            (TestDevice::Emulated(device), TestFunction::Emulated(function)) => device.launch(&with(launch, function)),
            (TestDevice::Gpu(device), TestFunction::Gpu(function)) => device.launch(&with(launch, function)),
            _ => panic!("{MIXED}"),
        }
    }

    fn begin_capture(&mut self) -> Result<(), DriverError> {
        either!(self, device => device.begin_capture())
    }
    fn end_capture(&mut self) -> Result<TestGraph, DriverError> {
        Ok(match self {
            TestDevice::Emulated(device) => TestGraph::Emulated(device.end_capture()?),
            TestDevice::Gpu(device) => TestGraph::Gpu(device.end_capture()?),
        })
    }
    fn replay(&mut self, graph: &TestGraph) -> Result<(), DriverError> {
        match (self, graph) {
            (TestDevice::Emulated(device), TestGraph::Emulated(graph)) => device.replay(graph),
            (TestDevice::Gpu(device), TestGraph::Gpu(graph)) => device.replay(graph),
            _ => panic!("{MIXED}"),
        }
    }

    fn finished(&mut self) -> Result<bool, DriverError> {
        either!(self, device => device.finished())
    }
    fn synchronise(&mut self) -> Result<(), DriverError> {
        either!(self, device => device.synchronise())
    }
}
