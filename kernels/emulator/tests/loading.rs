//! What is refused when a kernel is loaded, and what of the driver is not about one kernel's steps.

mod common;
use common::{module, wrapped};
use emulator::{Emulator, EmulatorOptions};
use kernels::cuda::driver::{Driver, DriverError, Launch};

fn refused(text: &str) -> String {
    match Emulator::default().load("text", text, "k", 64) {
        Ok(_) => panic!("it is not refused:\n{text}"),
        Err(DriverError(what)) => what,
    }
}

/// A module whose body the assembler is not asked about.
fn body(body: &str) -> String {
    format!(
        ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 a, .param .u32 n)\n{{\n\
         .reg .b32 %r<4>; .reg .b64 %l; .reg .f32 %f; .reg .b16 %h; .reg .pred %p; .reg .u32 %u;\n{body}\nret;\n}}\n"
    )
}

#[test]
fn what_is_not_known_is_refused_with_its_line() {
    for (text, part) in [
        ("dp4a.u32.u32 %r0, %r1, %r2, %r3;", "`dp4a.u32.u32`: is not known"),
        ("add.u32.fast %r0, %r1, %r2;", "`.fast` is not known of it"),
        ("add.rz.f32 %f, %f, %f;", "only `.rn` is known"),
        ("add.u32 %r0, %r1, %x;", "`%x` is not declared"),
        ("add.u32 %r0, %r1, %tid.x;", "`%tid.x` can only be moved"),
        ("add.u32 %r0, %r1, %l;", "`%l` has 64 bits, not 32"),
        ("add.u32 %f, %r1, %r1;", "declared as F(32)"),
        ("mul.f32 %f, %u, %f;", "declared as U(32)"),
        ("add.f32 %f, %f, 2;", "an integer stands for a float"),
        ("add.u32 %r0, %r1;", "2 operands where 3"),
        ("and.u32 %r0, %r1, %r2;", "not known of this type"),
        ("neg.u32 %r0, %r1;", "not known of this type"),
        ("setp.lt.b32 %p, %r1, %r2;", "`.lt` is not known of it"),
        ("mul.u32 %r0, %r1, %r2;", "`.lo`, `.hi` or `.wide` is expected"),
        ("fma.f32 %f, %f, %f, %f;", "`.rn` is expected"),
        ("cvt.f16.f32 %h, %f;", "direction of rounding"),
        ("cvt.rn.u32.f32 %r0, %f;", "direction of rounding"),
        ("ld.u32 %r0, [%l];", "a space"),
        ("ld.global.u32 %r0, [%r1];", "has 32 bits, a global address 64"),
        ("ld.global.u32 %h, [%l];", "the result has 32 bits, and its register 16"),
        ("ld.global.v2.u64 %l, [%l];", "registers in braces"),
        ("ld.param.u64 %l, [n];", "`n` has 4 bytes"),
        ("ld.param.u32 %r0, [m];", "`m` is not a parameter"),
        ("ld.global.u32 %r0, [%l-4];", "`]` is expected"),
        ("bra $nowhere;", "there is no label `$nowhere`"),
        ("@%r0 bra $x; $x:", "`%r0` is not a predicate"),
        ("cp.async.cg.shared.global [%r0], [%l], 8;", "4, 8 or 16 bytes"),
        ("atom.global.add.b32 %r0, [%l], %r1;", "not known of this type"),
        (
            "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%r0}, {%r1}, {%r2}, {%r3};",
            "this product is not known",
        ),
        (".reg .b32 %r0;", "declared twice"),
        (".local .b8 x[4];", "is not known in a kernel"),
        ("mov.u32 %r0, 8/0;", "division by zero"),
        ("mov.u32 %r0, 09;", "is not a number"),
        ("mov.u32 %r0, 5", "`,` is expected"),
        ("mov.u32 %r0, #;", "means nothing here"),
    ] {
        let what = refused(&body(text));
        let known = "line 7 ";
        // A missing semicolon is found on the next line.
        assert!(
            what.contains(part) && (what.contains(known) || part.starts_with("`,`")),
            "{text}: {what}"
        );
        assert!(what.starts_with("text: kernel `k`, "), "{what}");
    }
}

