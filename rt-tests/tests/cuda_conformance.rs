//! The network through the PTX kernels against the public reference implementation's own outputs: the same text and the same
//! launch plans that a GPU runs, interpreted; or on a GPU with `NEUROHORIZON_TEST_DEVICE=cuda`.

use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use emulator::{EmulatorOptions, TestDevice};
use kernels::cuda::driver::Driver;
use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::Precision;
use neurohorizon::evaluate::conformance::{cases, check_on, Tolerance};
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::network::{Network, SessionPlan};
use neurohorizon::model::{BackendKind, BuildError, BuildOptions, Inference};
use rt_tests::breaking::{BreakingDevice, Launched};

/// An emulated device takes its time.
const PATIENCE: Duration = Duration::from_secs(1000);

fn network_on<D: Driver + 'static>(
    device: D,
    checkpoint: &Checkpoint,
    unit_rows: &[usize],
    options: &BuildOptions,
) -> Result<Box<dyn Inference>, BuildError> {
    let backend = CudaBackend::new(
        device,
        CudaOptions {
            half: options.precision == Precision::F16,
            patience: PATIENCE,
        },
    );
    let plan = SessionPlan {
        unit_rows: unit_rows.to_vec(),
        reference: None,
        bins: options.bins.unwrap_or_else(|| checkpoint.config.bins()),
        max_spikes: options.max_spikes,
        precision: options.precision,
    };
    Ok(Box::new(Network::new(backend, checkpoint, plan)))
}

fn case_passes(folder: &Path, name: &str, precision: Precision) {
    let tolerance = Tolerance::of(BackendKind::Cuda, precision);
    let options = BuildOptions {
        precision,
        ..BuildOptions::default()
    };
    let report = check_on(folder, name, &options, tolerance, &|checkpoint, rows, options| {
        network_on(TestDevice::new(), checkpoint, rows, options)
    });
    println!("{precision:?} {report:?}");
    assert!(report.ok, "{precision:?} {report:?}");
}

#[test]
fn small_cases_with_fp16_weights() {
    for name in cases(&rt_tests::golden()).expect("the folder holds cases") {
        case_passes(&rt_tests::golden(), &name, Precision::F16);
    }
}

#[test]
fn small_cases_with_fp32_weights() {
    for name in cases(&rt_tests::golden()).expect("the folder holds cases") {
        case_passes(&rt_tests::golden(), &name, Precision::F32);
    }
}

/// Both ways in which the blocks of the decoder's machine meet: in a cluster, and in the grid where there are no clusters.
#[test]
fn generation_is_one_launch() {
    for name in [
        "prediction_memory",
        "local_prediction_memory",
        "query_aug_mlp_pool",
        "query_aug_rate_weighted",
        "query_aug_cross_attn",
    ] {
        for compute in [80, 90] {
            let watched = Mutex::new(Launched::default());
            let options = BuildOptions {
                precision: Precision::F16,
                ..BuildOptions::default()
            };
            let tolerance = Tolerance::of(BackendKind::Cuda, Precision::F16);
            let report = check_on(
                &rt_tests::golden(),
                name,
                &options,
                tolerance,
                &|checkpoint, rows, options| {
                    let device = BreakingDevice::watched(TestDevice::with(EmulatorOptions {
                        compute,
                        ..EmulatorOptions::default()
                    }));
                    *watched.lock().unwrap() = device.launched();
                    network_on(device, checkpoint, rows, options)
                },
            );
            assert!(report.ok, "sm_{compute} {report:?}");
            let launched = watched.into_inner().unwrap();
            let launched = launched.lock().unwrap();
            let decodes = launched.iter().filter(|&kernel| kernel == "decode").count();
            assert_eq!(decodes, 1, "sm_{compute} {name} {launched:?}");
        }
    }
}

#[test]
fn the_model_at_its_full_size() {
    if let Some(folder) = rt_tests::shared("golden") {
        case_passes(&folder, "small_250ms", Precision::F16);
    }
}
