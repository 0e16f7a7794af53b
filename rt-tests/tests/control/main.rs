//! A run that is told what to do while it goes on: another model, limits, a stop, a heartbeat, over the control socket.

mod guards;
mod harness;
mod models;
mod protocol;
