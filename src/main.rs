//! The `neurohorizon` program.

fn main() {}
