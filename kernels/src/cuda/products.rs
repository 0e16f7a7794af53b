//! Products of matrices.

use super::driver::Driver;
use super::storage::Slice;
use super::CudaBackend;

impl<D: Driver> CudaBackend<D> {
    pub(super) fn launch_weight_gradient(&mut self, _gy: Slice, _x: Slice, _gw: Slice) {
        unimplemented!()
    }
}
