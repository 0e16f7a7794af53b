//! The fast CPU implementation.
