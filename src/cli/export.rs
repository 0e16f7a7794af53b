//! `neurohorizon export`: a recorded run for other programs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{CliError, FAULT_FOUND};
use crate::record::export::npz;
use crate::record::nwb::nwb;
use crate::record::tables::Tables;
use crate::record::Ending;
use crate::train::state::write_whole;

/// Write the spikes, samples and predictions of a recorded run (`run --record`) for NumPy or as NWB
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  neurohorizon export session.nhr --npz session.npz\n  \
                        neurohorizon export session.nhr --nwb session.nwb\n\n\
                        A prediction of fewer bins has NaN where it has none, and their number is in predicted_bins. What is not in \
                        the output is counted there and said on standard error. Exit status 1: the recording is damaged, and all that \
                        is whole was exported.")]
pub struct ExportFileArgs {
    /// The recording of a run.
    pub recording: PathBuf,
    /// Arrays for numpy.load: spikes, samples, predictions [n, T, N], their times and flags.
    #[arg(long, value_name = "OUT.npz", required_unless_present = "nwb")]
    pub npz: Option<PathBuf>,
    /// The same as an NWB file.
    #[arg(long, value_name = "OUT.nwb")]
    pub nwb: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// A recording that cannot be read, or a file that cannot be written.
pub fn run(args: &ExportFileArgs) -> Result<ExitCode, CliError> {
    let tables = Tables::read(&args.recording)?;
    if let Some(path) = &args.npz {
        let bytes = npz(&tables).map_err(|source| CliError::System {
            what: format!("cannot write {}", path.display()),
            source,
        })?;
        write_whole(path, &bytes)?;
    }
    if let Some(path) = &args.nwb {
        let bytes =
            nwb(&tables).map_err(|what| CliError::Config(format!("cannot write {}: {what}", path.display())))?;
        write_whole(path, &bytes)?;
    }
    let predictions = &tables.predictions;
    let shortened = predictions
        .headers
        .iter()
        .filter(|header| (header.bins as usize) < predictions.output.rows);
    say!(
        "{} spikes of {} units, {} series, {} predictions, {} of them of fewer bins",
        tables.spikes.len(),
        tables.unit_ids.len(),
        tables.series.len(),
        predictions.headers.len(),
        shortened.count()
    );
    for sentence in tables.missing() {
        eprintln!("{sentence}");
    }
    let damaged = !tables.damage.is_empty() || matches!(tables.ending, Ending::Damaged { .. });
    Ok(if damaged {
        ExitCode::from(FAULT_FOUND)
    } else {
        ExitCode::SUCCESS
    })
}
