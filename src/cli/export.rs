//! `neurohorizon export`: a recorded run for other programs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::CliError;
use crate::record::export::npz;
use crate::record::nwb::nwb;
use crate::record::tables::Tables;
use crate::record::Ending;
use crate::train::state::write_whole;

/// Write the spikes, samples and predictions of a recorded run (`run --record`) for NumPy or as NWB
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  neurohorizon export session.nhr --npz session.npz\n  \
                        neurohorizon export session.nhr --nwb session.nwb")]
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
    let (spikes, units, predictions) = (
        tables.spikes.len(),
        tables.unit_ids.len(),
        tables.predictions.headers.len(),
    );
    say!(
        "{spikes} spikes of {units} units, {} series, {predictions} predictions",
        tables.series.len()
    );
    if tables.lost > 0 {
        say!("{} entries were lost while this was recorded", tables.lost);
    }
    Ok(match tables.ending {
        Ending::Whole { .. } => ExitCode::SUCCESS,
        Ending::CutOff { left_over, .. } => {
            say!("the recording is cut off: the last {left_over} bytes are of no use");
            ExitCode::SUCCESS
        }
        Ending::Damaged { at, problem, .. } => {
            say!("the recording is DAMAGED at byte {at} ({problem}): what follows was not read");
            ExitCode::FAILURE
        }
    })
}
