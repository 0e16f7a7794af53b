//! Kernels with one thing wrong each, and that it is found.

mod common;
use common::{module, Setup};
use emulator::EmulatorOptions;

/// Every lane loads its word.
const LOAD: &str = "mul.wide.u32 %wide, %t, 4; add.u64 %at, %in, %wide; ld.global.u32 %n, [%at];\n";
/// Every thread stores `%n`.
const STORE: &str = "mul.wide.u32 %wide, %t, 4; add.u64 %at, %out, %wide; st.global.u32 [%at], %n;\n";

fn numbers(count: u32) -> Vec<u32> {
    (0..count).collect()
}

/// Fails in all orders of warps with a text that has all of these parts.
fn found(setup: &Setup, body: &str, parts: &[&str]) {
    for seed in 0..4 {
        let mut setup = setup.clone();
        setup.options.seed = seed;
        let error = setup.wrong(body, &numbers(256), 256);
        for part in parts.iter().chain(&["kernel `k`", "line "]) {
            assert!(error.contains(part), "seed {seed}: {part:?} is not in: {error}");
        }
    }
}

/// Runs in all orders.
fn right(setup: &Setup, body: &str, output: usize) {
    for seed in 0..4 {
        let mut setup = setup.clone();
        setup.options.seed = seed;
        setup.words(body, &numbers(256), output);
    }
}

/// A block turns its words around by way of shared memory.
fn turn(barrier: &str) -> String {
    format!(
        "{LOAD} .shared .align 4 .b8 words[1024]; .reg .b32 %a, %b;
        mov.u32 %a, words; mad.lo.u32 %b, %t, 4, %a; st.shared.u32 [%b], %n;
        {barrier}
        sub.u32 %b, 255, %t; mad.lo.u32 %b, %b, 4, %a; ld.shared.u32 %n, [%b];
        {STORE} ret;"
    )
}

#[test]
fn a_missing_barrier() {
    let setup = Setup::threads(256);
    right(&setup, &turn("bar.sync 0;"), 256);
    // Whichever warp is first reads what was never written; if the words were, it is a race.
    let clear = "st.shared.u32 [%b], 0;";
    let body = turn("").replace(
        "st.shared.u32 [%b], %n;",
        &format!("{clear} bar.sync 0; st.shared.u32 [%b], %n;"),
    );
    let body = body.replacen("st.shared.u32 [%b], 0", "st.shared.u32 [%b], %t", 1);
    found(&setup, &body, &["race: ", "shared memory", "no barrier between"]);
    found(&setup, &turn(""), &["thread "]);
}

#[test]
fn a_missing_barrier_of_a_warp() {
    let body = |barrier| {
        format!(
            "{LOAD} .shared .align 4 .b8 words[128]; .reg .b32 %a, %b;
            mov.u32 %a, words; mad.lo.u32 %b, %t, 4, %a; st.shared.u32 [%b], %n;
            {barrier}
            xor.b32 %b, %t, 1; mad.lo.u32 %b, %b, 4, %a; ld.shared.u32 %n, [%b];
            {STORE} ret;"
        )
    };
    let setup = Setup::default();
    right(&setup, &body("bar.warp.sync -1;"), 32);
    right(&setup, &body("bar.sync 0;"), 32);
    right(&setup, &body("shfl.sync.idx.b32 %b, %n, 0, 31, -1;"), 32);
    found(
        &setup,
        &body(""),
        &["race: reads what thread 1 has written", "thread 0"],
    );
}

#[test]
fn a_race_on_what_others_still_read() {
    let body = |barrier| {
        format!(
            "{LOAD} .shared .align 4 .b8 words[1024]; .reg .b32 %a, %b;
            mov.u32 %a, words; mad.lo.u32 %b, %t, 4, %a; st.shared.u32 [%b], %n;
            bar.sync 0;
            ld.shared.u32 %n, [words];
            {barrier}
            st.shared.u32 [%b], %n;
            {STORE} ret;"
        )
    };
    right(&Setup::threads(256), &body("bar.sync 0;"), 256);
    found(&Setup::threads(256), &body(""), &["race: "]);
}

#[test]
fn a_race_in_global_memory() {
    let body = |barrier| {
        format!(
            "{LOAD} {STORE} {barrier}
            sub.u32 %t, 255, %t;
            mul.wide.u32 %wide, %t, 4; add.u64 %at, %out, %wide; ld.global.u32 %n, [%at]; st.global.u32 [%at], %n; ret;"
        )
    };
    right(&Setup::threads(256), &body("bar.sync 0;"), 256);
    let setup = Setup::threads(256);
    let error = setup.wrong(&body(""), &numbers(256), 256);
    assert!(error.contains("never written") || error.contains("race"), "{error}");
    // Halves of one word belong to different threads.
    let halves =
        "cvt.u16.u32 %h, %t; mul.wide.u32 %wide, %t, 2; add.u64 %at, %out, %wide; st.global.u16 [%at], %h; ret;";
    right(&setup, &format!(".reg .b16 %h; {halves}"), 128);
}

