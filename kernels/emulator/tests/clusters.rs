//! Blocks that wait for each other: by atomics in cooperative launches, by the barrier of their cluster.

mod common;
use common::{bytes, cluster_module, module, words, Setup};

/// All blocks write, meet by an atomic, and each reads what the next wrote; so many times.
fn rounds(times: u32) -> String {
    format!(
        ".reg .pred %p; .reg .b32 %block, %blocks, %goal, %seen, %k, %sum, %next; .reg .b64 %flag;
        mov.u32 %block, %ctaid.x; mov.u32 %blocks, %nctaid.x; mov.u32 %k, 0; mov.u32 %sum, 0; mov.u32 %goal, 0;
        mov.u64 %flag, %in;
    $round:
        // Rounds take turns with two rows of words.
        and.b32 %next, %k, 1; mad.lo.u32 %next, %next, %blocks, %block;
        mul.wide.u32 %wide, %next, 4; add.u64 %at, %out, %wide;
        mad.lo.u32 %n, %block, 10, %k;
        setp.eq.u32 %p, %t, 0;
        @%p st.global.u32 [%at], %n;
        add.u32 %goal, %goal, %blocks;
        bar.sync 0;
        @!%p bra $came;
        fence.acq_rel.gpu;
        red.release.gpu.global.add.u32 [%flag], 1;
    $wait:
        ld.acquire.gpu.global.u32 %seen, [%flag];
        setp.lt.u32 %p, %seen, %goal;
        @%p bra $wait;
    $came:
        bar.sync 0;
        add.u32 %next, %block, 1; rem.u32 %next, %next, %blocks;
        and.b32 %seen, %k, 1; mad.lo.u32 %next, %seen, %blocks, %next;
        mul.wide.u32 %wide, %next, 4; add.u64 %at, %out, %wide;
        ld.global.u32 %n, [%at];
        add.u32 %sum, %sum, %n;
        add.u32 %k, %k, 1;
        setp.lt.u32 %p, %k, {times};
        @%p bra $round;
        mad.lo.u32 %next, %blocks, 2, %block; mul.wide.u32 %wide, %next, 4; add.u64 %at, %out, %wide;
        setp.eq.u32 %p, %t, 0;
        @%p st.global.u32 [%at], %sum;
        ret;"
    )
}

#[test]
fn a_barrier_of_the_grid() {
    for seed in 0..6 {
        let mut setup = Setup {
            grid: [7, 1, 1],
            block: 64,
            cooperative: true,
            ..Setup::default()
        };
        setup.options.seed = seed;
        let output = setup.words(&rounds(6), &[0], 21);
        for block in 0..7 {
            let expected: u32 = (0..6).map(|k| (block + 1) % 7 * 10 + k).sum();
            assert_eq!(output[14 + block as usize], expected, "seed {seed}");
        }
    }
}

#[test]
fn without_all_blocks_resident_it_does_not_end() {
    let mut setup = Setup {
        grid: [7, 1, 1],
        block: 64,
        ..Setup::default()
    };
    setup.options.steps = 100_000;
    let error = setup.wrong(&rounds(2), &[0], 21);
    assert!(
        error.contains("did not finish") && error.contains("$wait") | error.contains("%seen"),
        "{error}"
    );
}

#[test]
fn a_grid_that_does_not_fit_is_refused() {
    let mut setup = Setup {
        grid: [9, 1, 1],
        block: 1024,
        cooperative: true,
        ..Setup::default()
    };
    setup.options.multiprocessors = 4;
    let error = setup.wrong("ret;", &[0], 1);
    assert!(error.contains("9 blocks at once"), "{error}");
}

/// Every block writes to its own shared memory; after the barrier each reads the next block's.
fn neighbours(barrier: &str, last: &str) -> String {
    format!(
        ".shared .align 4 .b8 mine[128]; .reg .b32 %rank, %count, %a, %b, %c;
        mov.u32 %rank, %cluster_ctarank; mov.u32 %count, %cluster_nctarank;
        mov.u32 %b, mine; mad.lo.u32 %a, %t, 4, %b;
        mad.lo.u32 %n, %rank, 100, %t;
        st.shared.u32 [%a], %n;
        {barrier}
        add.u32 %c, %rank, 1; rem.u32 %c, %c, %count;
        mapa.shared::cluster.u32 %b, %a, %c;
        ld.shared::cluster.u32 %n, [%b];
        mov.u32 %c, %ctaid.x; mad.lo.u32 %c, %c, 32, %t;
        mul.wide.u32 %wide, %c, 4; add.u64 %at, %out, %wide;
        st.global.u32 [%at], %n;
        {last}
        ret;"
    )
}

