//! `mma` and `ldmatrix`: fragments placed as PTX documents them, against plain loops.

mod common;
use common::Setup;
use emulator::MmaModel;
use half::{bf16, f16};

/// A stream of small numbers.
fn noise(seed: u32) -> impl FnMut() -> f32 {
    let mut state = seed;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 16) as f32 - 32768.0) / 16384.0
    }
}

struct Matrices {
    a: Vec<Vec<f32>>,
    b: Vec<Vec<f32>>,
    c: Vec<Vec<f32>>,
}

impl Matrices {
    fn random(depth: usize, round: impl Fn(f32) -> f32) -> Self {
        let mut next = noise(7);
        let mut matrix = |rows: usize, columns: usize, round: &dyn Fn(f32) -> f32| -> Vec<Vec<f32>> {
            (0..rows)
                .map(|_| (0..columns).map(|_| round(next())).collect())
                .collect()
        };
        Self {
            a: matrix(16, depth, &round),
            b: matrix(depth, 8, &round),
            c: matrix(16, 8, &|x| x),
        }
    }

    fn product(&self) -> Vec<Vec<f64>> {
        let depth = self.b.len();
        let sum = |i: usize, j: usize| {
            (0..depth)
                .map(|k| f64::from(self.a[i][k]) * f64::from(self.b[k][j]))
                .sum::<f64>()
                + f64::from(self.c[i][j])
        };
        (0..16).map(|i| (0..8).map(|j| sum(i, j)).collect()).collect()
    }
}

/// Where element `i` of C or D of a lane is.
fn sum_place(lane: usize, i: usize) -> (usize, usize) {
    (
        if i < 2 { lane >> 2 } else { (lane >> 2) + 8 },
        (lane % 4) * 2 + (i & 1),
    )
}

/// Where element `i` of A of a lane is, of halves 16 deep (the first four of them: 8 deep).
fn left_place(lane: usize, i: usize) -> (usize, usize) {
    let row = if i < 2 || (4..6).contains(&i) {
        lane >> 2
    } else {
        (lane >> 2) + 8
    };
    (row, (lane % 4) * 2 + (i & 1) + if i >= 4 { 8 } else { 0 })
}

/// Where element `i` of B of a lane is.
fn right_place(lane: usize, i: usize) -> (usize, usize) {
    ((lane % 4) * 2 + (i & 1) + if i >= 2 { 8 } else { 0 }, lane >> 2)
}

