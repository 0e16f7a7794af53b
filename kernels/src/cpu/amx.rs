//! AMX-BF16 tiles: 16 rows × 16 columns of FP32 sums from BF16 pairs, where an x86-64 processor and Linux have them.
//!
//! The panels of the BF16 layers are laid out as a tile wants its second operand (a pair of inputs a row, 16 columns), so that
//! the same weights serve here and with plain vectors. Instructions are spelled in assembly: the intrinsics are not stable.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};

/// Pairs of inputs that one tile instruction takes.
const TILE_PAIRS: usize = 16;

/// Columns of the two sums of a panel.
const PANEL: usize = 32;

/// Shapes of the tiles: palette 1, then bytes a row and rows of each.
#[repr(C, align(64))]
struct TileConfig {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Whether the processor has the tiles and the system lets this process use them (it has to be asked once).
pub fn available() -> bool {
    const TILE_STATE: u64 = 0b11 << 17;
    let features = __cpuid_count(7, 0).edx;
    let has = |bit: u32| features >> bit & 1 == 1;
    if !(has(22) && has(24) && is_x86_feature_detected!("xsave") && is_x86_feature_detected!("avx512bf16")) {
        return false;
    }
    // SAFETY: the processor has XSAVE, and AVX-512 is in use, so the system has enabled reading the register.
    let enabled = unsafe { read_enabled_state() };
    enabled & TILE_STATE == TILE_STATE && request_permission()
}

#[target_feature(enable = "xsave")]
unsafe fn read_enabled_state() -> u64 {
    // SAFETY: the caller's.
    unsafe { _xgetbv(0) }
}

/// `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
#[cfg(target_os = "linux")]
fn request_permission() -> bool {
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: i64 = 0x1023;
    const XFEATURE_XTILEDATA: i64 = 18;
    let result: i64;
    // SAFETY: the call reads and writes no memory; the kernel clobbers rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_REQ_XCOMP_PERM,
            in("rsi") XFEATURE_XTILEDATA,
            out("rcx") _,
            out("r11") _,
            options(nostack)
        );
    }
    result == 0
}

#[cfg(not(target_os = "linux"))]
fn request_permission() -> bool {
    false
}

/// Tells this thread's tiles their shapes: sums 0 and 1 and first operand 2 with `rows` rows, second operands 3 and 4.
///
/// # Safety
/// [`available`] said yes; `1 ≤ rows ≤ 16`.
pub unsafe fn configure(rows: usize) {
    let mut config = TileConfig {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        row_bytes: [0; 16],
        rows: [0; 16],
    };
    config.row_bytes[..5].fill(64);
    config.rows[..5].copy_from_slice(&[rows as u8, rows as u8, rows as u8, TILE_PAIRS as u8, TILE_PAIRS as u8]);
    // SAFETY: the instruction reads the 64 bytes of `config`.
    unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(readonly, nostack, preserves_flags)) };
}

/// Gives the tiles back, so that the system need not save them when it switches threads.
///
/// # Safety
/// [`available`] said yes.
pub unsafe fn release() {
    // SAFETY: as the caller's.
    unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
}

/// `out[i][0..32] = Σₖ a[i][k] · b[k][0..32]` over `pairs` pairs of inputs, a multiple of [`TILE_PAIRS`], for as many rows as
/// [`configure`] was told. `a` has `pairs` elements a row, `b` 32, `out` 32.
///
/// # Safety
/// The thread's tiles are configured; the three are valid for these shapes.
pub unsafe fn multiply(a: *const u32, b: *const u32, pairs: usize, out: *mut f32) {
    let (a_stride, b_stride, out_stride) = (pairs * 4, PANEL * 4, PANEL * 4);
    // SAFETY: tile loads and stores touch the configured rows at these strides, which the caller vouches for.
    unsafe {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "2:",
            "tileloadd tmm2, [{a} + {a_stride} * 1]",
            "tileloadd tmm3, [{b} + {b_stride} * 1]",
            "tileloadd tmm4, [{b} + {b_stride} * 1 + 64]",
            "tdpbf16ps tmm0, tmm2, tmm3",
            "tdpbf16ps tmm1, tmm2, tmm4",
            "add {a}, 64",
            "add {b}, 2048",
            "dec {count}",
            "jnz 2b",
            "tilestored [{out} + {out_stride} * 1], tmm0",
            "tilestored [{out} + {out_stride} * 1 + 64], tmm1",
            a = inout(reg) a => _,
            b = inout(reg) b => _,
            count = inout(reg) pairs / TILE_PAIRS => _,
            a_stride = in(reg) a_stride,
            b_stride = in(reg) b_stride,
            out = in(reg) out,
            out_stride = in(reg) out_stride,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _, out("tmm4") _,
            options(nostack)
        );
    }
}
