//! Times the CPU backend's operations at the sizes of the reference's "small" network, beside the measured rate of fused
//! multiply-adds that touch no memory, which no operation can beat in FP32.
//!
//! `cargo bench -p kernels [-- THREADS]`. A row: median and 99th percentile in microseconds, 10⁹ operations a second and
//! share of that rate, both of the median.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kernels::cpu::pool::Pool;
use kernels::cpu::{CpuBackend, CpuOptions};
use kernels::{Attention, Backend, LinearArgs, LinearSpec, Mask, Matrix, Norm, Precision, Rotary};

/// Timed calls of one operation.
const REPETITIONS: usize = 600;

/// Multiply-adds of one measurement of the peak, a lane.
const PEAK_STEPS: usize = 20_000;

/// Median and 99th percentile of the seconds that a call takes, after a tenth as many that are not counted.
fn time(mut call: impl FnMut()) -> (f64, f64) {
    (0..REPETITIONS / 10).for_each(|_| call());
    let mut seconds: Vec<f64> = (0..REPETITIONS)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    (seconds[REPETITIONS / 2], seconds[REPETITIONS * 99 / 100])
}

/// Prints a row; `operations` is zero for what is not arithmetic.
fn print(name: &str, (median, p99): (f64, f64), operations: usize, peak: f64) {
    print!("{name:<44} {:>9.2} us {:>9.2} us", median * 1e6, p99 * 1e6);
    if operations > 0 {
        let rate = operations as f64 / median;
        print!(" {:>7.1} GFLOP/s {:>4.0} %", rate * 1e-9, 100.0 * rate / peak);
    }
    println!();
}

