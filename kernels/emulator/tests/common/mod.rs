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

/// Runs an instruction for every tuple of operands and gives what it leaves in `result`. Operands are `%x %y %z %w` of 64
/// bits, `%a %b %c %d` of 32 (their low halves) and `%ha %hb %hc` of 16; the result is `%l`, `%r` or `%h`, of as many, or
/// 1 or 0 for the predicate `%p`. `%q` is true for an odd `%w`.
pub fn apply(instruction: &str, result: &str, operands: &[[u64; 4]]) -> Vec<u64> {
    let stored = match result {
        "%l" => "",
        "%r" => "cvt.u64.u32 %l, %r;",
        "%h" => "cvt.u64.u16 %l, %h;",
        "%p" => "selp.u64 %l, 1, 0, %p;",
        _ => panic!("{result} is not a result"),
    };
    let body = format!(
        ".reg .b64 %x, %y, %z, %w, %l; .reg .b32 %a, %b, %c, %d, %r, %block; .reg .b16 %ha, %hb, %hc, %h; .reg .pred %p, %q;
        mov.u32 %block, %ctaid.x; mad.lo.u32 %t, %block, 128, %t;
        setp.ge.u32 %p, %t, {}; @%p ret;
        mul.wide.u32 %wide, %t, 32; add.u64 %at, %in, %wide;
        ld.global.v2.b64 {{%x, %y}}, [%at]; ld.global.v2.b64 {{%z, %w}}, [%at+16];
        cvt.u32.u64 %a, %x; cvt.u32.u64 %b, %y; cvt.u32.u64 %c, %z; cvt.u32.u64 %d, %w;
        cvt.u16.u32 %ha, %a; cvt.u16.u32 %hb, %b; cvt.u16.u32 %hc, %c;
        and.b32 %r, %d, 1; setp.ne.u32 %q, %r, 0;
        {instruction}
        {stored}
        mul.wide.u32 %wide, %t, 8; add.u64 %at, %out, %wide;
        st.global.b64 [%at], %l; ret;",
        operands.len()
    );
    let input: Vec<u8> = operands
        .iter()
        .flatten()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let grid = [operands.len().div_ceil(128) as u32, 1, 1];
    let options = EmulatorOptions {
        steps: 100_000_000,
        ..EmulatorOptions::default()
    };
    let setup = Setup {
        options,
        grid,
        block: 128,
        ..Setup::default()
    };
    let module = if instruction.contains("bf16") {
        cluster_module("", &body)
    } else {
        module(&body)
    };
    let output = setup
        .run(&module, &input, operands.len() * 8)
        .unwrap_or_else(|error| panic!("{error}"));
    output
        .chunks_exact(8)
        .map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes")))
        .collect()
}

/// All pairs of values, with two more that vary.
pub fn pairs(values: &[u64]) -> Vec<[u64; 4]> {
    let mut out = Vec::new();
    for (i, a) in values.iter().enumerate() {
        for (j, b) in values.iter().enumerate() {
            out.push([
                *a,
                *b,
                values[(i + 3 * j + 1) % values.len()],
                values[(2 * i + j + 2) % values.len()],
            ]);
        }
    }
    out
}

/// Checks an instruction against a function of the operands.
pub fn check(instruction: &str, result: &str, operands: &[[u64; 4]], expected: impl Fn([u64; 4]) -> u64) {
    for (operands, got) in operands.iter().zip(apply(instruction, result, operands)) {
        let expected = expected(*operands);
        assert!(
            got == expected,
            "{instruction} of {operands:x?} gives {got:x}, not {expected:x}"
        );
    }
}

/// Integers near everything that matters.
pub fn integers() -> Vec<u64> {
    let mut values = vec![
        0, 1, 2, 3, 5, 7, 31, 32, 33, 63, 64, 65, 100, 0x7fff, 0x8000, 0xffff, 0x1_0000,
    ];
    values.extend([
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        0xffff_fff0,
        0x1_0000_0000,
        0x1234_5678_9abc_def0,
    ]);
    values.extend([
        i64::MAX as u64,
        i64::MIN as u64,
        u64::MAX,
        u64::MAX - 1,
        0xdead_beef_0bad_cafe,
    ]);
    values
}
