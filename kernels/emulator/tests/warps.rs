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
