//! A PTX interpreter with a sanitizer: an implementation of [`kernels::cuda::driver::Driver`] that needs no GPU.
//!
//! It is for tests. It knows what the kernels of this project use and a little more, and refuses everything else when a
//! kernel is loaded, with its line. A launch has run to its end when [`Driver::launch`](kernels::cuda::driver::Driver::launch)
//! returns; one that does something wrong fails with the kernel, the line and its text, the block, the thread and what was
//! wrong. These are wrong:
//!
//! - accesses outside of allocations or of a block's shared memory, to freed memory, or misaligned;
//! - reads of registers, shared or global memory that were never written;
//! - touches of one word of which one writes, with no barrier between: within a block, and between the blocks of a launch
//!   that is neither cooperative nor in clusters;
//! - touches of shared memory that an asynchronous copy has yet to fill;
//! - warp-wide instructions in which not all take part who should, and shuffles that read who does not;
//! - barriers at which not all come, and launches that do not end.
//!
//! Lanes of a warp run in lockstep, the ones least far first; warps and blocks take turns in an order that a seed determines.
//! Memory is sequentially consistent: missing fences are not found.
//!
//! Numbers are those of the hardware where that is specified. Approximate functions are rounded from 64 bits and so better
//! than on a GPU; for matrices see [`MmaModel`].

mod decode;
mod device;
mod driver;
mod lanes;
mod memory;
mod op;
mod options;
mod ptx;
mod random;
mod run;

pub use device::{TestDevice, TestFunction, TestGraph};
pub use driver::{Emulator, Function, Graph};
pub use options::{EmulatorOptions, MmaModel};
