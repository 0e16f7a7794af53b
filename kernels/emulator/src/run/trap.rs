//! What went wrong in a warp.

/// A lane and what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trap {
    /// The lane.
    pub lane: u32,
    /// What was wrong.
    pub what: String,
}

/// What a step gives, or what went wrong.
pub type Outcome<T = ()> = Result<T, Box<Trap>>;

/// Something went wrong in a lane.
#[cold]
pub fn trap<T>(lane: u32, what: impl Into<String>) -> Outcome<T> {
    Err(Box::new(Trap {
        lane,
        what: what.into(),
    }))
}

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