#[test]
fn a_race_between_blocks() {
    let mut setup = Setup {
        grid: [4, 1, 1],
        ..Setup::default()
    };
    found(
        &setup,
        &format!("{LOAD} {STORE} ret;"),
        &["race: writes what thread 0 of block", "has written"],
    );
    // Atomics may meet.
    let atomic = "setp.ge.u32 %p, %t, 1; @%p ret; red.global.add.u32 [%in], 1;";
    let fenced = "membar.gl; atom.global.add.u32 %n, [%in+4], 1;";
    setup.grid = [4, 1, 1];
    let last = format!(
        ".reg .pred %p; .reg .b32 %c; {atomic} mov.u32 %c, %ctaid.x; mul.wide.u32 %wide, %c, 4; add.u64 %at, %out, %wide;
         st.global.u32 [%at], %c; {fenced} setp.ne.u32 %p, %n, 4; @%p ret; membar.gl;
         ld.global.u32 %n, [%out+4]; st.global.u32 [%out+16], %n; ret;"
    );
    let mut output = setup.words(&last, &numbers(32), 5);
    assert_eq!(output.pop(), Some(1));
}

#[test]
fn one_word_beyond_an_allocation() {
    let body = format!("{LOAD} {STORE} ret;");
    let error = Setup::threads(256).wrong(&body, &numbers(255), 256);
    for part in [
        "line 15 `ld.global.u32 %n, [%at];`: block (0, 0, 0), thread 255: ",
        "4 bytes beyond the end",
        "of 1020 bytes",
    ] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    let error = Setup::threads(256).wrong(&body, &numbers(256), 255);
    assert!(
        error.contains("st.global.u32") && error.contains("beyond the end of an allocation of 1020 bytes"),
        "{error}"
    );
    found(
        &Setup::default(),
        "ld.global.u32 %n, [%in+-4]; ret;",
        &["4 bytes before an allocation"],
    );
    found(
        &Setup::default(),
        "ld.shared.u32 %n, [dynamic]; ret;",
        &["outside of the 0 bytes of shared memory"],
    );
    found(
        &Setup {
            shared: 64,
            ..Setup::default()
        },
        "st.shared.u32 [dynamic+62], %t; ret;",
        &["misaligned"],
    );
    found(
        &Setup {
            shared: 64,
            ..Setup::default()
        },
        "st.shared.u32 [dynamic+64], %t; ret;",
        &["outside of the 64 bytes"],
    );
}

#[test]
fn misaligned() {
    found(
        &Setup::default(),
        "ld.global.u32 %n, [%in+2]; ret;",
        &["misaligned", "byte 2 of an allocation"],
    );
    let vector = ".reg .b32 %v<4>; ld.global.v4.u32 {%v0, %v1, %v2, %v3}, [%in+8]; ret;";
    found(&Setup::default(), vector, &["misaligned", "not a multiple of 16"]);
    let matrix = ".shared .align 16 .b8 rows[1024]; .reg .b32 %a, %b; mov.u32 %b, rows; mad.lo.u32 %a, %t, 16, %b;
        ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%a}, [%a]; ret;";
    found(
        &Setup::default(),
        &matrix.replace("{%a}", "{%n}"),
        &["ldmatrix", "never written"],
    );
    let filled = ".reg .b32 %k; mov.u32 %k, 0; $fill: mad.lo.u32 %a, %k, 128, %b; mad.lo.u32 %a, %t, 4, %a;
        st.shared.u32 [%a], %k; add.u32 %k, %k, 1; setp.lt.u32 %p, %k, 8; @%p bra $fill; bar.sync 0;";
    let matrix = matrix.replace(
        "mad.lo.u32 %a, %t, 16",
        &format!(".reg .pred %p; {filled} mad.lo.u32 %a, %t, 18"),
    );
    found(
        &Setup::default(),
        &matrix.replace("{%a}", "{%n}"),
        &["ldmatrix", "misaligned", "thread 1"],
    );
    let copy = ".shared .align 16 .b8 rows[64]; .reg .b32 %a; mov.u32 %a, rows; cp.async.cg.shared.global [%a], [%in+8], 16; ret;";
    found(&Setup::threads(1), copy, &["misaligned", "not a multiple of 16"]);
}

#[test]
fn what_was_never_written() {
    found(
        &Setup::default(),
        ".reg .b32 %x; add.u32 %n, %x, 1; ret;",
        &["`%x`, which was never written", "thread 0"],
    );
    let some = ".reg .b32 %x; .reg .pred %p; setp.ne.u32 %p, %t, 5; @%p mov.u32 %x, 1; add.u32 %n, %x, 1; ret;";
    found(&Setup::default(), some, &["`%x`", "thread 5"]);
    found(&Setup::default(), ".reg .pred %p; @%p ret; ret;", &["`%p`"]);
    found(
        &Setup::default(),
        "ld.global.u32 %n, [%out]; ret;",
        &["never written", "byte 0 of an allocation of 1024"],
    );
    let part = ".reg .b16 %h; cvt.u16.u32 %h, %t; setp.ne.u32 %p, %t, 0; @%p ret;
        st.global.u16 [%out], %h; ld.global.u32 %n, [%out]; ret;";
    found(
        &Setup::default(),
        &format!(".reg .pred %p; {part}"),
        &["never written", "byte 2 of"],
    );
    let shared = Setup {
        shared: 128,
        ..Setup::default()
    };
    found(
        &shared,
        "ld.shared.u32 %n, [dynamic+8]; ret;",
        &["never written", "byte 8 of shared memory"],
    );
}

