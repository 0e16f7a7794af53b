//! The parameters of one launch, as the kernel's entry declares them.

/// Room for the parameters of any kernel here.
const CAPACITY: usize = 512;

/// Parameters in the order of the entry's declaration; each at the next multiple of its size, as the CUDA ABI lays them out.
#[derive(Debug, Clone)]
pub struct Parameters {
    bytes: [u8; CAPACITY],
    used: usize,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            bytes: [0; CAPACITY],
            used: 0,
        }
    }
}

impl Parameters {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn put<const N: usize>(mut self, value: [u8; N]) -> Self {
        let at = self.used.next_multiple_of(N);
        self.bytes[at..at + N].copy_from_slice(&value);
        self.used = at + N;
        self
    }

    /// A `.u64`: an address.
    pub fn address(self, value: u64) -> Self {
        self.put(value.to_le_bytes())
    }

    /// A `.u64`: two words of a random generator's key or counter.
    pub fn long(self, value: u64) -> Self {
        self.put(value.to_le_bytes())
    }

    /// A `.u32`: a size or a flag.
    pub fn word(self, value: usize) -> Self {
        self.put(
            u32::try_from(value)
                .expect("sizes of kernels are below 2³²")
                .to_le_bytes(),
        )
    }

    /// A `.f32`.
    pub fn float(self, value: f32) -> Self {
        self.put(value.to_le_bytes())
    }

    /// A matrix: its address and the distance of its rows in elements, a `.u64` and a `.u32`.
    pub fn matrix(self, slice: super::storage::Slice) -> Self {
        self.address(slice.address).word(slice.stride)
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}
