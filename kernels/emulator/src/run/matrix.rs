//! `ldmatrix` and `mma`.

use super::reach::Reach;
use super::trap::{lanes_of, Outcome};
use super::warp::Warp;
use super::world::World;
use crate::lanes::half::half_to_single;
use crate::memory::race::Touch;
use crate::op::{Element, Multiply, Place, Reg, Space};
use crate::options::MmaModel;

/// Rows of the left factor and of the sums.
const ROWS: usize = 16;
/// Columns of the right factor and of the sums.
const COLUMNS: usize = 8;

impl Warp {
    /// `ldmatrix`: lane 8 i + r tells where row r of matrix i lies; lane 4 r + c receives elements 2 c and 2 c + 1 of row r.
    pub fn load_matrix(
        &mut self,
        world: &mut World<'_>,
        mask: u32,
        place: &Place,
        (count, turned): (u8, bool),
        d: [Reg; 4],
    ) -> Outcome {
        self.complete(mask)?;
        let count = count as usize;
        let tellers = u32::MAX >> (32 - 8 * count);
        let addresses = self.addresses(world.kernel, tellers, place, Space::Shared)?;
        let mut rows = [[0u16; 8]; 32];
        let reach = Reach {
            space: Space::Shared,
            size: 16,
            touch: Touch::Read,
            reads: true,
        };
        self.reach(world, reach, &addresses, tellers, |_, region, mask, offsets| {
            for lane in lanes_of(mask) {
                let bytes: [u8; 16] = region.bytes(offsets.of(lane));
                rows[lane as usize] = std::array::from_fn(|c| u16::from_le_bytes([bytes[2 * c], bytes[2 * c + 1]]));
            }
        })?;
        let mut out = [[0u32; 32]; 4];
        for (out, matrix) in out.iter_mut().zip(rows.chunks_exact(8)).take(count) {
            for (lane, out) in out.iter_mut().enumerate() {
                let (r, c) = (lane / 4, 2 * (lane % 4));
                let (low, high) = if turned {
                    (matrix[c][r], matrix[c + 1][r])
                } else {
                    (matrix[r][c], matrix[r][c + 1])
                };
                *out = u32::from(low) | u32::from(high) << 16;
            }
        }
        for (d, out) in d.iter().zip(&out).take(count) {
            self.put_words(*d, mask, out);
        }
        Ok(())
    }

    /// `mma`.
    pub fn multiply(&mut self, world: &mut World<'_>, mask: u32, m: &Multiply) -> Outcome {
        self.complete(mask)?;
        let depth = m.depth as usize;
        let pairs = m.element != Element::Tensor;
        let left = if pairs && depth == 8 { 2 } else { 4 };
        for reg in m.a[..left].iter().chain(&m.b[..left / 2]).chain(&m.c) {
            self.need_words(world.kernel, mask, [*reg])?;
        }
        let mut a = [[0f64; 16]; ROWS];
        let mut b = [[0f64; COLUMNS]; 16];
        for lane in 0..32 {
            let (group, member) = (lane / 4, lane % 4);
            for (i, reg) in m.a[..left].iter().enumerate() {
                let bits = self.words[*reg as usize][lane];
                let row = group + 8 * (i % 2);
                if pairs {
                    let column = 2 * member + 8 * (i / 2);
                    [a[row][column], a[row][column + 1]] = both(m.element, bits);
                } else {
                    a[row][member + 4 * (i / 2)] = tensor(bits);
                }
            }
            for (i, reg) in m.b[..left / 2].iter().enumerate() {
                let bits = self.words[*reg as usize][lane];
                if pairs {
                    let row = 2 * member + 8 * i;
                    [b[row][group], b[row + 1][group]] = both(m.element, bits);
                } else {
                    b[member + 4 * i][group] = tensor(bits);
                }
            }
        }
        let mut c = [[0f32; COLUMNS]; ROWS];
        for lane in 0..32 {
            for (i, reg) in m.c.iter().enumerate() {
                c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2] = f32::from_bits(self.words[*reg as usize][lane]);
            }
        }
        match world.model {
            MmaModel::F64 => exact(&a, &b, &mut c, depth),
            MmaModel::Truncating => truncating(&a, &b, &mut c, depth),
        }
        for (i, reg) in m.d.iter().enumerate() {
            let out: [u32; 32] =
                std::array::from_fn(|lane| c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2].to_bits());
            self.put_words(*reg, mask, &out);
        }
        self.synchronise();
        Ok(())
    }
}

/// The two elements of a register, the low half first.
#[inline(always)]
fn both(element: Element, bits: u32) -> [f64; 2] {
    if element == Element::Half {
        [
            f64::from(half_to_single(bits & 0xffff)),
            f64::from(half_to_single(bits >> 16)),
        ]
    } else {
        [
            f64::from(f32::from_bits(bits << 16)),
            f64::from(f32::from_bits(bits & 0xffff_0000)),
        ]
    }
}

/// The element of a register of which the low 13 bits do not count.
#[inline(always)]
fn tensor(bits: u32) -> f64 {
    f64::from(f32::from_bits(bits & !0x1fff))
}

/// Sums in 64 bits, rounded once.
fn exact(a: &[[f64; 16]; ROWS], b: &[[f64; COLUMNS]; 16], c: &mut [[f32; COLUMNS]; ROWS], depth: usize) {
    for (a, c) in a.iter().zip(c) {
        let mut sums = c.map(f64::from);
        for (a, b) in a[..depth].iter().zip(b) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
        *c = sums.map(|sum| sum as f32);
    }
}

/// Sums as tensor cores make them: every term is cut off 25 bits below the leading bit of the greatest, the sum is exact,
/// and what is beyond 24 bits of it is cut off.
fn truncating(a: &[[f64; 16]; ROWS], b: &[[f64; COLUMNS]; 16], c: &mut [[f32; COLUMNS]; ROWS], depth: usize) {
    for (a, c) in a.iter().zip(c) {
        for (column, c) in c.iter_mut().enumerate() {
            let mut terms = [0f64; 17];
            for k in 0..depth {
                terms[k] = a[k] * b[k][column];
            }
            terms[16] = f64::from(*c);
            let greatest = terms.iter().fold(0f64, |greatest, term| greatest.max(term.abs()));
            let plain: f64 = terms.iter().sum();
            if greatest == 0.0 || !plain.is_finite() {
                *c = plain as f32;
                continue;
            }
            let exponent = (greatest.to_bits() >> 52) as i32 - 1023;
            let unit = 2f64.powi(exponent - 25);
            let sum: i64 = terms.iter().map(|term| (term / unit) as i64).sum();
            let bits = crate::lanes::round::SINGLE.encode(
                sum < 0,
                sum.unsigned_abs(),
                exponent - 25,
                crate::lanes::round::Mode::Zero,
            );
            *c = f32::from_bits(bits as u32);
        }
    }
}
