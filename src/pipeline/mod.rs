//! The real-time path, in the order that data takes: ring, bin, decode, deadline, publish.
