//! Sizes and variants of the network.
