//! Sources of spikes, one file a system, each behind the trait `Source`.

pub mod simulate;