/// A thread copies 16 bytes and reads them, or another's.
fn copied(wait: &str, from: &str) -> String {
    format!(
        ".shared .align 16 .b8 rows[4096]; .reg .b32 %a, %b; mov.u32 %b, rows; mad.lo.u32 %a, %t, 16, %b;
        and.b32 %n, %t, 15; mul.wide.u32 %wide, %n, 16; add.u64 %at, %in, %wide;
        cp.async.cg.shared.global [%a], [%at], 16; cp.async.commit_group;
        {wait}
        {from} mad.lo.u32 %a, %t, 16, %b; ld.shared.u32 %n, [%a]; {STORE} ret;"
    )
}

#[test]
fn asynchronous_copies() {
    let setup = Setup::threads(64);
    let other = "xor.b32 %t, %t, 1;";
    right(&setup, &copied("cp.async.wait_group 0;", ""), 64);
    right(&setup, &copied("cp.async.wait_all; bar.sync 0;", other), 64);
    found(&setup, &copied("", ""), &["asynchronous copy", "cp.async.wait_group"]);
    found(&setup, &copied("cp.async.wait_group 1;", ""), &["asynchronous copy"]);
    found(&setup, &copied("bar.sync 0;", other), &["asynchronous copy"]);
    found(&setup, &copied("cp.async.wait_group 0;", other), &["race: "]);
}

#[test]
fn warp_wide_steps_without_all_lanes() {
    let inactive = ".reg .pred %p; .reg .b32 %x; mov.u32 %x, 0; setp.lt.u32 %p, %t, 16;
        @%p shfl.sync.down.b32 %x, %t, 8, 31, 0xffff; ret;";
    found(&Setup::default(), inactive, &["reads lane 16", "not among the members"]);
    let exited = ".reg .pred %p; setp.eq.u32 %p, %t, 3; @%p ret; shfl.sync.bfly.b32 %n, %t, 1, 31, -1; ret;";
    found(
        &Setup::default(),
        exited,
        &["thread 2", "reads lane 3, which is not here"],
    );
    let divergent = ".reg .pred %p; setp.lt.u32 %p, %t, 16; @%p bar.warp.sync -1; ret;";
    found(&Setup::default(), divergent, &["lane 16 is among the members"]);
    let divergent = ".reg .pred %p; setp.lt.u32 %p, %t, 16; @%p bar.sync 0; ret;";
    found(&Setup::default(), divergent, &["divergent"]);
    let alone = ".reg .pred %p; setp.lt.u32 %p, %t, 16; @%p vote.sync.ballot.b32 %n, %p, 0xff; ret;";
    found(&Setup::default(), alone, &["thread 8", "not among the members"]);
    let few = ".reg .f32 %c<4>; mov.f32 %c0, 0f00000000; mov.f32 %c1, %c0; mov.f32 %c2, %c0; mov.f32 %c3, %c0;
        mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%c0, %c1, %c2, %c3}, {%t, %t}, {%t}, {%c0, %c1, %c2, %c3}; ret;";
    found(&Setup::threads(20), few, &["all 32 threads"]);
}

#[test]
fn launches_that_do_not_end() {
    let mut setup = Setup::threads(64);
    setup.options.steps = 10_000;
    found(
        &setup,
        "$again: bra $again;",
        &["did not finish", "`bra $again;`", "threads 32 and on"],
    );
    let deadlock = ".reg .pred %p; setp.lt.u32 %p, %t, 32; @%p bar.sync 1; @!%p bar.sync 2; ret;";
    found(&setup, deadlock, &["waits at barriers", "barrier 1", "barrier 2"]);
    let exited = ".reg .pred %p; setp.lt.u32 %p, %t, 32; @%p ret; bar.sync 0; ret;";
    found(
        &setup,
        exited,
        &["waits at barriers", "threads 32 and on", "1 warps are done"],
    );
    found(&setup, "bar.sync 0, 128; ret;", &["there are fewer"]);
    found(&setup, "trap;", &["the kernel trapped"]);
    found(
        &setup,
        ".reg .pred %p; setp.eq.u32 %p, %t, 0; @%p bra.uni $x; $x: ret;",
        &["`.uni` promises"],
    );
}

#[test]
fn nothing_is_checked_unless_asked() {
    let setup = Setup {
        options: EmulatorOptions {
            sanitize: false,
            ..EmulatorOptions::default()
        },
        ..Setup::threads(256)
    };
    let data = setup.run(
        &module(&turn("")),
        &common::bytes(&numbers(256), u32::to_le_bytes),
        1024,
    );
    assert!(data.is_ok());
}
