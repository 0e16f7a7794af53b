//! A device that is watched, and that breaks on purpose.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use emulator::{EmulatorOptions, TestDevice, TestFunction, TestGraph};
use kernels::cuda::driver::{Address, Capability, Driver, DriverError, Launch, Mapped};

/// How it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What is replayed never ends.
    Hangs,
    /// What is replayed ends with an error.
    Fails,
}

/// A device that replays sequences a number of times, and then does not.
pub struct BreakingDevice {
    device: TestDevice,
    replays: usize,
    fault: Fault,
    broken: bool,
    launched: Launched,
    taken: Arc<AtomicUsize>,
}

/// Names of the kernels that were launched or captured, in order.
pub type Launched = Arc<Mutex<Vec<String>>>;

/// A kernel, and its name.
#[derive(Clone)]
pub struct NamedFunction {
    entry: String,
    function: TestFunction,
}

impl BreakingDevice {
    /// Breaks at replay number `replays`, counted from 0.
    pub fn new(replays: usize, fault: Fault) -> Self {
        BreakingDevice {
            replays,
            fault,
            ..BreakingDevice::watched(TestDevice::with(EmulatorOptions::default()))
        }
    }

    /// Never breaks.
    pub fn watched(device: TestDevice) -> Self {
        BreakingDevice {
            device,
            replays: usize::MAX,
            fault: Fault::Fails,
            broken: false,
            launched: Arc::default(),
            taken: Arc::default(),
        }
    }

    /// What it launches, now and later.
    pub fn launched(&self) -> Launched {
        self.launched.clone()
    }

    /// Bytes that were asked for, now and later.
    pub fn taken(&self) -> Arc<AtomicUsize> {
        self.taken.clone()
    }
}

impl Driver for BreakingDevice {
    type Function = NamedFunction;
    type Graph = TestGraph;

    fn capability(&self) -> Capability {
        self.device.capability()
    }
    fn load(&mut self, name: &str, ptx: &str, entry: &str, shared_bytes: u32) -> Result<NamedFunction, DriverError> {
        Ok(NamedFunction {
            entry: entry.to_string(),
            function: self.device.load(name, ptx, entry, shared_bytes)?,
        })
    }
    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError> {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        self.device.allocate(bytes)
    }
    fn free(&mut self, address: Address) {
        self.device.free(address);
    }
    fn map(&mut self, bytes: usize) -> Result<Mapped, DriverError> {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        self.device.map(bytes)
    }
    fn write_mapped(&mut self, mapped: Mapped, offset: usize, data: &[u8]) {
        self.device.write_mapped(mapped, offset, data);
    }
    fn read_mapped(&mut self, mapped: Mapped, offset: usize, data: &mut [u8]) {
        self.device.read_mapped(mapped, offset, data);
    }
    fn write(&mut self, address: Address, data: &[u8]) -> Result<(), DriverError> {
        self.device.write(address, data)
    }
    fn read(&mut self, address: Address, data: &mut [u8]) -> Result<(), DriverError> {
        self.device.read(address, data)
    }
    fn launch(&mut self, launch: &Launch<'_, NamedFunction>) -> Result<(), DriverError> {
        let NamedFunction { entry, function } = launch.function;
        self.launched.lock().expect("nobody panics with it").push(entry.clone());
        self.device.launch(&Launch {
            function,
            grid: launch.grid,
            block: launch.block,
            shared_bytes: launch.shared_bytes,
            cooperative: launch.cooperative,
            cluster: launch.cluster,
            parameters: launch.parameters,
        })
    }
    fn begin_capture(&mut self) -> Result<(), DriverError> {
        self.device.begin_capture()
    }
    fn end_capture(&mut self) -> Result<TestGraph, DriverError> {
        self.device.end_capture()
    }
    fn replay(&mut self, graph: &TestGraph) -> Result<(), DriverError> {
        self.broken |= self.replays == 0;
        if self.broken {
            return Ok(());
        }
        self.replays -= 1;
        self.device.replay(graph)
    }
    fn finished(&mut self) -> Result<bool, DriverError> {
        match (self.broken, self.fault) {
            (false, _) => self.device.finished(),
            (true, Fault::Hangs) => Ok(false),
            (true, Fault::Fails) => Err(DriverError("broken on purpose".into())),
        }
    }
    fn synchronise(&mut self) -> Result<(), DriverError> {
        self.device.synchronise()
    }
}
