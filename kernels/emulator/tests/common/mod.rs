//! What all tests need: a device, kernels made of a body, launches that read and write arrays.
#![allow(dead_code)] // Every test file is a program of its own and uses some of this.

use emulator::{Emulator, EmulatorOptions};
use kernels::cuda::driver::{Driver, DriverError, Launch};

/// A module with one kernel `k` of two addresses and a count, around a body.
pub fn module(body: &str) -> String {
    wrapped("7.8", "sm_80", "", body)
}

/// The same with what clusters need.
pub fn cluster_module(directives: &str, body: &str) -> String {
    wrapped("8.0", "sm_90", directives, body)
}

/// The same, with directives of the kernel.
pub fn wrapped(version: &str, target: &str, directives: &str, body: &str) -> String {
    let module = format!(
        ".version {version}\n.target {target}\n.address_size 64\n.extern .shared .align 16 .b8 dynamic[];\n\
         .visible .entry k(.param .u64 input, .param .u64 output, .param .u32 count)\n{directives}\n{{\n\
         .reg .b64 %in, %out, %at, %wide;\n.reg .b32 %n, %t, %lane;\n\
         ld.param.u64 %in, [input];\nld.param.u64 %out, [output];\nld.param.u32 %n, [count];\n\
         mov.u32 %t, %tid.x;\nand.b32 %lane, %t, 31;\n{body}\n}}\n"
    );
    assemble(&module, target);
    module
}

/// Asks the assembler, where there is one, whether a module is right.
pub fn assemble(module: &str, target: &str) {
    let Some(ptxas) = std::env::var_os("PTXAS") else { return };
    use std::io::Write;
    use std::process::{Command, Stdio};
    let arch = if target == "sm_90" {
        "-arch=sm_90"
    } else {
        "-arch=sm_80"
    };
    let child = Command::new(ptxas)
        .args([arch, "/dev/stdin", "-o", "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.expect("the assembler starts");
    child
        .stdin
        .take()
        .expect("it reads")
        .write_all(module.as_bytes())
        .expect("it reads all");
    let output = child.wait_with_output().expect("it ends");
    assert!(
        output.status.success(),
        "{}\n{module}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Bytes of values.
pub fn bytes<const N: usize, T: Copy>(values: &[T], to: impl Fn(T) -> [u8; N]) -> Vec<u8> {
    values.iter().flat_map(|value| to(*value)).collect()
}

/// Words of bytes.
pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes
        .chunks_exact(4)
        .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]))
        .collect()
}

/// How a test launches.
#[derive(Clone)]
pub struct Setup {
    pub options: EmulatorOptions,
    pub grid: [u32; 3],
    pub block: u32,
    pub shared: u32,
    pub cooperative: bool,
    pub cluster: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            options: EmulatorOptions {
                steps: 1_000_000,
                ..EmulatorOptions::default()
            },
            grid: [1, 1, 1],
            block: 32,
            shared: 0,
            cooperative: false,
            cluster: 1,
        }
    }
}

impl Setup {
    /// So many threads.
    pub fn threads(block: u32) -> Self {
        Self {
            block,
            ..Self::default()
        }
    }

    /// Launches a module on an input, and gives so many bytes of output. Only those that the kernel wrote count.
    pub fn run(&self, module: &str, input: &[u8], output: usize) -> Result<Vec<u8>, DriverError> {
        let mut emulator = Emulator::new(self.options.clone());
        let function = emulator.load("test", module, "k", self.shared)?;
        let from = emulator.allocate(input.len().max(1))?;
        emulator.write(from, input)?;
        let to = emulator.allocate(output.max(1))?;
        let mut parameters = Vec::new();
        parameters.extend_from_slice(&from.to_le_bytes());
        parameters.extend_from_slice(&to.to_le_bytes());
        parameters.extend_from_slice(&(input.len() as u32 / 4).to_le_bytes());
        emulator.launch(&Launch {
            function: &function,
            grid: self.grid,
            block: self.block,
            shared_bytes: self.shared,
            cooperative: self.cooperative,
            cluster: self.cluster,
            parameters: &parameters,
        })?;
        emulator.synchronise()?;
        let mut data = vec![0; output];
        emulator.read(to, &mut data)?;
        Ok(data)
    }

    /// The words that a kernel writes.
    pub fn words(&self, body: &str, input: &[u32], output: usize) -> Vec<u32> {
        let module = if self.cluster > 1 {
            cluster_module("", body)
        } else {
            module(body)
        };
        let data = self.run(&module, &bytes(input, u32::to_le_bytes), output * 4);
        words(&data.unwrap_or_else(|error| panic!("{error}")))
    }

    /// What is wrong with a kernel.
    pub fn wrong(&self, body: &str, input: &[u32], output: usize) -> String {
        let module = if self.cluster > 1 {
            cluster_module("", body)
        } else {
            module(body)
        };
        match self.run(&module, &bytes(input, u32::to_le_bytes), output * 4) {
            Ok(_) => panic!("nothing is wrong with it"),
            Err(error) => error.0,
        }
    }
}
