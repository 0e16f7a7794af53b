//! Lists of rows: the host writes them to mapped memory, `ptx/inputs.ptx` copies them to the device.

use super::device::Kernel;
use super::driver::Driver;
use super::elementwise::cover;
use super::parameters::Parameters;
use super::storage::CudaRows;
use super::CudaBackend;

const SET_ROWS: Kernel = Kernel {
    file: "inputs.ptx",
    text: include_str!("../../ptx/inputs.ptx"),
    entry: "set_rows",
    block: 256,
};

impl<D: Driver> CudaBackend<D> {
    pub(super) fn new_rows(&mut self, capacity: usize) -> CudaRows {
        let bytes = 4 * (1 + capacity);
        let list = self.device.allocate(bytes);
        let staging = self.device.staging(bytes);
        self.device.write(list.address, &0u32.to_le_bytes());
        CudaRows {
            list,
            staging,
            capacity,
            count: 0,
        }
    }

    /// Replaces the list. The launch is the same for any count. Within a sequence that repeats a list is set at most once:
    /// a second time would replace what the first launch is still to read.
    pub(super) fn write_rows(&mut self, rows: &mut CudaRows, values: &[u32]) {
        assert!(values.len() <= rows.capacity, "more rows than the list has room for");
        rows.count = values.len();
        self.device
            .stage(rows.staging.mapped, 0, &(values.len() as u32).to_le_bytes());
        self.device.stage(rows.staging.mapped, 4, bytemuck::cast_slice(values));
        let parameters = Parameters::new()
            .address(rows.staging.mapped.address)
            .address(rows.list.address);
        self.device.launch(SET_ROWS, cover(1 + rows.capacity), &parameters);
    }
}
