//! What an instruction makes of the registers of 32 lanes. These know nothing of masks or memory: a lane that does not run is
//! computed as well and not kept, so none of them may fail for any bits.

pub mod convert;
pub mod double;
pub mod half;
pub mod integer;
pub mod long;
pub mod round;
pub mod single;

/// Lanes of a warp.
pub const LANES: usize = 32;

/// 32 bits of every lane. Narrower registers lie in the low bits, zeros above.
pub type Words = [u32; LANES];

/// 64 bits of every lane.
pub type Longs = [u64; LANES];

/// The numbers of the lanes of a mask.
#[inline(always)]
pub fn lanes_of(mut mask: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let lane = mask.trailing_zeros();
            mask &= mask - 1;
            lane
        })
    })
}

/// A function of lanes, from one of a lane: the names of the operands, what they are in a lane, and an expression.
macro_rules! lanes {
    (|$($x:ident),+| $body:expr) => {
        |$($x),+| {
            let mut out = [Default::default(); $crate::lanes::LANES];
            for (lane, out) in out.iter_mut().enumerate() {
                $(let $x = $x[lane];)+
                *out = $body;
            }
            out
        }
    };
}
pub(crate) use lanes;

/// A comparison of lanes, from one of a lane.
macro_rules! test {
    (|$($x:ident),+| $body:expr) => {
        |$($x),+| {
            let mut out = 0u32;
            for lane in 0..$crate::lanes::LANES {
                $(let $x = $x[lane];)+
                out |= u32::from($body) << lane;
            }
            out
        }
    };
}
pub(crate) use test;

/// Functions of two words.
pub type Word2 = fn(&Words, &Words) -> Words;
/// Functions of two longs.
pub type Long2 = fn(&Longs, &Longs) -> Longs;
/// Functions of three words.
pub type Word3 = fn(&Words, &Words, &Words) -> Words;
/// Functions of three longs.
pub type Long3 = fn(&Longs, &Longs, &Longs) -> Longs;
/// Functions of a word.
pub type Word1 = fn(&Words) -> Words;
/// Functions of a long.
pub type Long1 = fn(&Longs) -> Longs;
/// Comparisons of two words.
pub type WordTest = fn(&Words, &Words) -> u32;
/// Comparisons of two longs.
pub type LongTest = fn(&Longs, &Longs) -> u32;
