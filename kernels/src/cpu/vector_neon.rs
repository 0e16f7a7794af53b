//! 64-bit Arm vectors.

use std::arch::aarch64::*;

use super::vector::Vector;

/// Four lanes, Advanced SIMD.
#[derive(Clone, Copy)]
pub struct Neon(float32x4_t);

// SAFETY of every block: Advanced SIMD is part of 64-bit Arm, and pointers are valid, as the trait's callers promise.
#[allow(clippy::undocumented_unsafe_blocks)] // said once, above
impl Vector for Neon {
    const LANES: usize = 4;
    const BLOCK_ROWS: usize = 12;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Neon(vdupq_n_f32(x)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Neon(vld1q_f32(p)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { vst1q_f32(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        unsafe {
            let halves = vld1_u16(p);
            let floats: float32x4_t;
            std::arch::asm!(
                "fcvtl {floats:v}.4s, {halves:v}.4h",
                floats = lateout(vreg) floats,
                halves = in(vreg) halves,
                options(pure, nomem, nostack, preserves_flags)
            );
            Neon(floats)
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u32) -> (Self, Self) {
        unsafe {
            let pairs = vld1q_u32(p);
            let high = vandq_u32(pairs, vdupq_n_u32(0xffff_0000));
            (
                Neon(vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs))),
                Neon(vreinterpretq_f32_u32(high)),
            )
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Neon(vaddq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Neon(vsubq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Neon(vmulq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { Neon(vdivq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Neon(vmaxq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { Neon(vminq_f32(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe { Neon(vabsq_f32(self.0)) }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        unsafe { Neon(vfmaq_f32(c.0, self.0, b.0)) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe { Neon(vrndnq_f32(self.0)) }
    }
    #[inline(always)]
    unsafe fn scale(self, n: Self) -> Self {
        unsafe {
            let exponent = vaddq_s32(vcvtq_s32_f32(n.0), vdupq_n_s32(127));
            Neon(vmulq_f32(self.0, vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))))
        }
    }
    #[inline(always)]
    unsafe fn with_sign(self, sign: Self) -> Self {
        unsafe { Neon(vbslq_f32(vdupq_n_u32(0x8000_0000), sign.0, self.0)) }
    }
    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        unsafe { Neon(vrev64q_f32(self.0)) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe { vaddvq_f32(self.0) }
    }
}
