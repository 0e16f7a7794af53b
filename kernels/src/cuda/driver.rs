//! [`Driver`]: the few things that the CUDA backend needs of a device. A GPU has them by way of its own driver
//! ([`super::gpu`]); any machine has them by way of the emulator (crate `emulator`), which interprets the same PTX text.
//!
//! Everything that is launched runs in order, one launch after the other, on one stream. Launches and replays return before
//! the device is done; [`Driver::finished`] asks, [`Driver::synchronise`] waits.

/// An address in device memory.
pub type Address = u64;

/// What a device is and can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// For people: what it is called.
    pub name: String,
    /// Compute capability times ten, 90 for 9.0: what kernels may ask for.
    pub compute: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block may have.
    pub shared_bytes: u32,
}

/// One launch of one kernel.
#[derive(Debug)]
pub struct Launch<'a, F> {
    /// What runs.
    pub function: &'a F,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads a block, along x alone.
    pub block: u32,
    /// Bytes of dynamic shared memory.
    pub shared_bytes: u32,
    /// All blocks are resident at once, so that they may wait for each other.
    pub cooperative: bool,
    /// Blocks along x that make a cluster; 1 for none.
    pub cluster: u32,
    /// The parameters, each at the next multiple of its own size, as the kernel declares them.
    pub parameters: &'a [u8],
}

/// Memory that the host and the device both see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// Where the device sees it.
    pub address: Address,
    /// Bytes.
    pub bytes: usize,
    /// The driver's own number of it.
    pub id: usize,
}

/// A device that refused or failed: what it was asked, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriverError(pub String);

impl std::fmt::Display for DriverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for DriverError {}

/// A device. Every method fails with what was asked for and what the device said to it.
pub trait Driver: Send {
    /// A kernel that can be launched.
    type Function: Clone + Send;
    /// Launches recorded between [`begin_capture`](Self::begin_capture) and [`end_capture`](Self::end_capture).
    type Graph: Send;

    /// What it is.
    fn capability(&self) -> Capability;

    /// Assembles PTX and finds an entry in it, which may use `shared_bytes` of dynamic shared memory and clusters of any
    /// size that the device has. `name` is for messages.
    fn load(&mut self, name: &str, ptx: &str, entry: &str, shared_bytes: u32) -> Result<Self::Function, DriverError>;

    /// Device memory, 256-byte aligned, its content undefined.
    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError>;
    /// Gives memory back. The address is one that [`allocate`](Self::allocate) gave.
    fn free(&mut self, address: Address);
    /// Host memory that the device reads and writes, zeros at first. Lives as long as the driver.
    fn map(&mut self, bytes: usize) -> Result<Mapped, DriverError>;
    /// Writes to mapped memory, by the host. What the device reads meanwhile is undefined. Does not allocate.
    fn write_mapped(&mut self, mapped: Mapped, offset: usize, data: &[u8]);
    /// Reads mapped memory, by the host. Does not allocate.
    fn read_mapped(&mut self, mapped: Mapped, offset: usize, data: &mut [u8]);
    /// Copies to the device, after everything launched before. Returns when `data` may be reused.
    fn write(&mut self, address: Address, data: &[u8]) -> Result<(), DriverError>;
    /// Copies from the device, after everything launched before.
    fn read(&mut self, address: Address, data: &mut [u8]) -> Result<(), DriverError>;

    /// Launches, or records if capturing. Does not allocate unless capturing.
    fn launch(&mut self, launch: &Launch<'_, Self::Function>) -> Result<(), DriverError>;
    /// From here on launches are recorded and do not run.
    fn begin_capture(&mut self) -> Result<(), DriverError>;
    /// The launches recorded.
    fn end_capture(&mut self) -> Result<Self::Graph, DriverError>;
    /// Launches everything recorded. Does not allocate.
    fn replay(&mut self, graph: &Self::Graph) -> Result<(), DriverError>;

    /// Whether all that was launched is done, without waiting. An error is that of the kernel which failed.
    fn finished(&mut self) -> Result<bool, DriverError>;
    /// Waits until all that was launched is done.
    fn synchronise(&mut self) -> Result<(), DriverError>;
}
