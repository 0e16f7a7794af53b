//! Recording and replay: everything that a run took in and gave out, in one append-only file.
//!
//! [`format`] is the file (`FORMAT.md` beside it is its description), [`writer`] the threads that write it, [`reader`] reads it up to
//! where it is whole, [`requests`] is what the run was told meanwhile, [`replay`] feeds it to the pipeline again and compares, [`export`] and [`nwb`] hand it to other programs.

pub mod export;
pub mod format;
pub mod header;
pub mod nwb;
pub mod reader;
pub mod replay;
pub mod requests;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod writer;

pub use header::RunHeader;
pub use reader::{Damage, Ending, RecordError, RecordReader};
pub use requests::{ChangingRequest, RequestLog};
pub use writer::{RecordOptions, Recorder, StartedRecorder};