/// Twelve rows of two vectors, as many sums as keep every multiplier busy.
macro_rules! multiply_adds {
    ($name:ident, $features:literal, $splat:path, $fma:path) => {
        #[target_feature(enable = $features)]
        fn $name(x: f32) {
            let (a, b) = ($splat(std::hint::black_box(x)), $splat(std::hint::black_box(x)));
            let mut sums = [a; 24];
            for _ in 0..PEAK_STEPS / 24 {
                for sum in &mut sums {
                    *sum = $fma(a, b, *sum);
                }
            }
            std::hint::black_box(sums);
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod peak {
    use super::PEAK_STEPS;
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};

    multiply_adds!(sixteen, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps);
    multiply_adds!(eight, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps);

    /// Lanes of the widest vector, and one measurement's work with it.
    pub fn work() -> Option<(usize, fn())> {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instruction set.
            Some((16, || unsafe { sixteen(1e-30) }))
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            Some((8, || unsafe { eight(1e-30) }))
        } else {
            None
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod peak {
    use super::PEAK_STEPS;
    use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_f32};

    #[target_feature(enable = "neon")]
    fn fma(a: float32x4_t, b: float32x4_t, sum: float32x4_t) -> float32x4_t {
        vfmaq_f32(sum, a, b)
    }
    multiply_adds!(four, "neon", vdupq_n_f32, fma);

    /// Lanes of the widest vector, and one measurement's work with it.
    pub fn work() -> Option<(usize, fn())> {
        // SAFETY: Advanced SIMD is part of 64-bit Arm.
        Some((4, || unsafe { four(1e-30) }))
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod peak {
    /// No vector unit is known here.
    pub fn work() -> Option<(usize, fn())> {
        None
    }
}

/// Operations a second of multiply-adds in registers on so many threads at once; NaN where no vector unit is known.
fn peak_rate(threads: usize) -> f64 {
    let Some((lanes, work)) = peak::work() else {
        return f64::NAN;
    };
    let mut pool = Pool::new(threads, None);
    let (median, _) = time(|| pool.run(&|_| (0..20).for_each(|_| work())));
    (2 * lanes * (PEAK_STEPS / 24 * 24) * 20 * threads) as f64 / median
}

/// An operation whose parts only wait for each other: the cost of handing one out and of its end.
fn meeting(pool: &mut Pool) -> (f64, f64) {
    let threads = pool.threads();
    time(|| {
        let begun = AtomicUsize::new(0);
        pool.run(&|_| {
            begun.fetch_add(1, Ordering::Relaxed);
            while begun.load(Ordering::Relaxed) < threads {
                std::hint::spin_loop();
            }
        });
    })
}

/// A linear layer on `rows` rows; what it took, and operations.
fn linear(
    backend: &mut CpuBackend,
    (rows, inputs, outputs): (usize, usize, usize),
    gated: bool,
    precision: Precision,
) -> ((f64, f64), usize) {
    let weight: Vec<f32> = (0..inputs * outputs).map(|i| (i % 17) as f32 * 0.01 - 0.08).collect();
    let layer = backend.linear_layer(&LinearSpec {
        weight: &weight,
        row_stride: inputs,
        outputs,
        inputs,
        bias: None,
        gated,
        precision,
        origin: kernels::Origin::default(),
    });
    let x = backend.tensor(rows, inputs, &vec![0.3; rows * inputs]);
    let ones = backend.tensor(1, inputs, &vec![1.0; inputs]);
    let mut out = backend.zeros(rows, if gated { outputs / 2 } else { outputs });
    let seconds = time(|| {
        let norm = gated.then_some(Norm {
            gain: &ones,
            bias: &ones,
        });
        let args = LinearArgs {
            norm,
            ..LinearArgs::default()
        };
        backend.linear(x.view(), &layer, args, out.view_mut());
    });
    (seconds, 2 * rows * inputs * outputs)
}

fn attention(
    backend: &mut CpuBackend,
    (queries, keys): (usize, usize),
    (heads, head_dim): (usize, usize),
    rotated: bool,
) -> ((f64, f64), usize) {
    let width = heads * head_dim;
    // Half of the channels turn, as in the network.
    let omega: Vec<f32> = (0..head_dim / 2)
        .map(|i| if i < head_dim / 4 { 10.0 * (i + 1) as f32 } else { 0.0 })
        .collect();
    let rows = queries.max(keys);
    let mut rotation = backend.rotation(rows, &omega);
    backend.set_rotation(&mut rotation, 0, &vec![0.3; rows]);
    let qkv: Vec<f32> = (0..rows * 3 * width).map(|i| (i % 23) as f32 * 0.05 - 0.5).collect();
    let qkv = backend.tensor(rows, 3 * width, &qkv);
    let mut out = backend.zeros(queries, width);
    let seconds = time(|| {
        let rotary = rotated.then_some(Rotary {
            rotation: &rotation,
            first: 0,
        });
        let args = Attention {
            query: qkv.block(0, queries, 0, width),
            query_rows: None,
            query_rotary: rotary,
            key: qkv.block(0, keys, width, width),
            value: qkv.block(0, keys, 2 * width, width),
            key_rows: None,
            key_rotary: rotary,
            rotate_value: rotated,
            heads,
            mask: Mask::All,
            dropout: kernels::Dropout::None,
        };
        backend.attention(args, out.view_mut());
    });
    (seconds, 4 * queries * keys * width)
}

fn main() {
    let threads = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    for threads in threads.map_or(vec![1, 2], |threads| vec![threads]) {
        let mut backend = CpuBackend::new(CpuOptions {
            threads,
            ..CpuOptions::default()
        });
        let peak = peak_rate(threads);
        println!("{}, multiply-adds at {:.1} GFLOP/s", backend.describe(), peak * 1e-9);
        println!("{:<44} {:>12} {:>12}", "", "median", "p99");

        let mut pool = Pool::new(threads, None);
        print(
            "handing out an operation: all threads meet",
            meeting(&mut pool),
            0,
            peak,
        );
        let omega: Vec<f32> = (0..32).map(|i| if i < 16 { 10.0 } else { 0.0 }).collect();
        let mut rotation = backend.rotation(600, &omega);
        let times: Vec<f64> = (0..600).map(|i| f64::from(i) * 1e-3).collect();
        print(
            "angles of 600 times, 16 pairs",
            time(|| backend.set_rotation(&mut rotation, 0, &times)),
            0,
            peak,
        );
        for (name, sizes, head_shape, rotated) in [
            ("self-attention 320 x 320, 8 x 64", (320, 320), (8, 64), true),
            ("cross-attention 320 x 352, 2 x 64", (320, 352), (2, 64), true),
            ("cross-attention 320 x 2000, 2 x 64", (320, 2000), (2, 64), true),
            ("self-attention 80 x 80, 8 x 32", (80, 80), (8, 32), true),
            ("one bin x 320 latents, 2 x 64", (1, 320), (2, 64), false),
            ("one bin x 25 bins, 8 x 64", (1, 25), (8, 64), false),
        ] {
            let (seconds, operations) = attention(&mut backend, sizes, head_shape, rotated);
            print(name, seconds, operations, peak);
        }
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            for (name, sizes, gated) in [
                ("queries, keys, values 320 x 128 -> 1536", (320, 128, 1536), false),
                ("GEGLU 320 x 128 -> 1024", (320, 128, 1024), true),
                ("down, attention out 320 x 512 -> 128", (320, 512, 128), false),
                ("queries, keys, values 80 x 64 -> 768", (80, 64, 768), false),
                ("per unit 64 x 128 -> 128", (64, 128, 128), false),
                ("four bins 4 x 128 -> 1536", (4, 128, 1536), false),
                ("one bin 1 x 128 -> 1536", (1, 128, 1536), false),
                ("one bin 1 x 128 -> 1024 GEGLU", (1, 128, 1024), true),
                ("one bin 1 x 512 -> 128", (1, 512, 128), false),
                ("one bin 1 x 128 -> 128", (1, 128, 128), false),
            ] {
                let (seconds, operations) = linear(&mut backend, sizes, gated, precision);
                print(&format!("{precision:?} {name}"), seconds, operations, peak);
            }
        }
    }
}
