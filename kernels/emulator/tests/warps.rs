//! Divergence, barriers, what lanes, warps and blocks tell each other.

mod common;
use common::Setup;

#[test]
fn a_sum_over_the_block() {
    let body = "
        .shared .align 4 .b8 parts[16];
        .reg .f32 %x, %y; .reg .pred %p; .reg .b32 %w, %a;
        mul.wide.u32 %wide, %t, 4;
        add.u64 %at, %in, %wide;
        ld.global.f32 %x, [%at];
        shfl.sync.bfly.b32 %y, %x, 16, 31, -1; add.f32 %x, %x, %y;
        shfl.sync.bfly.b32 %y, %x, 8, 31, -1; add.f32 %x, %x, %y;
        shfl.sync.bfly.b32 %y, %x, 4, 31, -1; add.f32 %x, %x, %y;
        shfl.sync.bfly.b32 %y, %x, 2, 31, -1; add.f32 %x, %x, %y;
        shfl.sync.bfly.b32 %y, %x, 1, 31, -1; add.f32 %x, %x, %y;
        shr.u32 %w, %t, 5;
        mov.u32 %a, parts;
        mad.lo.u32 %a, %w, 4, %a;
        setp.eq.u32 %p, %lane, 0;
        @%p st.shared.f32 [%a], %x;
        bar.sync 0;
        setp.ne.u32 %p, %t, 0;
        @%p bra $end;
        ld.shared.f32 %x, [parts];
        ld.shared.f32 %y, [parts+4]; add.f32 %x, %x, %y;
        ld.shared.f32 %y, [parts+8]; add.f32 %x, %x, %y;
        ld.shared.f32 %y, [parts+4*3]; add.f32 %x, %x, %y;
        st.global.f32 [%out], %x;
    $end:
        ret;";
    let input: Vec<u32> = (0..128).map(|i| (i as f32).to_bits()).collect();
    for seed in 0..5 {
        let mut setup = Setup::threads(128);
        setup.options.seed = seed;
        assert_eq!(f32::from_bits(setup.words(body, &input, 1)[0]), 8128.0);
    }
}

/// Every thread loads its word.
const LOAD: &str = "mul.wide.u32 %wide, %t, 4; add.u64 %at, %in, %wide; ld.global.u32 %n, [%at];\n";
/// Every thread stores `%n`.
const STORE: &str = "mul.wide.u32 %wide, %t, 4; add.u64 %at, %out, %wide; st.global.u32 [%at], %n;\n";

/// What a warp makes of the words 100, 101, ….
fn warp(body: &str) -> Vec<u32> {
    let input: Vec<u32> = (100..132).collect();
    Setup::default().words(
        &format!(".reg .pred %p, %q; .reg .b32 %x, %y; {LOAD} {body} {STORE} ret;"),
        &input,
        32,
    )
}

#[test]
fn shuffles() {
    let of = |f: &dyn Fn(u32) -> u32| (0..32).map(|lane| 100 + f(lane)).collect::<Vec<u32>>();
    let shuffle = |what: &str| warp(&format!("shfl.sync.{what}, -1;"));
    assert_eq!(shuffle("bfly.b32 %n, %n, 5, 31"), of(&|lane| lane ^ 5));
    assert_eq!(shuffle("idx.b32 %n, %n, 7, 31"), of(&|_| 7));
    assert_eq!(
        shuffle("down.b32 %n, %n, 3, 31"),
        of(&|lane| if lane + 3 < 32 { lane + 3 } else { lane })
    );
    assert_eq!(
        shuffle("up.b32 %n, %n, 3, 0"),
        of(&|lane| if lane >= 3 { lane - 3 } else { lane })
    );
    // Segments of eight lanes.
    assert_eq!(shuffle("idx.b32 %n, %n, 2, 0x181f"), of(&|lane| lane / 8 * 8 + 2));
    assert_eq!(
        shuffle("down.b32 %n, %n, 3, 0x181f"),
        of(&|lane| if lane % 8 + 3 < 8 { lane + 3 } else { lane })
    );
    assert_eq!(
        shuffle("up.b32 %n, %n, 3, 0x1800"),
        of(&|lane| if lane % 8 >= 3 { lane - 3 } else { lane })
    );
    let inside = warp("shfl.sync.down.b32 %x|%p, %n, 30, 31, -1; selp.u32 %n, %x, 0, %p;");
    assert_eq!(
        inside,
        (0..32)
            .map(|lane| if lane < 2 { 130 + lane } else { 0 })
            .collect::<Vec<_>>()
    );
    let odd = warp("and.b32 %x, %t, 1; setp.ne.u32 %p, %x, 0; @%p shfl.sync.bfly.b32 %n, %n, 2, 31, 0xaaaaaaaa;");
    assert_eq!(odd, of(&|lane| if lane % 2 == 1 { lane ^ 2 } else { lane }));
}

