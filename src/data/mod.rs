//! Recordings on disk; one type `Recording` for all of them.
