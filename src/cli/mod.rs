//! The command line: one file a subcommand, each a thin shell over the library.
