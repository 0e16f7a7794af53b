//! [`Emulator`]: the interpreter as a device.

use std::collections::HashMap;
use std::sync::Arc;

use kernels::cuda::driver::{Address, Capability, Driver, DriverError, Launch, Mapped};

use crate::decode::{kernel, Kernel};
use crate::memory::global::Global;
use crate::options::EmulatorOptions;
use crate::ptx::parser::parse;
use crate::ptx::tree::Place;
use crate::ptx::Refusal;
use crate::run::block::Shape;
use crate::run::launch::Run;

/// A device that interprets PTX.
#[derive(Debug)]
pub struct Emulator {
    options: EmulatorOptions,
    global: Global,
    /// Goes on with every barrier, so that touches of different launches are told apart.
    clock: u32,
    capture: Option<Vec<Recorded>>,
    failure: Option<DriverError>,
    steps: u64,
}

/// A kernel that was loaded.
#[derive(Debug, Clone)]
pub struct Function(Arc<Kernel>);

/// Launches that were recorded.
#[derive(Debug, Clone)]
pub struct Graph(Vec<Recorded>);

/// A launch with its own parameters.
#[derive(Debug, Clone)]
struct Recorded {
    function: Function,
    shape: Shape,
    cooperative: bool,
    parameters: Vec<u8>,
}

impl Emulator {
    /// A device.
    pub fn new(options: EmulatorOptions) -> Self {
        Self {
            options,
            global: Global::default(),
            clock: 1,
            capture: None,
            failure: None,
            steps: 0,
        }
    }

    /// Steps of warps that all launches made.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    fn shape(&self, launch: &Launch<'_, Function>) -> Shape {
        Shape {
            grid: launch.grid,
            threads: launch.block,
            dynamic: launch.shared_bytes,
            shared: launch.function.0.shared_bytes + launch.shared_bytes,
            cluster: launch.cluster,
            multiprocessors: self.options.multiprocessors,
        }
    }

    fn run(
        &mut self,
        function: &Function,
        shape: Shape,
        cooperative: bool,
        parameters: &[u8],
    ) -> Result<(), DriverError> {
        self.failed()?;
        let run = Run {
            kernel: &function.0,
            shape,
            cooperative,
            parameters,
            options: &self.options,
        };
        run.check().map_err(DriverError)?;
        match run.run(&mut self.global, &mut self.clock) {
            Ok(steps) => {
                self.steps += steps;
                Ok(())
            }
            Err(what) if self.options.deferred => {
                self.failure = Some(DriverError(what));
                Ok(())
            }
            Err(what) => Err(DriverError(what)),
        }
    }

    /// The failure that nobody was told, if there is one.
    fn failed(&mut self) -> Result<(), DriverError> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn mapped(&mut self, mapped: Mapped) -> &mut crate::memory::region::Region {
        let region = self
            .global
            .allocation(mapped.id)
            .and_then(|allocation| allocation.region.as_mut());
        region.unwrap_or_else(|| panic!("mapped memory {} is not of this emulator", mapped.id))
    }
}

impl Default for Emulator {
    fn default() -> Self {
        Self::new(EmulatorOptions::default())
    }
}

/// Where the module's variables lie that a kernel does not have to itself.
fn place_variables(global: &mut Global, module: &crate::ptx::tree::Module) -> HashMap<String, u64> {
    let mut places = HashMap::new();
    for variable in module
        .variables
        .iter()
        .filter(|variable| variable.place != Place::Shared)
    {
        let (number, address) = global.allocate(variable.bytes.unwrap_or(0), true, &format!("`{}`", variable.name));
        if let Some(region) = global
            .allocation(number)
            .and_then(|allocation| allocation.region.as_mut())
        {
            region.write(0, &variable.content);
        }
        places.insert(variable.name.clone(), address);
    }
    places
}

impl Driver for Emulator {
    type Function = Function;
    type Graph = Graph;

    fn capability(&self) -> Capability {
        Capability {
            name: "emulator".into(),
            compute: self.options.compute,
            multiprocessors: self.options.multiprocessors,
            shared_bytes: self.options.shared_bytes,
        }
    }