#[test]
fn modules() {
    assert!(refused(&module("ret;").replace(" k(", " other(")).contains("there is no kernel `k`"));
    assert!(refused(".version 8.0\n.target sm_100\n.func f() { ret; }").contains("line 3"));
    assert!(refused(".version 8.0\n.target sm_100\n").contains("made for capability 100"));
    assert!(refused(".version 8.0\n.target avx\n").contains("the target `avx` is not known"));
    assert!(refused("/* no end\n").contains("does not end"));
    let large = body("").replace("ret;", ".shared .b8 x[232400]; ret;");
    assert!(refused(&large).contains("bytes of shared memory"));
    let fine = wrapped(
        "7.8",
        "sm_80",
        ".maxntid 128, 1, 1\n.minnctapersm 2",
        "/* a\n comment */ ret; // another\n",
    );
    assert!(Emulator::default().load("text", &fine, "k", 0).is_ok());
}

#[test]
fn tables_of_a_module() {
    let text = ".version 7.8\n.target sm_80\n.address_size 64\n
        .const .align 4 .b32 table[4] = {1, 2*3, 0x10, -1};\n.global .f32 scale = 0.5;\n.global .align 8 .b8 counter[8];\n
        .visible .entry k(.param .u64 out)\n{\n.reg .b32 %r; .reg .b64 %l, %c; .reg .f32 %f;\n
        ld.param.u64 %l, [out];\nld.const.b32 %r, [table+4];\nst.global.b32 [%l], %r;\nmov.u64 %c, table;\n
        ld.const.b32 %r, [%c+12];\nst.global.b32 [%l+4], %r;\nld.global.f32 %f, [scale];\nst.global.f32 [%l+8], %f;\n
        atom.global.add.u32 %r, [counter], 1;\nst.global.b32 [%l+12], %r;\nret;\n}\n";
    common::assemble(text, "sm_80");
    let mut emulator = Emulator::default();
    let function = emulator
        .load("tables", text, "k", 0)
        .unwrap_or_else(|error| panic!("{error}"));
    let out = emulator.allocate(16).expect("memory");
    let run = |emulator: &mut Emulator| {
        let parameters = out.to_le_bytes();
        let launch = Launch {
            block: 1,
            ..launch(&function, &parameters)
        };
        emulator.launch(&launch).unwrap_or_else(|error| panic!("{error}"));
        let mut data = [0; 16];
        emulator.read(out, &mut data).expect("what was written");
        common::words(&data)
    };
    assert_eq!(run(&mut emulator), [6, u32::MAX, 0.5f32.to_bits(), 0]);
    assert_eq!(run(&mut emulator)[3], 1);
}

fn launch<'a>(function: &'a emulator::Function, parameters: &'a [u8]) -> Launch<'a, emulator::Function> {
    Launch {
        function,
        grid: [1, 1, 1],
        block: 32,
        shared_bytes: 0,
        cooperative: false,
        cluster: 1,
        parameters,
    }
}

/// A kernel that adds one to a word.
fn counter() -> String {
    let body = ".reg .pred %p; setp.eq.u32 %p, %t, 0; @!%p ret; ld.global.u32 %n, [%in]; add.u32 %n, %n, 1; st.global.u32 [%in], %n; ret;";
    wrapped("7.8", "sm_80", ".maxntid 64", body)
}

/// Parameters of a kernel of the common form.
fn parameters(input: u64, output: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&input.to_le_bytes());
    bytes.extend_from_slice(&output.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes
}

