//! The CUDA backend: hand-written PTX (`kernels/ptx`) and the launch plans of it, over any [`driver::Driver`].

pub mod driver;
