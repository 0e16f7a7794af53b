//! [`Gpu`]: the driver of a real device, through cudarc. libcuda is looked for when the program runs; without it
//! [`Gpu::open`] says so and nothing else of cudarc is touched.

use std::ffi::{c_int, c_void, CString};
use std::sync::Arc;
use std::thread::ThreadId;

use cudarc::driver::{result, sys, CudaContext};

use super::driver::{Address, Capability, Driver, DriverError, Launch, Mapped};
use super::template::without_comments;

/// Compute capability times ten that the kernels need: cp.async, ldmatrix, m16n8k16.
pub const LEAST_COMPUTE: u32 = 80;
/// CUDA version that the machine's driver must support, as the driver counts: the one that PTX 7.8 came with. Older drivers
/// lack functions that launching needs.
const LEAST_DRIVER: c_int = 11_080;

/// A kernel on the device. The context outlives it: [`Gpu`] keeps it.
#[derive(Clone, Copy)]
pub struct GpuFunction(sys::CUfunction);
// SAFETY: a handle that the driver API lets any thread use; the context is made current before it is used.
unsafe impl Send for GpuFunction {}

/// A captured sequence.
pub struct GpuGraph {
    graph: sys::CUgraph,
    executable: sys::CUgraphExec,
    /// Keeps the device open until the graph is gone.
    context: Arc<CudaContext>,
}
// SAFETY: as for `GpuFunction`.
unsafe impl Send for GpuGraph {}

impl Drop for GpuGraph {
    fn drop(&mut self) {
        // A context that cannot be entered any more has taken the graph with it.
        if self.context.bind_to_thread().is_ok() {
            // SAFETY: both handles are this value's own and are used nowhere else.
            let _ = unsafe { result::graph::exec_destroy(self.executable) };
            // SAFETY: as above.
            let _ = unsafe { result::graph::destroy(self.graph) };
        }
    }
}

/// A GPU.
pub struct Gpu {
    context: Arc<CudaContext>,
    stream: sys::CUstream,
    capability: Capability,
    modules: Vec<sys::CUmodule>,
    mapped: Vec<(*mut u8, usize)>,
    /// The thread whose current context is this one.
    thread: Option<ThreadId>,
}
// SAFETY: the handles and the mapped memory are this value's own; every method makes the context current on the thread it
// is called on, and `&mut self` keeps two threads from calling at once.
unsafe impl Send for Gpu {}

fn failed(what: &str) -> impl FnOnce(result::DriverError) -> DriverError + '_ {
    move |error| DriverError(format!("{what}: {error:?}"))
}

/// Whether there is a first GPU that the kernels run on.
///
/// # Errors
/// As [`Gpu::open`].
pub fn available() -> Result<(), DriverError> {
    Gpu::open(0).map(drop)
}