#[test]
fn launches_must_fit_their_kernel() {
    let mut emulator = Emulator::default();
    let function = emulator.load("counter", &counter(), "k", 16).expect("a kernel");
    let right = parameters(0, 0);
    let wrong =
        |launch: Launch<'_, emulator::Function>| Emulator::default().launch(&launch).expect_err("it is wrong").0;
    assert!(wrong(launch(&function, &right[..16])).contains("16 bytes of parameters; it declares 20"));
    assert!(wrong(Launch {
        block: 96,
        ..launch(&function, &right)
    })
    .contains("`.maxntid` is 64"));
    assert!(wrong(Launch {
        block: 0,
        ..launch(&function, &right)
    })
    .contains("blocks of 0 threads"));
    assert!(wrong(Launch {
        grid: [1, 0, 1],
        ..launch(&function, &right)
    })
    .contains("a grid of"));
    assert!(wrong(Launch {
        shared_bytes: 32,
        ..launch(&function, &right)
    })
    .contains("32 bytes of dynamic shared memory"));
    assert!(wrong(Launch {
        cluster: 2,
        ..launch(&function, &right)
    })
    .contains("clusters of 2 blocks"));
}

#[test]
fn graphs_keep_their_parameters() {
    let mut emulator = Emulator::default();
    let function = emulator.load("counter", &counter(), "k", 0).expect("a kernel");
    let mapped = emulator.map(8).expect("memory");
    let mut bytes = parameters(mapped.address, 0);
    emulator.begin_capture().expect("no capture is under way");
    emulator.launch(&launch(&function, &bytes)).expect("it is recorded");
    emulator.launch(&launch(&function, &bytes)).expect("it is recorded");
    bytes.fill(0);
    let graph = emulator.end_capture().expect("a capture is under way");
    let mut data = [0; 8];
    emulator.read_mapped(mapped, 0, &mut data);
    assert_eq!(data, [0; 8]);
    emulator.write_mapped(mapped, 0, &[40, 0, 0, 0]);
    emulator.replay(&graph).expect("it runs");
    emulator.replay(&graph).expect("it runs");
    assert!(emulator.finished().expect("nothing failed"));
    emulator.read_mapped(mapped, 0, &mut data);
    assert_eq!(data[0], 44);
    assert!(emulator.end_capture().is_err());
}

#[test]
fn memory_that_was_freed() {
    let mut emulator = Emulator::default();
    let function = emulator.load("counter", &counter(), "k", 0).expect("a kernel");
    let memory = emulator.allocate(100).expect("memory");
    assert_eq!(memory % 256, 0);
    assert!(emulator
        .read(memory, &mut [0; 4])
        .expect_err("nothing is there")
        .0
        .contains("never written"));
    emulator.write(memory, &[7; 100]).expect("there is room");
    emulator
        .launch(&launch(&function, &parameters(memory, 0)))
        .expect("it runs");
    let beyond = emulator.write(memory + 96, &[0; 8]).expect_err("no room").0;
    assert!(
        beyond.contains("4 bytes beyond the end of an allocation of 100 bytes"),
        "{beyond}"
    );
    emulator.free(memory);
    let error = emulator
        .launch(&launch(&function, &parameters(memory, 0)))
        .expect_err("it is gone")
        .0;
    assert!(
        error.contains("memory that was freed") && error.contains("ld.global.u32 %n, [%in];"),
        "{error}"
    );
    emulator.synchronise().expect("it was told once");
    emulator.free(memory);
    assert!(emulator
        .synchronise()
        .expect_err("freed twice")
        .0
        .contains("was freed already"));
}

#[test]
fn failures_may_wait_until_they_are_asked_for() {
    let mut emulator = Emulator::new(EmulatorOptions {
        deferred: true,
        ..EmulatorOptions::default()
    });
    let function = emulator.load("counter", &counter(), "k", 0).expect("a kernel");
    emulator
        .launch(&launch(&function, &parameters(64, 0)))
        .expect("it fails later");
    assert!(emulator
        .finished()
        .expect_err("it failed")
        .0
        .contains("outside of any allocation"));
    emulator.synchronise().expect("it was told once");
}