#[test]
fn votes_and_sums() {
    let same = |value: u32| vec![value; 32];
    let vote = |what: &str| {
        warp(&format!(
            "setp.lt.u32 %p, %t, 5; vote.sync.{what}; selp.u32 %n, 1, 0, %q;"
        ))
    };
    assert_eq!(vote("any.pred %q, %p, -1"), same(1));
    assert_eq!(vote("all.pred %q, %p, -1"), same(0));
    assert_eq!(vote("all.pred %q, !%p, -1"), same(0));
    assert_eq!(vote("uni.pred %q, %p, -1"), same(0));
    assert_eq!(
        warp("setp.lt.u32 %p, %t, 5; vote.sync.ballot.b32 %n, !%p, -1;"),
        same(!31)
    );
    assert_eq!(
        warp("setp.lt.u32 %p, %t, 5; @%p activemask.b32 %n; @!%p mov.u32 %n, 7;")[4..6],
        [31, 7]
    );
    assert_eq!(warp("redux.sync.add.u32 %n, %n, -1;"), same((100..132).sum()));
    assert_eq!(
        warp("sub.s32 %n, %n, 110; redux.sync.min.s32 %n, %n, -1;"),
        same(-10i32 as u32)
    );
    assert_eq!(
        warp("sub.s32 %n, %n, 110; redux.sync.max.u32 %n, %n, -1;"),
        same(u32::MAX)
    );
    assert_eq!(
        warp("redux.sync.xor.b32 %n, %n, -1;"),
        same((100..132).fold(0, |a, b| a ^ b))
    );
}

#[test]
fn special_registers() {
    let body = |name: &str| format!("mov.u32 %n, {name}; {STORE} ret;");
    let of = |name: &str| {
        Setup {
            shared: 48,
            ..Setup::threads(96)
        }
        .words(&body(name), &[0], 96)
    };
    let each = |f: &dyn Fn(u32) -> u32| (0..96).map(f).collect::<Vec<u32>>();
    assert_eq!(of("%laneid"), each(&|t| t % 32));
    assert_eq!(of("%warpid"), each(&|t| t / 32));
    assert_eq!(of("%nwarpid"), each(&|_| 3));
    assert_eq!(of("%ntid.x"), each(&|_| 96));
    assert_eq!(of("%lanemask_lt"), each(&|t| (1 << (t % 32)) - 1));
    assert_eq!(of("%lanemask_le"), each(&|t| ((2u64 << (t % 32)) - 1) as u32));
    assert_eq!(of("%lanemask_eq"), each(&|t| 1 << (t % 32)));
    assert_eq!(of("%dynamic_smem_size"), each(&|_| 48));
    let later =
        ".reg .b64 %c, %d; mov.u64 %c, %clock64; nanosleep.u32 10; mov.u64 %d, %clock64; setp.gt.u64 %p, %d, %c;
        selp.u32 %n, 1, 0, %p;";
    assert_eq!(warp(later), vec![1; 32]);
}