    fn load(&mut self, name: &str, ptx: &str, entry: &str, shared_bytes: u32) -> Result<Function, DriverError> {
        let refused = |refusal: Refusal| {
            let text = ptx
                .lines()
                .nth(refusal.line as usize - 1)
                .map_or_else(String::new, crate::decode::code_of);
            DriverError(format!(
                "{name}: kernel `{entry}`, line {} `{text}`: {}",
                refusal.line, refusal.what
            ))
        };
        let module = parse(ptx).map_err(refused)?;
        if module.target > self.options.compute {
            return Err(DriverError(format!(
                "{name}: made for capability {}, and the device has {}",
                module.target, self.options.compute
            )));
        }
        let Some(tree) = module.entries.iter().find(|tree| tree.name == entry) else {
            return Err(DriverError(format!("{name}: there is no kernel `{entry}`")));
        };
        let places = place_variables(&mut self.global, &module);
        let kernel = kernel(&module, tree, ptx, &places, shared_bytes).map_err(refused)?;
        if kernel.shared_bytes + shared_bytes > self.options.shared_bytes {
            return Err(DriverError(format!(
                "{name}: kernel `{entry}` with {} + {shared_bytes} bytes of shared memory; a block has {}",
                kernel.shared_bytes, self.options.shared_bytes
            )));
        }
        Ok(Function(Arc::new(kernel)))
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, DriverError> {
        if bytes == 0 {
            return Err(DriverError("an allocation of no bytes".into()));
        }
        Ok(self.global.allocate(bytes, false, "an allocation").1)
    }

    fn free(&mut self, address: Address) {
        if let Err(what) = self.global.free(address) {
            self.failure.get_or_insert(DriverError(format!("free: {what}")));
        }
    }

    fn map(&mut self, bytes: usize) -> Result<Mapped, DriverError> {
        if bytes == 0 {
            return Err(DriverError("mapped memory of no bytes".into()));
        }
        let (id, address) = self.global.allocate(bytes, true, "mapped memory");
        Ok(Mapped { address, bytes, id })
    }

    fn write_mapped(&mut self, mapped: Mapped, offset: usize, data: &[u8]) {
        self.mapped(mapped).write(offset, data);
    }

    fn read_mapped(&mut self, mapped: Mapped, offset: usize, data: &mut [u8]) {
        data.copy_from_slice(&self.mapped(mapped).data[offset..offset + data.len()]);
    }

    fn write(&mut self, address: Address, data: &[u8]) -> Result<(), DriverError> {
        self.failed()?;
        if data.is_empty() {
            return Ok(());
        }
        let found = self.global.locate(address, data.len(), &mut 0);
        let (region, offset) = found.map_err(|what| DriverError(format!("write: {what}")))?;
        region.write(offset, data);
        Ok(())
    }

    fn read(&mut self, address: Address, data: &mut [u8]) -> Result<(), DriverError> {
        self.failed()?;
        if data.is_empty() {
            return Ok(());
        }
        let sanitize = self.options.sanitize;
        let found = self.global.locate(address, data.len(), &mut 0);
        let (region, offset) = found.map_err(|what| DriverError(format!("read: {what}")))?;
        let readable = region.readable(offset, data.len());
        data.copy_from_slice(&region.data[offset..offset + data.len()]);
        match readable {
            Err(
                crate::memory::region::Unreadable::Unwritten(byte) | crate::memory::region::Unreadable::Pending(byte),
            ) if sanitize => {
                let at = self.global.describe(address + (byte - offset) as u64);
                Err(DriverError(format!("read: what was never written: {at}")))
            }
            _ => Ok(()),
        }
    }

    fn launch(&mut self, launch: &Launch<'_, Function>) -> Result<(), DriverError> {
        let shape = self.shape(launch);
        let Some(recorded) = &mut self.capture else {
            return self.run(launch.function, shape, launch.cooperative, launch.parameters);
        };
        let run = Run {
            kernel: &launch.function.0,
            shape,
            cooperative: launch.cooperative,
            parameters: launch.parameters,
            options: &self.options,
        };
        run.check().map_err(DriverError)?;
        recorded.push(Recorded {
            function: launch.function.clone(),
            shape,
            cooperative: launch.cooperative,
            parameters: launch.parameters.to_vec(),
        });
        Ok(())
    }

    fn begin_capture(&mut self) -> Result<(), DriverError> {
        if self.capture.is_some() {
            return Err(DriverError("a capture is under way".into()));
        }
        self.capture = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&mut self) -> Result<Graph, DriverError> {
        self.capture
            .take()
            .map(Graph)
            .ok_or_else(|| DriverError("no capture is under way".into()))
    }

    fn replay(&mut self, graph: &Graph) -> Result<(), DriverError> {
        for recorded in &graph.0 {
            self.run(
                &recorded.function,
                recorded.shape,
                recorded.cooperative,
                &recorded.parameters,
            )?;
        }
        Ok(())
    }

    fn finished(&mut self) -> Result<bool, DriverError> {
        self.failed().map(|()| true)
    }

    fn synchronise(&mut self) -> Result<(), DriverError> {
        self.failed()
    }
}