const BARRIER: &str = "barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;";

#[test]
fn shared_memory_of_a_cluster() {
    for seed in 0..4 {
        let mut setup = Setup {
            grid: [8, 1, 1],
            cluster: 4,
            ..Setup::default()
        };
        setup.options.seed = seed;
        let output = setup.words(&neighbours(BARRIER, BARRIER), &[0], 256);
        for (i, value) in output.iter().enumerate() {
            assert_eq!(*value, (((i / 32) % 4 + 1) % 4 * 100 + i % 32) as u32);
        }
    }
}

#[test]
fn a_missing_barrier_of_a_cluster() {
    // Those that come first read what was never written; those that come last what was written with no barrier between.
    let error = Setup {
        grid: [4, 1, 1],
        cluster: 4,
        ..Setup::default()
    }
    .wrong(&neighbours("", BARRIER), &[0], 128);
    assert!(error.contains("never written") || error.contains("race"), "{error}");
    let twice = format!("{BARRIER} st.shared.u32 [%a], %n;");
    let error = Setup {
        grid: [4, 1, 1],
        cluster: 4,
        ..Setup::default()
    }
    .wrong(&neighbours(&twice, BARRIER), &[0], 128);
    assert!(error.contains("race"), "{error}");
}

#[test]
fn blocks_of_a_cluster_that_are_done_or_do_not_come() {
    let setup = Setup {
        grid: [2, 1, 1],
        cluster: 2,
        ..Setup::default()
    };
    let run = |first: &str| {
        let body = format!(
            ".reg .pred %p; mov.u32 %n, %cluster_ctarank; setp.eq.u32 %p, %n, 0; @%p bra $first;
            barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned; ret; $first: {first} ret;"
        );
        setup
            .run(&cluster_module("", &body), &[0; 4], 0)
            .map_err(|error| error.0)
    };
    // Nobody waits for threads that are done.
    assert!(run("").is_ok());
    let waits = run("bar.sync 1, 32; barrier.cluster.wait.aligned;").expect_err("it has not come");
    assert!(waits.contains("has not told"), "{waits}");
    let twice = run("barrier.cluster.arrive.aligned; barrier.cluster.arrive.aligned;").expect_err("it came twice");
    assert!(twice.contains("twice"), "{twice}");
}

#[test]
fn clusters_are_launched_as_declared() {
    let wanted = cluster_module(".reqnctapercluster 4", "ret;");
    let run = |cluster, grid| {
        Setup {
            grid: [grid, 1, 1],
            cluster,
            ..Setup::default()
        }
        .run(&wanted, &[0; 4], 0)
    };
    assert!(run(4, 8).is_ok());
    assert!(run(2, 8).is_err_and(|error| error.0.contains(".reqnctapercluster")));
    assert!(run(4, 6).is_err_and(|error| error.0.contains("clusters of 4 blocks in a grid 6 wide")));
}

#[test]
fn where_blocks_are() {
    let body = ".reg .b32 %x, %y, %z, %w; mov.u32 %x, %ctaid.x; mov.u32 %y, %ctaid.y; mov.u32 %z, %ctaid.z;
        mov.u32 %w, %nctaid.x; mad.lo.u32 %n, %y, %w, %x; mov.u32 %t, %nctaid.y; mul.lo.u32 %w, %w, %t;
        mad.lo.u32 %n, %z, %w, %n; mul.wide.u32 %wide, %n, 4; add.u64 %at, %out, %wide;
        mad.lo.u32 %x, %y, 10, %x; mad.lo.u32 %x, %z, 100, %x; st.global.u32 [%at], %x; ret;";
    for seed in 0..3 {
        let mut setup = Setup {
            grid: [3, 2, 2],
            block: 1,
            ..Setup::default()
        };
        setup.options.seed = seed;
        let data = setup.run(&module(body), &bytes(&[0u32], u32::to_le_bytes), 48);
        let expected: Vec<u32> = (0..12).map(|i| i % 3 + i / 3 % 2 * 10 + i / 6 * 100).collect();
        assert_eq!(words(&data.unwrap_or_else(|error| panic!("{error}"))), expected);
    }
}