/// A kernel that loads so many registers of A and B, four of C, multiplies, and stores four.
fn kernel(instruction: &str, left: &[usize], right: usize) -> String {
    let mut body = String::from(
        ".reg .b32 %a<4>, %b<2>; .reg .f32 %c<4>;\nmul.wide.u32 %wide, %t, 40;\nadd.u64 %at, %in, %wide;\n",
    );
    for i in 0..left.len() {
        body += &format!("ld.global.b32 %a{i}, [%at+{}];\n", 4 * i);
    }
    for i in 0..right {
        body += &format!("ld.global.b32 %b{i}, [%at+16+4*{i}];\n");
    }
    for i in 0..4 {
        body += &format!("ld.global.f32 %c{i}, [%at+24+{}];\n", 4 * i);
    }
    let registers = |name: &str, which: &[usize]| {
        which
            .iter()
            .map(|i| format!("%{name}{i}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let all: Vec<usize> = (0..right).collect();
    body + &format!(
        "{instruction} {{%c0, %c1, %c2, %c3}}, {{{}}}, {{{}}}, {{%c0, %c1, %c2, %c3}};
         shl.b32 %n, %t, 4; cvt.u64.u32 %wide, %n; add.u64 %at, %out, %wide;
         st.global.v4.f32 [%at], {{%c0, %c1, %c2, %c3}}; ret;",
        registers("a", left),
        registers("b", &all)
    )
}

fn multiply(
    body: &str,
    matrices: &Matrices,
    model: MmaModel,
    left: impl Fn(usize, usize) -> u32,
    right: impl Fn(usize, usize) -> u32,
) -> Vec<Vec<f32>> {
    let mut input = Vec::new();
    for lane in 0..32 {
        input.extend((0..4).map(|i| left(lane, i)));
        input.extend((0..2).map(|i| right(lane, i)));
        input.extend((0..4).map(|i| {
            let (row, column) = sum_place(lane, i);
            matrices.c[row][column].to_bits()
        }));
    }
    let mut setup = Setup::default();
    setup.options.mma = model;
    let output = setup.words(body, &input, 128);
    let mut d = vec![vec![0.0; 8]; 16];
    for lane in 0..32 {
        for i in 0..4 {
            let (row, column) = sum_place(lane, i);
            d[row][column] = f32::from_bits(output[lane * 4 + i]);
        }
    }
    d
}

fn close(d: &[Vec<f32>], exact: &[Vec<f64>]) -> bool {
    d.iter()
        .flatten()
        .zip(exact.iter().flatten())
        .all(|(d, exact)| (f64::from(*d) - exact).abs() < 1e-5)
}

fn pair(low: u16, high: u16) -> u32 {
    u32::from(low) | u32::from(high) << 16
}

fn halves(matrices: &Matrices, depth: usize, half: impl Fn(f32) -> u16, body: &str, model: MmaModel) -> Vec<Vec<f32>> {
    let at =
        |m: &[Vec<f32>], (row, column): (usize, usize)| m.get(row).and_then(|r| r.get(column)).copied().unwrap_or(0.0);
    assert!(matrices.b.len() == depth);
    multiply(
        body,
        matrices,
        model,
        |lane, i| {
            pair(
                half(at(&matrices.a, left_place(lane, 2 * i))),
                half(at(&matrices.a, left_place(lane, 2 * i + 1))),
            )
        },
        |lane, i| {
            pair(
                half(at(&matrices.b, right_place(lane, 2 * i))),
                half(at(&matrices.b, right_place(lane, 2 * i + 1))),
            )
        },
    )
}

#[test]
fn products_of_halves() {
    for model in [MmaModel::F64, MmaModel::Truncating] {
        let matrices = Matrices::random(16, |x| f16::from_f32(x).to_f32());
        let body = kernel("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", &[0, 1, 2, 3], 2);
        let d = halves(&matrices, 16, |x| f16::from_f32(x).to_bits(), &body, model);
        assert!(close(&d, &matrices.product()));
        let matrices = Matrices::random(16, |x| bf16::from_f32(x).to_f32());
        let body = kernel("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", &[0, 1, 2, 3], 2);
        let d = halves(&matrices, 16, |x| bf16::from_f32(x).to_bits(), &body, model);
        assert!(close(&d, &matrices.product()));
        let matrices = Matrices::random(8, |x| f16::from_f32(x).to_f32());
        let body = kernel("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32", &[0, 1], 1);
        let d = halves(&matrices, 8, |x| f16::from_f32(x).to_bits(), &body, model);
        assert!(close(&d, &matrices.product()));
    }
}

#[test]
fn products_of_tf32() {
    let matrices = Matrices::random(8, |x| f32::from_bits(x.to_bits() & !0x1fff));
    let body = kernel("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32", &[0, 1, 2, 3], 2);
    // PTX: a row is the lane / 4, plus 8 for a1 and a3; a column is the lane % 4, plus 4 for a2 and a3.
    let d = multiply(
        &body,
        &matrices,
        MmaModel::F64,
        |lane, i| matrices.a[lane / 4 + [0, 8, 0, 8][i]][lane % 4 + [0, 0, 4, 4][i]].to_bits(),
        |lane, i| matrices.b[lane % 4 + 4 * i][lane / 4].to_bits(),
    );
    assert!(close(&d, &matrices.product()));
}

#[test]
fn a_wrong_fragment_gives_wrong_numbers() {
    let matrices = Matrices::random(16, |x| f16::from_f32(x).to_f32());
    let body = kernel("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", &[0, 2, 1, 3], 2);
    // The registers are named in the wrong order, so the kernel is not valid only by its numbers.
    let d = halves(&matrices, 16, |x| f16::from_f32(x).to_bits(), &body, MmaModel::F64);
    assert!(!close(&d, &matrices.product()));
}

#[test]
fn sums_are_rounded_once_or_cut_off() {
    // 1 + 15 · 2⁻²⁵: the nearest float is above 1; terms cut off 25 bits below the first are whole, the sum is cut to 24.
    let mut matrices = Matrices::random(16, |_| 0.0);
    for row in &mut matrices.c {
        row.fill(1.0);
    }
    for k in 0..15 {
        for row in &mut matrices.a {
            row[k] = 2f32.powi(-12);
        }
        matrices.b[k].fill(2f32.powi(-13));
    }
    let body = kernel("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", &[0, 1, 2, 3], 2);
    let to = |x: f32| f16::from_f32(x).to_bits();
    let exact = 1.0 + 15.0 * 2f64.powi(-25);
    assert_eq!(halves(&matrices, 16, to, &body, MmaModel::F64)[0][0], exact as f32);
    let cut = f32::from_bits(1.0f32.to_bits() + (15.0f64 / 4.0).floor() as u32);
    assert_eq!(halves(&matrices, 16, to, &body, MmaModel::Truncating)[0][0], cut);
}

/// Rows of 16 halves in shared memory, padded to 24, and an `ldmatrix` of them.
fn matrix_body(load: &str) -> String {
    format!(
        ".shared .align 16 .b8 rows[768];
        .reg .b32 %a<4>, %row, %p; .reg .b32 %v;
        // Lane t copies half of row t / 2.
        shl.b32 %row, %t, 4;
        cvt.u64.u32 %wide, %row; add.u64 %at, %in, %wide;
        .reg .b32 %q<4>;
        ld.global.v4.b32 {{%q0, %q1, %q2, %q3}}, [%at];
        shr.u32 %row, %t, 1; and.b32 %p, %t, 1;
        mul.lo.u32 %row, %row, 48; mad.lo.u32 %row, %p, 16, %row;
        mov.u32 %v, rows; add.u32 %row, %row, %v;
        st.shared.v4.b32 [%row], {{%q0, %q1, %q2, %q3}};
        bar.sync 0;
        mov.u32 %a0, 0; mov.u32 %a1, 0; mov.u32 %a2, 0; mov.u32 %a3, 0;
        and.b32 %row, %t, 15; shr.u32 %p, %t, 4;
        mul.lo.u32 %row, %row, 48; mad.lo.u32 %row, %p, 16, %row; add.u32 %row, %row, %v;
        {load}
        shl.b32 %row, %t, 4; cvt.u64.u32 %wide, %row; add.u64 %at, %out, %wide;
        st.global.v4.b32 [%at], {{%a0, %a1, %a2, %a3}}; ret;"
    )
}

#[test]
fn rows_by_ldmatrix() {
    let input: Vec<u32> = (0..128u16).map(|i| pair(2 * i, 2 * i + 1)).collect();
    let element = |row: usize, column: usize| (row * 16 + column) as u16;
    let body = matrix_body("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%a0, %a1, %a2, %a3}, [%row];");
    let plain = Setup::default().words(&body, &input, 128);
    let body = matrix_body("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%a0, %a1, %a2, %a3}, [%row];");
    let turned = Setup::default().words(&body, &input, 128);
    let body = matrix_body("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%a0, %a1}, [%row];");
    let two = Setup::default().words(&body, &input, 128);
    for lane in 0..32 {
        for i in 0..4 {
            // Lanes 0 to 15 name rows of the left half, 16 to 31 of the right.
            let (row, column) = (8 * (i % 2), 8 * (i / 2));
            let (r, c) = (lane / 4, 2 * (lane % 4));
            assert_eq!(
                plain[lane * 4 + i],
                pair(element(row + r, column + c), element(row + r, column + c + 1))
            );
            assert_eq!(
                turned[lane * 4 + i],
                pair(element(row + c, column + r), element(row + c + 1, column + r))
            );
            assert_eq!(two[lane * 4 + i], if i < 2 { plain[lane * 4 + i] } else { 0 });
        }
    }
}