#[test]
fn lanes_go_their_own_ways() {
    // The Collatz sequence: nested branches in a loop that every lane leaves at another time.
    let body = "
        mov.u32 %x, 0;
    $step:
        setp.le.u32 %p, %n, 1;
        @%p bra $done;
        and.b32 %y, %n, 1;
        setp.eq.u32 %q, %y, 0;
        @%q bra $even;
        mad.lo.u32 %n, %n, 3, 1;
        bra.uni $next;
    $even:
        shr.u32 %n, %n, 1;
    $next:
        add.u32 %x, %x, 1;
        bra $step;
    $done:
        mov.u32 %n, %x;
        // Everybody is here again.
        shfl.sync.bfly.b32 %n, %n, 1, 31, -1;";
    let length = |mut n: u32| {
        let mut steps = 0;
        while n > 1 {
            n = if n.is_multiple_of(2) { n / 2 } else { 3 * n + 1 };
            steps += 1;
        }
        steps
    };
    assert_eq!(
        warp(body),
        (0..32).map(|lane| length(100 + (lane ^ 1))).collect::<Vec<_>>()
    );
    // Some leave altogether.
    let left = format!(".reg .pred %p; {LOAD} setp.lt.u32 %p, %t, 20; @!%p ret; {STORE} ret;");
    let input: Vec<u32> = (0..32).collect();
    assert_eq!(Setup::default().words(&left, &input, 20), (0..20).collect::<Vec<_>>());
}

#[test]
fn scopes_have_their_own_names() {
    let body = "{ .reg .b32 %x; mov.u32 %x, 5; setp.eq.u32 %p, %t, 0; @%p bra $out; mov.u32 %x, 6; $out: add.u32 %n, %n, %x; }
        { .reg .f32 %x<3>; mov.f32 %x2, 0f00000000; .shared .align 4 .b8 word[4]; st.shared.f32 [word], %x2; bra $out; $out: }";
    let body = body.replace("st.shared", "@%p st.shared");
    assert_eq!(warp(&body)[..2], [105, 107]);
}

#[test]
fn barriers_of_some_warps() {
    // Two pairs of warps hand words over, each pair at its own barrier.
    let body = format!(
        ".shared .align 4 .b8 words[512]; .reg .b32 %a, %b, %id; {LOAD}
        mov.u32 %a, words; mad.lo.u32 %b, %t, 4, %a; st.shared.u32 [%b], %n;
        shr.u32 %id, %t, 6; add.u32 %id, %id, 1;
        bar.sync %id, 64;
        xor.b32 %b, %t, 32; mad.lo.u32 %b, %b, 4, %a; ld.shared.u32 %n, [%b]; {STORE} ret;"
    );
    let input: Vec<u32> = (0..128).collect();
    for seed in 0..4 {
        let mut setup = Setup::threads(128);
        setup.options.seed = seed;
        assert_eq!(
            setup.words(&body, &input, 128),
            input.iter().map(|t| t ^ 32).collect::<Vec<_>>()
        );
        // With the wrong partner it is a race.
        let error = setup.wrong(&body.replace("%t, 32;", "%t, 64;"), &input, 128);
        assert!(error.contains("race") || error.contains("never written"), "{error}");
    }
}

