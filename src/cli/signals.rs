//! Interrupts: the first asks for an orderly end, the second ends at once. SIGUSR1 asks for new identities of the units; SIGXFSZ
//! does not end a run that is recorded.

use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};

use super::CliError;

/// A flag that the first signal sets, and one that lets the next signal end the program at once.
pub fn catch() -> Result<(Arc<AtomicBool>, Arc<AtomicBool>), CliError> {
    let (stop, impatient) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, impatient.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|source| CliError::System {
                what: "signals cannot be caught".into(),
                source,
            })?;
    }
    Ok((stop, impatient))
}

/// A flag that SIGUSR1 sets.
pub fn catch_recalibrate() -> Result<Arc<AtomicBool>, CliError> {
    let asked = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGUSR1, asked.clone()).map_err(|source| CliError::System {
        what: "SIGUSR1 cannot be caught".into(),
        source,
    })?;
    Ok(asked)
}

/// From here on a file that has grown to its limit is an error of the write, and does not end the program.
pub fn survive_full_files() -> Result<(), CliError> {
    let caught = signal_hook::flag::register(SIGXFSZ, Arc::default());
    caught.map(drop).map_err(|source| CliError::System {
        what: "SIGXFSZ cannot be caught".into(),
        source,
    })
}
