//! Nanoseconds that a step of a warp takes, by kind, with everything checked.

use std::fmt::Write;
use std::time::Instant;

use emulator::{Emulator, EmulatorOptions};
use kernels::cuda::driver::{Driver, Launch};

/// Times a step repeats in the loop of a kernel.
const UNROLLED: usize = 16;

/// Times the loop runs.
const TIMES: u32 = 10_000;

/// Threads of the block.
const THREADS: u32 = 256;

/// A kernel that makes one step again and again. `#` in the step is a number that counts up.
fn kernel(step: &str) -> String {
    let mut body = String::new();
    for i in 0..UNROLLED {
        let _ = writeln!(body, "{}", step.replace('#', &i.to_string()));
    }
    format!(
        ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 memory)\n{{
        .shared .align 16 .b8 rows[4096];
        .reg .b32 %r<32>, %t, %k, %s, %m; .reg .b64 %l<32>, %at, %row; .reg .f32 %f<32>; .reg .pred %p, %q;
        mov.u32 %t, %tid.x; mul.wide.u32 %at, %t, 4; ld.param.u64 %l0, [memory]; add.u64 %at, %at, %l0;
        mul.wide.u32 %row, %t, 16; add.u64 %row, %row, %l0;
        mov.u32 %s, rows; mad.lo.u32 %m, %t, 16, %s; mad.lo.u32 %s, %t, 4, %s;
        mov.u32 %r0, 5; mov.u32 %r1, %t; mov.u32 %r2, 7; mov.u32 %r3, 9;
        mov.f32 %f0, 0f3F800000; mov.f32 %f1, 0f3F000000; mov.f32 %f2, %f1; mov.f32 %f3, %f1;
        st.shared.v4.u32 [%m], {{%r0, %r1, %r2, %r3}};
        setp.eq.u32 %p, %t, 3;
        mov.u32 %k, 0;
        bar.sync 0;
        $again:
        {body}
        add.u32 %k, %k, 1; setp.lt.u32 %p, %k, {TIMES}; @%p bra $again;
        ret;\n}}\n"
    )
}

fn nanoseconds(step: &str, sanitize: bool) -> f64 {
    let mut emulator = Emulator::new(EmulatorOptions {
        sanitize,
        ..EmulatorOptions::default()
    });
    let function = emulator
        .load("steps", &kernel(step), "k", 0)
        .unwrap_or_else(|error| panic!("{error}"));
    let memory = emulator.allocate(65536).unwrap_or_else(|error| panic!("{error}"));
    emulator
        .write(memory, &[0; 65536])
        .unwrap_or_else(|error| panic!("{error}"));
    let parameters = memory.to_le_bytes();
    let launch = Launch {
        function: &function,
        grid: [1, 1, 1],
        block: THREADS,
        shared_bytes: 0,
        cooperative: false,
        cluster: 1,
        parameters: &parameters,
    };
    let wall = Instant::now();
    let begin = processor();
    emulator.launch(&launch).unwrap_or_else(|error| panic!("{error}"));
    let taken = match (begin, processor()) {
        (Some(begin), Some(end)) => end - begin,
        _ => wall.elapsed().as_nanos() as f64,
    };
    taken / emulator.steps() as f64
}

/// Nanoseconds that this thread was on a processor, where the system tells, so that other programs do not count.
fn processor() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok()
}

fn main() {
    let steps = [
        ("add.u32", "add.u32 %r4, %r1, %r0;"),
        ("mad.lo.u32", "mad.lo.u32 %r4, %r1, %r0, %r2;"),
        ("mul.wide.u32", "mul.wide.u32 %l4, %r1, %r0;"),
        ("add.u64", "add.u64 %l4, %l0, %at;"),
        ("setp", "setp.lt.u32 %q, %r1, %r0;"),
        ("selp", "selp.u32 %r4, %r1, %r0, %p;"),
        ("fma.rn.f32", "fma.rn.f32 %f4, %f0, %f1, %f2;"),
        ("max.f32", "max.f32 %f4, %f0, %f1;"),
        ("ex2.approx.f32", "ex2.approx.f32 %f4, %f0;"),
        ("cvt.rn.f16x2.f32", "cvt.rn.f16x2.f32 %r4, %f0, %f1;"),
        ("ld.global.f32", "ld.global.f32 %f4, [%at];"),
        ("ld.global.v4.f32", "ld.global.v4.f32 {%f4, %f5, %f6, %f7}, [%row];"),
        ("ld.global.f32 apart", "ld.global.f32 %f4, [%row];"),
        ("ld.shared.f32", "ld.shared.f32 %f4, [%s];"),
        ("st.shared.f32", "st.shared.f32 [%s], %f0;"),
        ("st.global.f32", "st.global.f32 [%at], %f0;"),
        ("shfl.sync", "shfl.sync.bfly.b32 %r4, %r1, 1, 31, -1;"),
        ("ldmatrix.x4", "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r4, %r5, %r6, %r7}, [%m];"),
        (
            "mma.m16n8k16",
            "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f4, %f5, %f6, %f7}, {%r0, %r1, %r2, %r3}, {%r0, %r1}, \
             {%f0, %f1, %f2, %f3};",
        ),
        (
            "cp.async + wait",
            "cp.async.cg.shared.global [%m], [%row], 16; cp.async.commit_group; cp.async.wait_group 0;",
        ),
    ];
    println!("{:20} {:>9} {:>9}", "step", "checked", "unchecked");
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    for (name, step) in steps
        .iter()
        .filter(|(name, _)| wanted.as_deref().is_none_or(|wanted| name.contains(wanted)))
    {
        println!(
            "{name:20} {:6.0} ns {:6.0} ns",
            nanoseconds(step, true),
            nanoseconds(step, false)
        );
    }
}
