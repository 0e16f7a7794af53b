//! Acquisition systems from their emulators over loopback to closed bins: every spike, exactly, over restarts and through
//! proxies ([`rt_tests::proxy`]) that do to a link what links do.
//!
//! Each system has 10⁵ events in all its exact and faulty links together. The long form, a million each:
//! `NEUROHORIZON_WIRE_EVENTS=1000000 cargo nextest run --release -p rt-tests --test wire`.
//!
//! What a source can know of a loss depends on its protocol:
//!
//! | | loss | duplicates | changed bytes |
//! |---|---|---|---|
//! | Intan RHX, TCP | only that a connection was lost | none over TCP | records that are none any more; others pass as spikes |
//! | Blackrock, UDP | packets, from the device's own count of them; before 4.1 late ones may pass for lost | hide as many losses | as above |
//! | Open Ephys, Event Broadcaster | only that a connection was lost | not | messages that are none any more; others pass |
//! | Open Ephys, ZMQ Interface | messages, by number | by number | as above |
//! | bridge, UDP | packets, by number | by number | all, by checksum |
//!
//! The proxies' ledgers know the rest, and the tests hold both against each other.

mod blackrock;
mod bridge;
mod command;
mod flood;
mod harness;
mod intan;
mod judge;
mod open_ephys;
mod restart;
