//! What an emulator is like.

/// How matrices are multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MmaModel {
    /// Sums in 64 bits, rounded once: what tests are compared with.
    #[default]
    F64,
    /// Terms and sums cut off as tensor cores of capability 9.0 do.
    Truncating,
}

/// What an emulator is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmulatorOptions {
    /// Compute capability times ten.
    pub compute: u32,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Bytes of shared memory that a block may have.
    pub shared_bytes: u32,
    /// Determines in which order warps and blocks run, and how long their turns are; 0 for the natural order.
    pub seed: u64,
    /// Whether everything is checked: memory, registers, races.
    pub sanitize: bool,
    /// A launch that made more steps of warps than these does not finish.
    pub steps: u64,
    /// How matrices are multiplied.
    pub mma: MmaModel,
    /// Whether a launch that fails says so only when next asked, as a GPU does.
    pub deferred: bool,
}

impl Default for EmulatorOptions {
    fn default() -> Self {
        Self {
            compute: 90,
            multiprocessors: 132,
            shared_bytes: 232_448,
            seed: 0,
            sanitize: true,
            steps: 1 << 31,
            mma: MmaModel::F64,
            deferred: false,
        }
    }
}
