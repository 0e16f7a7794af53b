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

pub use crate::lanes::lanes_of;
