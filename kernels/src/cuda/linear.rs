//! Linear layers.

use super::driver::Driver;
use super::storage::{CudaLinear, CudaTensor, Slice};
use super::CudaBackend;
use crate::backend::{LinearArgs, LinearSpec};

impl<D: Driver> CudaBackend<D> {
    pub(super) fn new_linear(&mut self, _spec: &LinearSpec<'_>) -> CudaLinear {
        unimplemented!()
    }
    pub(super) fn launch_linear(
        &mut self,
        _x: Slice,
        _layer: &CudaLinear,
        _args: LinearArgs<'_, CudaTensor>,
        _out: Slice,
    ) {
        unimplemented!()
    }
}
