//! Acquisition systems from their emulators over loopback to closed bins: every spike, exactly, and over a restart.
//!
//! The long form: `NEUROHORIZON_WIRE_EVENTS=1000000 cargo test --release -p rt-tests --test wire`.

mod blackrock;
mod command;
mod harness;
mod intan;
mod open_ephys;
