//! A vector of `f32` lanes, so that every kernel is written once and compiled for each instruction set.
//!
//! A kernel implements [`Kernel`] with everything `#[inline(always)]`; [`run`] instantiates it inside a function that has
//! the instruction set's features enabled, which is what lets the intrinsics become instructions.

/// Instruction sets that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F, BW, VL, DQ, BF16 dot products, and AMX-BF16 tiles for BF16 layers.
    AmxBf16,
    /// AVX-512 F, BW, VL, DQ, and BF16 dot products.
    Avx512Bf16,
    /// AVX-512 F, BW, VL, DQ.
    Avx512,
    /// AVX2, FMA, F16C.
    Avx2,
    /// 64-bit Arm.
    Neon,
    /// Anything.
    Scalar,
}

impl Isa {
    /// The best that this processor has.
    pub fn detect() -> Isa {
        Isa::available()[0]
    }

    /// All that this processor has, the best first.
    pub fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq");
            if avx512 && super::amx::available() {
                found.push(Isa::AmxBf16);
            }
            if avx512 && is_x86_feature_detected!("avx512bf16") {
                found.push(Isa::Avx512Bf16);
            }
            if avx512 {
                found.push(Isa::Avx512);
            }
            if avx2 {
                found.push(Isa::Avx2);
            }
        }
        #[cfg(target_arch = "aarch64")]
        found.push(Isa::Neon);
        found.push(Isa::Scalar);
        found
    }

    /// Lanes of a vector.
    pub fn lanes(self) -> usize {
        match self {
            Isa::AmxBf16 | Isa::Avx512Bf16 | Isa::Avx512 => 16,
            Isa::Avx2 => 8,
            Isa::Neon | Isa::Scalar => 4,
        }
    }
}

/// Lanes of `f32`.
///
/// # Safety
/// Every function needs the instruction set of its implementation, which [`run`] guarantees, and pointers that are valid
/// for as many lanes as it names.
#[allow(clippy::missing_safety_doc)] // said once, above
pub trait Vector: Copy {
    /// Number of lanes.
    const LANES: usize;
    /// Whether BF16 layers go through AMX tiles.
    const TILES: bool = false;
    /// Rows that a register block of two vectors a row may have.
    const BLOCK_ROWS: usize;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    /// FP16 to FP32.
    unsafe fn load_f16(p: *const u16) -> Self;
    /// `LANES` pairs of BF16: the first of each pair, the second of each pair.
    unsafe fn load_bf16_pairs(p: *const u32) -> (Self, Self);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// NaN where `other` is NaN; where only `self` is, either.
    unsafe fn max(self, other: Self) -> Self;
    /// Like [`Vector::max`].
    unsafe fn min(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// `self · b + c` with one rounding.
    unsafe fn fma(self, b: Self, c: Self) -> Self;
    /// To the nearest whole number.
    unsafe fn round(self) -> Self;
    /// `self · 2ⁿ` for whole `n` from −126 to 127.
    unsafe fn scale(self, n: Self) -> Self;
    /// Lanes with the sign of `sign`.
    unsafe fn with_sign(self, sign: Self) -> Self;
    /// Lanes 2i and 2i + 1 change places.
    unsafe fn swap_pairs(self) -> Self;
    unsafe fn sum(self) -> f32;

    /// `acc + Σ` over the two products of each pair; `a` two BF16, `b` `LANES` pairs.
    #[inline(always)]
    unsafe fn dot_bf16(acc: Self, a: u32, b: *const u32) -> Self {
        // SAFETY: as the caller's.
        unsafe {
            let (first, second) = Self::load_bf16_pairs(b);
            let acc = Self::splat(f32::from_bits(a << 16)).fma(first, acc);
            Self::splat(f32::from_bits(a & 0xffff_0000)).fma(second, acc)
        }
    }

    /// Rounded to BF16, to nearest even: `LANES / 2` pairs, the first of each in the low half.
    #[inline(always)]
    unsafe fn store_bf16_pairs(self, p: *mut u32) {
        let round = |x: f32| {
            let bits = x.to_bits();
            let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
            // A carry would make a number of some NaNs.
            if x.is_nan() {
                f32::NAN.to_bits()
            } else {
                rounded
            }
        };
        let mut lanes = [0.0f32; 16];
        // SAFETY: `lanes` holds more than any vector; the caller's pointer is valid for the pairs.
        unsafe {
            self.store(lanes.as_mut_ptr());
            for (i, pair) in lanes.chunks_exact(2).take(Self::LANES / 2).enumerate() {
                p.add(i).write(round(pair[0]) >> 16 | round(pair[1]));
            }
        }
    }

    /// The first `n ≤ LANES` lanes, zeros beyond.
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> Self {
        let mut lanes = [0.0f32; 16];
        // SAFETY: `n` elements are readable at `p`, and `lanes` holds more than any vector.
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            Self::load(lanes.as_ptr())
        }
    }

    /// Stores the first `n ≤ LANES` lanes.
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize) {
        let mut lanes = [0.0f32; 16];
        // SAFETY: `n` elements are writable at `p`, and `lanes` holds more than any vector.
        unsafe {
            self.store(lanes.as_mut_ptr());
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
    }
}

/// Work that is compiled for every instruction set.
pub trait Kernel {
    /// Does it.
    ///
    /// # Safety
    /// `V`'s instruction set is there, and whatever the kernel says of its own pointers holds.
    unsafe fn run<V: Vector>(self);
}

/// Runs a kernel with an instruction set.
///
/// # Safety
/// The processor has `isa`, and the kernel's own conditions hold.
pub unsafe fn run<K: Kernel>(isa: Isa, kernel: K) {
    // SAFETY: as the caller's.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::AmxBf16 => x86::run_amx_bf16(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => x86::run_avx512_bf16(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => x86::run_avx512(kernel),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => x86::run_avx2(kernel),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => kernel.run::<super::vector_neon::Neon>(),
            _ => kernel.run::<super::vector_scalar::Scalar>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::vector_x86::{AmxBf16, Avx2, Avx512, Avx512Bf16};
    use super::Kernel;

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
    pub unsafe fn run_amx_bf16<K: Kernel>(kernel: K) {
        // SAFETY: the features are enabled here; the rest is the caller's.
        unsafe { kernel.run::<AmxBf16>() }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c")]
    pub unsafe fn run_avx512_bf16<K: Kernel>(kernel: K) {
        // SAFETY: the features are enabled here; the rest is the caller's.
        unsafe { kernel.run::<Avx512Bf16>() }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")]
    pub unsafe fn run_avx512<K: Kernel>(kernel: K) {
        // SAFETY: the features are enabled here; the rest is the caller's.
        unsafe { kernel.run::<Avx512>() }
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    pub unsafe fn run_avx2<K: Kernel>(kernel: K) {
        // SAFETY: the features are enabled here; the rest is the caller's.
        unsafe { kernel.run::<Avx2>() }
    }
}
