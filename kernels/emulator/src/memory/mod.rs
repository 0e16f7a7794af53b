//! Memory, and what is known of every byte and word of it: whether it was written, and by whom it was last touched.

pub mod atomic;
pub mod global;
pub mod race;
pub mod region;
