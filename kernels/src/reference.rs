//! Each operation as the plainest loop that can be read as its definition.