#[test]
fn atomics() {
    let of = |instruction: &str, first: u32| {
        let body = format!(
            ".reg .b32 %x, %y; .reg .f32 %f; add.u32 %x, %t, 1; mov.f32 %f, 0f3F000000;
            .shared .align 4 .b8 word[4]; .reg .pred %p; setp.eq.u32 %p, %t, 0; mov.u32 %y, {first};
            @%p st.shared.u32 [word], %y; @%p st.global.u32 [%out], %y; bar.sync 0;
            {instruction}
            bar.sync 0; ld.global.u32 %x, [%out]; ld.shared.u32 %y, [word]; max.u32 %x, %x, %y;
            @%p st.global.u32 [%out+4], %x; ret;"
        );
        Setup::threads(64).words(&body, &[0], 2)[1]
    };
    for space in ["global", "shared"] {
        let place = if space == "global" { "[%out]" } else { "[word]" };
        let red = |what: &str, first: u32| of(&format!("red.{space}.{what};").replace("#", place), first);
        assert_eq!(red("add.u32 #, %x", 5), 5 + 64 * 65 / 2);
        assert_eq!(red("max.u32 #, %x", 5), 64);
        assert_eq!(red("or.b32 #, %x", 5), 127);
        assert_eq!(red("inc.u32 #, 9", 0), 64 % 10);
        assert_eq!(f32::from_bits(red("add.f32 #, %f", 0)), 32.0);
        assert_eq!(
            of(
                &format!("atom.{space}.add.u32 %y, {place}, %x; red.{space}.max.u32 {place}, %y;"),
                7
            )
            .max(1),
            7 + 2080
        );
        // Only one finds what it expects.
        assert_eq!(
            of(&format!("atom.acq_rel.gpu.{space}.cas.b32 %y, {place}, 0, %x;"), 0),
            1
        );
        assert_eq!(of(&format!("atom.{space}.exch.b32 %y, {place}, 3;"), 0), 3);
    }
    // Sums in global memory flush what is subnormal, in shared memory they keep it.
    let small = "mov.b32 %f, 0x00000100;";
    assert_eq!(of(&format!("{small} red.global.add.f32 [%out], %f;"), 0), 0);
    assert_eq!(of(&format!("{small} red.shared.add.f32 [word], %f;"), 0), 64 * 0x100);
}

#[test]
fn asynchronous_copies_fill_with_zeros() {
    let body = |bytes: &str, size: u32| {
        format!(
            ".shared .align 16 .b8 rows[512]; .reg .b32 %a, %b, %r; mov.u32 %a, rows; mad.lo.u32 %a, %t, 16, %a;
            st.shared.v4.u32 [%a], {{%t, %t, %t, %t}};
            mul.wide.u32 %wide, %t, 16; add.u64 %at, %in, %wide; mov.u32 %b, {bytes};
            cp.async.ca.shared.global [%a], [%at], {size}, %b;
            cp.async.commit_group; cp.async.wait_group 0;
            .reg .b32 %q<4>; ld.shared.v4.u32 {{%q0, %q1, %q2, %q3}}, [%a];
            add.u64 %at, %out, %wide; st.global.v4.u32 [%at], {{%q0, %q1, %q2, %q3}}; ret;"
        )
    };
    let input: Vec<u32> = (0..128).map(|i| 0x0101_0101 * (i + 1)).collect();
    let lane = |output: Vec<u32>| output[12..16].to_vec();
    let run = |bytes, size| lane(Setup::default().words(&body(bytes, size), &input, 128));
    assert_eq!(run("16", 16), input[12..16]);
    assert_eq!(run("8", 16), [input[12], input[13], 0, 0]);
    assert_eq!(run("6", 16), [input[12], input[13] & 0xffff, 0, 0]);
    assert_eq!(run("0", 16), [0; 4]);
    assert_eq!(run("4", 4), [input[12], 3, 3, 3]);
    assert_eq!(run("8", 8), [input[12], input[13], 3, 3]);
    // Where nothing is read there need be no memory.
    let beyond = body("0", 16).replace("add.u64 %at, %in, %wide;", "add.u64 %at, %in, 4096;");
    assert_eq!(lane(Setup::default().words(&beyond, &input[..4], 128)), [0; 4]);
    // Only the first of two groups is waited for.
    let groups = "cp.async.ca.shared.global [%a], [%at], 4; cp.async.commit_group;
        cp.async.ca.shared.global [%a+4], [%at+4], 4; cp.async.commit_group; cp.async.wait_group 1;";
    let body = body("16", 16).replace("cp.async.ca.shared.global [%a], [%at], 16, %b;", groups);
    let body = body.replace("cp.async.commit_group; cp.async.wait_group 0;", "");
    let error = Setup::default().wrong(&body, &input, 128);
    assert!(error.contains("asynchronous copy"), "{error}");
    let one = body.replace(
        ".v4.u32 {%q0, %q1, %q2, %q3}, [%a]",
        ".u32 %q0, [%a]; mov.u32 %q1, 0; mov.u32 %q2, 0; mov.u32 %q3, 0",
    );
    assert_eq!(lane(Setup::default().words(&one, &input, 128))[0], input[12]);
}
