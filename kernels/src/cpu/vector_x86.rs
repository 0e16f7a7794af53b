//! AVX-512 and AVX2 vectors.

use std::arch::x86_64::*;

use super::vector::Vector;

/// Sixteen lanes, AVX-512 F, BW, VL, DQ.
#[derive(Clone, Copy)]
pub struct Avx512(__m512);

/// The same with BF16 dot products.
#[derive(Clone, Copy)]
pub struct Avx512Bf16(__m512);

/// The same with AMX tiles beside it.
#[derive(Clone, Copy)]
pub struct AmxBf16(__m512);

/// Eight lanes, AVX2, FMA, F16C.
#[derive(Clone, Copy)]
pub struct Avx2(__m256);

macro_rules! sixteen_lanes {
    ($name:ident, { $($extra:tt)* }) => {
        // SAFETY of every block: the instruction set is there and pointers are valid, as the trait's callers promise.
        #[allow(clippy::undocumented_unsafe_blocks)] // said once, above
        impl Vector for $name {
            const LANES: usize = 16;
            const BLOCK_ROWS: usize = 12;

            #[inline(always)]
            unsafe fn splat(x: f32) -> Self {
                unsafe { Self(_mm512_set1_ps(x)) }
            }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> Self {
                unsafe { Self(_mm512_loadu_ps(p)) }
            }
            #[inline(always)]
            unsafe fn store(self, p: *mut f32) {
                unsafe { _mm512_storeu_ps(p, self.0) }
            }
            #[inline(always)]
            unsafe fn load_f16(p: *const u16) -> Self {
                unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(p.cast()))) }
            }
            #[inline(always)]
            unsafe fn load_bf16_pairs(p: *const u32) -> (Self, Self) {
                unsafe {
                    let pairs = _mm512_loadu_si512(p.cast());
                    let high = _mm512_set1_epi32(0xffff_0000_u32 as i32);
                    (
                        Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs))),
                        Self(_mm512_castsi512_ps(_mm512_and_si512(pairs, high))),
                    )
                }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                unsafe { Self(_mm512_add_ps(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn mul(self, other: Self) -> Self {
                unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn div(self, other: Self) -> Self {
                unsafe { Self(_mm512_div_ps(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn max(self, other: Self) -> Self {
                unsafe { Self(_mm512_max_ps(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn min(self, other: Self) -> Self {
                unsafe { Self(_mm512_min_ps(self.0, other.0)) }
            }
            #[inline(always)]
            unsafe fn abs(self) -> Self {
                unsafe { Self(_mm512_abs_ps(self.0)) }
            }
            #[inline(always)]
            unsafe fn fma(self, b: Self, c: Self) -> Self {
                unsafe { Self(_mm512_fmadd_ps(self.0, b.0, c.0)) }
            }
            #[inline(always)]
            unsafe fn round(self) -> Self {
                unsafe { Self(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)) }
            }
            #[inline(always)]
            unsafe fn scale(self, n: Self) -> Self {
                unsafe { Self(_mm512_scalef_ps(self.0, n.0)) }
            }
            #[inline(always)]
            unsafe fn with_sign(self, sign: Self) -> Self {
                unsafe {
                    let bit = _mm512_set1_ps(-0.0);
                    Self(_mm512_or_ps(_mm512_and_ps(bit, sign.0), _mm512_andnot_ps(bit, self.0)))
                }
            }
            #[inline(always)]
            unsafe fn swap_pairs(self) -> Self {
                unsafe { Self(_mm512_permute_ps::<0b10_11_00_01>(self.0)) }
            }
            #[inline(always)]
            unsafe fn sum(self) -> f32 {
                unsafe { _mm512_reduce_add_ps(self.0) }
            }
            #[inline(always)]
            unsafe fn load_first(p: *const f32, n: usize) -> Self {
                unsafe { Self(_mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, p)) }
            }
            #[inline(always)]
            unsafe fn store_first(self, p: *mut f32, n: usize) {
                unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as u16, self.0) }
            }
            $($extra)*
        }
    };
}

sixteen_lanes!(Avx512, {});
sixteen_lanes!(Avx512Bf16, {
    #[inline(always)]
    unsafe fn dot_bf16(acc: Self, a: u32, b: *const u32) -> Self {
        unsafe { Self(dot_pairs(acc.0, a, b)) }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, p: *mut u32) {
        unsafe { store_pairs(self.0, p) }
    }
});
sixteen_lanes!(AmxBf16, {
    const TILES: bool = true;

    #[inline(always)]
    unsafe fn dot_bf16(acc: Self, a: u32, b: *const u32) -> Self {
        unsafe { Self(dot_pairs(acc.0, a, b)) }
    }
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, p: *mut u32) {
        unsafe { store_pairs(self.0, p) }
    }
});

/// `acc + Σ` over the two products of each pair.
///
/// # Safety
/// The processor has AVX-512 BF16; 16 pairs are readable at `b`.
#[inline(always)]
unsafe fn dot_pairs(acc: __m512, a: u32, b: *const u32) -> __m512 {
    // SAFETY: as the caller's; both types are 512 bits of anything.
    unsafe {
        let a = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(a as i32));
        let b = std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(b.cast()));
        _mm512_dpbf16_ps(acc, a, b)
    }
}

/// Rounds 16 numbers to 8 pairs. Subnormal ones become zero, as they do in [`dot_pairs`].
///
/// # Safety
/// The processor has AVX-512 BF16; 8 pairs are writable at `p`.
#[inline(always)]
unsafe fn store_pairs(x: __m512, p: *mut u32) {
    // SAFETY: as the caller's; both types are 256 bits of anything.
    unsafe {
        let pairs = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x));
        _mm256_storeu_si256(p.cast(), pairs);
    }
}