impl Gpu {
    /// Opens device `ordinal`.
    ///
    /// # Errors
    /// Where there is no libcuda, no such device, or one older than the kernels need: one line that says which.
    pub fn open(ordinal: usize) -> Result<Self, DriverError> {
        // SAFETY: it tries to load the library and does nothing with it.
        if !unsafe { sys::is_culib_present() } {
            return Err(DriverError(
                "no libcuda: there is no NVIDIA driver on this machine".into(),
            ));
        }
        let mut version = 0;
        // SAFETY: the call writes one number.
        unsafe { sys::cuDriverGetVersion(&mut version) }
            .result()
            .map_err(failed("asking for the driver's version"))?;
        if version < LEAST_DRIVER {
            let (major, minor) = (version / 1000, version % 1000 / 10);
            return Err(DriverError(format!(
                "the machine's NVIDIA driver is for CUDA {major}.{minor}; the kernels need one for 11.8 or newer"
            )));
        }
        let context = CudaContext::new(ordinal).map_err(failed(&format!("opening CUDA device {ordinal}")))?;
        context
            .set_flags(sys::CUctx_flags::CU_CTX_SCHED_SPIN)
            .map_err(failed("asking to spin"))?;
        let attribute = |which: sys::CUdevice_attribute| {
            let value = context
                .attribute(which)
                .map_err(failed("reading the device's properties"))?;
            Ok(value.unsigned_abs())
        };
        use sys::CUdevice_attribute as A;
        let major = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(A::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let name = context.name().map_err(failed("reading the device's name"))?;
        let capability = Capability {
            compute: 10 * major + minor,
            multiprocessors: attribute(A::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_bytes: attribute(A::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            name,
        };
        if capability.compute < LEAST_COMPUTE {
            return Err(DriverError(format!(
                "{} has compute capability {major}.{minor}; the kernels need 8.0",
                capability.name
            )));
        }
        let (_, highest) = result::stream::get_priority_range().map_err(failed("asking for stream priorities"))?;
        let stream = result::stream::create_with_priority(result::stream::StreamKind::NonBlocking, highest)
            .map_err(failed("creating a stream"))?;
        Ok(Gpu {
            context,
            stream,
            capability,
            modules: Vec::new(),
            mapped: Vec::new(),
            thread: Some(std::thread::current().id()),
        })
    }

    /// Makes the context current on this thread.
    fn enter(&mut self) -> Result<(), DriverError> {
        let thread = std::thread::current().id();
        if self.thread != Some(thread) {
            self.context
                .bind_to_thread()
                .map_err(failed("making the device current"))?;
            self.thread = Some(thread);
        }
        Ok(())
    }

    fn compile(&mut self, name: &str, ptx: &str) -> Result<sys::CUmodule, DriverError> {
        let text = CString::new(ptx).map_err(|_| DriverError(format!("{name} contains a zero byte")))?;
        let mut log = vec![0u8; 8192];
        let mut options = [
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER,
            sys::CUjit_option::CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES,
        ];
        let mut values = [log.as_mut_ptr().cast::<c_void>(), log.len() as *mut c_void];
        let mut module = std::ptr::null_mut();
        // SAFETY: the text ends with a zero byte; the log lives until the call returns and its size is given.
        let result = unsafe {
            sys::cuModuleLoadDataEx(
                &mut module,
                text.as_ptr().cast(),
                options.len() as u32,
                options.as_mut_ptr(),
                values.as_mut_ptr(),
            )
        };
        result.result().map_err(|error| {
            let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
            let said = String::from_utf8_lossy(&log[..end]);
            DriverError(format!("assembling {name}: {error:?}: {}", said.trim()))
        })?;
        self.modules.push(module);
        Ok(module)
    }
}

impl Driver for Gpu {
    type Function = GpuFunction;
    type Graph = GpuGraph;

    fn capability(&self) -> Capability {
        self.capability.clone()
    }

    fn load(&mut self, name: &str, ptx: &str, entry: &str, shared_bytes: u32) -> Result<GpuFunction, DriverError> {
        self.enter()?;
        let module = self.compile(name, &without_comments(ptx))?;
        let entry_name = CString::new(entry).map_err(|_| DriverError(format!("no entry {entry:?}")))?;
        // SAFETY: the module was just loaded.
        let function = unsafe { result::module::get_function(module, entry_name) }
            .map_err(failed(&format!("finding {entry} in {name}")))?;
        use sys::CUfunction_attribute as A;
        // SAFETY: the function is valid.
        unsafe {
            result::function::set_function_attribute(
                function,
                A::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                shared_bytes as c_int,
            )
        }
        .map_err(failed(&format!("giving {entry} {shared_bytes} bytes of shared memory")))?;
        if self.capability.compute >= 90 {
            // SAFETY: the function is valid.
            unsafe {
                result::function::set_function_attribute(
                    function,
                    A::CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED,
                    1,
                )
            }
            .map_err(failed(&format!("allowing {entry} large clusters")))?;
        }
        Ok(GpuFunction(function))
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError> {
        self.enter()?;
        // SAFETY: nothing reads the memory before it is written.
        unsafe { result::malloc_sync(bytes) }.map_err(failed(&format!("allocating {bytes} bytes")))
    }

    fn free(&mut self, address: Address) {
        if self.enter().is_ok() {
            // SAFETY: the address came from `allocate`; the call waits for what uses it. A device that failed has nothing
            // left to free.
            let _ = unsafe { result::free_sync(address) };
        }
    }

    fn map(&mut self, bytes: usize) -> Result<Mapped, DriverError> {
        self.enter()?;
        let what = format!("mapping {bytes} bytes of host memory");
        let flags = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE;
        // SAFETY: the memory is this value's until it is dropped.
        let host = unsafe { result::malloc_host(bytes, flags) }.map_err(failed(&what))?;
        let host = host.cast::<u8>();
        // SAFETY: `bytes` bytes were just allocated there.
        unsafe { std::ptr::write_bytes(host, 0, bytes) };
        let mut address = 0;
        // SAFETY: the pointer is that of mapped memory.
        unsafe { sys::cuMemHostGetDevicePointer_v2(&mut address, host.cast(), 0) }
            .result()
            .map_err(failed(&what))?;
        self.mapped.push((host, bytes));
        Ok(Mapped {
            address,
            bytes,
            id: self.mapped.len() - 1,
        })
    }

    fn write_mapped(&mut self, mapped: Mapped, offset: usize, data: &[u8]) {
        let (host, bytes) = self.mapped[mapped.id];
        assert!(offset + data.len() <= bytes);
        // SAFETY: within the allocation; the device does not write what the host writes.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), host.add(offset), data.len()) };
        // What follows, a launch or a doorbell, must not be seen before this.
        std::sync::atomic::fence(std::sync::atomic::Ordering::Release);
    }

    fn read_mapped(&mut self, mapped: Mapped, offset: usize, data: &mut [u8]) {
        let (host, bytes) = self.mapped[mapped.id];
        assert!(offset + data.len() <= bytes);
        let (words, rest) = data.as_chunks_mut::<4>();
        let aligned = offset.is_multiple_of(4) && rest.is_empty();
        if aligned {
            for (i, word) in words.iter_mut().enumerate() {
                // SAFETY: within the allocation and aligned; the device may write the word meanwhile, whole.
                *word = unsafe { host.add(offset + 4 * i).cast::<u32>().read_volatile() }.to_ne_bytes();
            }
        } else {
            for (i, byte) in data.iter_mut().enumerate() {
                // SAFETY: within the allocation.
                *byte = unsafe { host.add(offset + i).read_volatile() };
            }
        }
        // What is read next, after a flag, must not be older than the flag.
        std::sync::atomic::fence(std::sync::atomic::Ordering::Acquire);
    }

    fn write(&mut self, address: Address, data: &[u8]) -> Result<(), DriverError> {
        self.synchronise()?;
        // SAFETY: callers write within what they allocated.
        unsafe { result::memcpy_htod_sync(address, data) }.map_err(failed("copying to the device"))
    }

    fn read(&mut self, address: Address, data: &mut [u8]) -> Result<(), DriverError> {
        self.synchronise()?;
        // SAFETY: callers read within what they allocated.
        unsafe { result::memcpy_dtoh_sync(data, address) }.map_err(failed("copying from the device"))
    }

    fn launch(&mut self, launch: &Launch<'_, GpuFunction>) -> Result<(), DriverError> {
        self.enter()?;
        let mut size = launch.parameters.len();
        // The protocol of `extra`: pointer, size, end.
        let mut extra = [
            std::ptr::without_provenance_mut(1),
            launch.parameters.as_ptr().cast_mut().cast(),
            std::ptr::without_provenance_mut(2),
            (&raw mut size).cast(),
            std::ptr::null_mut(),
        ];
        use sys::CUlaunchAttributeID as Id;
        let value = |value: sys::CUlaunchAttributeValue, id: Id| sys::CUlaunchAttribute { id, pad: [0; 4], value };
        let cooperative = value(
            sys::CUlaunchAttributeValue {
                cooperative: c_int::from(launch.cooperative),
            },
            Id::CU_LAUNCH_ATTRIBUTE_COOPERATIVE,
        );
        let cluster = value(
            sys::CUlaunchAttributeValue {
                clusterDim: sys::CUlaunchAttributeValue_union__bindgen_ty_1 {
                    x: launch.cluster,
                    y: 1,
                    z: 1,
                },
            },
            Id::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
        );
        let mut attributes = [cooperative, cluster];
        let config = sys::CUlaunchConfig {
            gridDimX: launch.grid[0],
            gridDimY: launch.grid[1],
            gridDimZ: launch.grid[2],
            blockDimX: launch.block,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: launch.shared_bytes,
            hStream: self.stream,
            attrs: attributes.as_mut_ptr(),
            numAttrs: if launch.cluster > 1 { 2 } else { 1 },
        };
        // SAFETY: the function is of this context; parameters, their size and the attributes live until the call returns.
        unsafe { sys::cuLaunchKernelEx(&config, launch.function.0, std::ptr::null_mut(), extra.as_mut_ptr()) }
            .result()
            .map_err(failed("launching"))
    }

    fn begin_capture(&mut self) -> Result<(), DriverError> {
        self.enter()?;
        // Relaxed: buffers may be allocated while the first of a sequence is captured.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream is this value's own.
        unsafe { result::stream::begin_capture(self.stream, mode) }.map_err(failed("beginning to capture"))
    }

    fn end_capture(&mut self) -> Result<GpuGraph, DriverError> {
        self.enter()?;
        // SAFETY: the stream is this value's own and captures.
        let graph = unsafe { result::stream::end_capture(self.stream) }.map_err(failed("capturing"))?;
        // SAFETY: the graph was just captured.
        let executable = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) }
            .map_err(failed("instantiating a graph"))?;
        // SAFETY: both are valid.
        unsafe { result::graph::upload(executable, self.stream) }.map_err(failed("uploading a graph"))?;
        Ok(GpuGraph {
            graph,
            executable,
            context: self.context.clone(),
        })
    }

    fn replay(&mut self, graph: &GpuGraph) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the graph is of this context.
        unsafe { result::graph::launch(graph.executable, self.stream) }.map_err(failed("launching a graph"))
    }

    fn finished(&mut self) -> Result<bool, DriverError> {
        self.enter()?;
        // SAFETY: the stream is this value's own.
        match unsafe { sys::cuStreamQuery(self.stream) } {
            sys::CUresult::CUDA_SUCCESS => Ok(true),
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            other => Err(failed("a kernel failed")(result::DriverError(other))),
        }
    }

    fn synchronise(&mut self) -> Result<(), DriverError> {
        self.enter()?;
        // SAFETY: the stream is this value's own.
        unsafe { result::stream::synchronize(self.stream) }.map_err(failed("a kernel failed"))
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // What a kernel that hangs still uses is left to it, the context too, which is kept from being let go of: waiting for
        // the kernel here would hang the caller as well. Errors while letting go of a device that failed have nobody to be
        // told to.
        if !matches!(self.finished(), Ok(true)) {
            std::mem::forget(self.context.clone());
            return;
        }
        // SAFETY: every handle is this value's own and is used no more, and the device is done.
        unsafe {
            let _ = result::stream::destroy(self.stream);
            for &module in &self.modules {
                let _ = result::module::unload(module);
            }
            for &(host, _) in &self.mapped {
                let _ = result::free_host(host.cast());
            }
        }
    }
}
