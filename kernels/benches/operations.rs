//! Times the CPU backend's two kernels at the sizes of the reference's "small" network, beside the best measured rate.
//!
//! `cargo bench -p kernels [-- THREADS]`. A row: median microseconds, 10⁹ operations a second, share of the best rate.

use std::time::Instant;

use kernels::cpu::{CpuBackend, CpuOptions};
use kernels::{Attention, Backend, LinearArgs, LinearSpec, Mask, Matrix, Norm, Precision, Rotary};

/// Median seconds of a call, after a tenth as many that are not counted.
fn median(repetitions: usize, mut call: impl FnMut()) -> f64 {
    (0..repetitions / 10).for_each(|_| call());
    let mut seconds: Vec<f64> = (0..repetitions)
        .map(|_| {
            let start = Instant::now();
            call();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[repetitions / 2]
}

fn print(name: &str, seconds: f64, operations: usize, best: f64) {
    let rate = operations as f64 / seconds * 1e-9;
    println!(
        "{name:<44} {:>9.1} us {rate:>7.1} GFLOP/s {:>4.0} %",
        seconds * 1e6,
        100.0 * rate / best
    );
}

/// A linear layer on `rows` rows; returns median seconds and operations.
fn linear(
    backend: &mut CpuBackend,
    rows: usize,
    inputs: usize,
    outputs: usize,
    gated: bool,
    precision: Precision,
) -> (f64, usize) {
    let weight: Vec<f32> = (0..inputs * outputs).map(|i| (i % 17) as f32 * 0.01 - 0.08).collect();
    let layer = backend.linear_layer(&LinearSpec {
        weight: &weight,
        row_stride: inputs,
        outputs,
        inputs,
        bias: None,
        gated,
        precision,
    });
    let x = backend.tensor(rows, inputs, &vec![0.3; rows * inputs]);
    let ones = backend.tensor(1, inputs, &vec![1.0; inputs]);
    let mut out = backend.zeros(rows, if gated { outputs / 2 } else { outputs });
    let seconds = median(400, || {
        let norm = gated.then_some(Norm {
            gain: &ones,
            bias: &ones,
        });
        backend.linear(
            x.view(),
            &layer,
            LinearArgs {
                norm,
                ..LinearArgs::default()
            },
            out.view_mut(),
        );
    });
    (seconds, 2 * rows * inputs * outputs)
}

fn attention(backend: &mut CpuBackend, queries: usize, keys: usize, heads: usize, rotated: bool) -> (f64, usize) {
    let width = heads * 64;
    let omega: Vec<f32> = (0..32)
        .map(|i| if i < 16 { 10.0 * (i + 1) as f32 } else { 0.0 })
        .collect();
    let rows = queries.max(keys);
    let mut rotation = backend.rotation(rows, &omega);
    backend.set_rotation(&mut rotation, 0, &vec![0.3; rows]);
    let qkv: Vec<f32> = (0..rows * 3 * width).map(|i| (i % 23) as f32 * 0.05 - 0.5).collect();
    let qkv = backend.tensor(rows, 3 * width, &qkv);
    let mut out = backend.zeros(queries, width);
    let seconds = median(400, || {
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
        println!("{}", backend.describe());
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            let (seconds, operations) = linear(&mut backend, 512, 512, 1024, false, precision);
            let best = operations as f64 / seconds * 1e-9;
            print(
                &format!("{precision:?} best: 512 x 512 -> 1024"),
                seconds,
                operations,
                best,
            );
            for (name, rows, inputs, outputs, gated) in [
                ("queries, keys, values 320 x 128 -> 1536", 320, 128, 1536, false),
                ("attention out 320 x 512 -> 128", 320, 512, 128, false),
                ("GEGLU 320 x 128 -> 1024", 320, 128, 1024, true),
                ("down 320 x 512 -> 128", 320, 512, 128, false),
                ("per unit 64 x 128 -> 128", 64, 128, 128, false),
                ("one bin 1 x 128 -> 1536", 1, 128, 1536, false),
                ("one bin 1 x 128 -> 1024 GEGLU", 1, 128, 1024, true),
                ("one bin 1 x 512 -> 128", 1, 512, 128, false),
                ("one bin 1 x 128 -> 128", 1, 128, 128, false),
            ] {
                let (seconds, operations) = linear(&mut backend, rows, inputs, outputs, gated, precision);
                print(&format!("{precision:?} {name}"), seconds, operations, best);
            }
            for (name, queries, keys, heads, rotated) in [
                ("self-attention 320 x 320, 8 heads", 320, 320, 8, true),
                ("cross-attention 320 x 352, 2 heads", 320, 352, 2, true),
                ("one bin x 320 latents, 2 heads", 1, 320, 2, false),
                ("one bin x 25 bins, 8 heads", 1, 25, 8, false),
            ] {
                if precision != Precision::F32 {
                    continue;
                }
                let (seconds, operations) = attention(&mut backend, queries, keys, heads, rotated);
                print(name, seconds, operations, best);
            }
        }
    }
}