// SAFETY of every block: the instruction set is there and pointers are valid, as the trait's callers promise.
#[allow(clippy::undocumented_unsafe_blocks)] // said once, above
impl Vector for Avx2 {
    const LANES: usize = 8;
    const BLOCK_ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        unsafe { Self(_mm256_set1_ps(x)) }
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        unsafe { Self(_mm256_loadu_ps(p)) }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        unsafe { _mm256_storeu_ps(p, self.0) }
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        unsafe { Self(_mm256_cvtph_ps(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u32) -> (Self, Self) {
        unsafe {
            let pairs = _mm256_loadu_si256(p.cast());
            let high = _mm256_set1_epi32(0xffff_0000_u32 as i32);
            (
                Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs))),
                Self(_mm256_castsi256_ps(_mm256_and_si256(pairs, high))),
            )
        }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        unsafe { Self(_mm256_add_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        unsafe { Self(_mm256_sub_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        unsafe { Self(_mm256_mul_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        unsafe { Self(_mm256_div_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        unsafe { Self(_mm256_max_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        unsafe { Self(_mm256_min_ps(self.0, other.0)) }
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        unsafe { Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0)) }
    }
    #[inline(always)]
    unsafe fn fma(self, b: Self, c: Self) -> Self {
        unsafe { Self(_mm256_fmadd_ps(self.0, b.0, c.0)) }
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        unsafe {
            Self(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(
                self.0,
            ))
        }
    }
    #[inline(always)]
    unsafe fn scale(self, n: Self) -> Self {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n.0), _mm256_set1_epi32(127));
            Self(_mm256_mul_ps(
                self.0,
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)),
            ))
        }
    }
    #[inline(always)]
    unsafe fn with_sign(self, sign: Self) -> Self {
        unsafe {
            let bit = _mm256_set1_ps(-0.0);
            Self(_mm256_or_ps(_mm256_and_ps(bit, sign.0), _mm256_andnot_ps(bit, self.0)))
        }
    }
    #[inline(always)]
    unsafe fn swap_pairs(self) -> Self {
        unsafe { Self(_mm256_permute_ps::<0b10_11_00_01>(self.0)) }
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
