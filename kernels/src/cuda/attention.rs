//! Attention.

use super::driver::Driver;
use super::storage::Slice;
use super::CudaBackend;
use crate::backend::Attention;
use crate::gradient::Attend;

impl<D: Driver> CudaBackend<D> {
    pub(super) fn launch_attention(&mut self, _args: Attention<'_, Self>, _out: Slice) {
        unimplemented!()
    }
    pub(super) fn reserve_attention(&mut self, _queries: usize, _keys: usize, _heads: usize, _head_dim: usize) {
        unimplemented!()
    }
    pub(super) fn launch_attend(&mut self, _args: Attend<'_, Self>, _weights: Slice, _out: Slice) {
        unimplemented!()
    }
    pub(super) fn launch_attend_backward(
        &mut self,
        _args: Attend<'_, Self>,
        _weights: Slice,
        _out: Slice,
        _gout: Slice,
        _to: [Slice; 3],
    ) {
        unimplemented!()
    }
}
