//! Flags that say what computes, shared by the subcommands.

use clap::{Args, ValueEnum};
use kernels::cuda::gpu;
use kernels::Precision;
use serde::{Deserialize, Serialize};

use crate::model::{BackendKind, BuildError, BuildOptions};

/// Storage of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// FP32.
    #[default]
    F32,
    /// FP16, products and sums FP32.
    F16,
    /// BF16 weights and inputs, sums FP32.
    Bf16,
}

impl From<Weights> for Precision {
    fn from(weights: Weights) -> Self {
        match weights {
            Weights::F32 => Precision::F32,
            Weights::F16 => Precision::F16,
            Weights::Bf16 => Precision::Bf16,
        }
    }
}

/// What is asked to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The first NVIDIA GPU (compute capability 8.0 on), or the CPU where there is none
    #[default]
    Auto,
    /// The CPU
    Cpu,
    /// The first NVIDIA GPU, or an error
    Cuda,
    /// The plain loops that define every operation; slow
    Reference,
}

/// What computes, and with which weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compute {
    /// What computes.
    pub backend: BackendKind,
    /// Storage of the weights.
    pub precision: Precision,
    /// Why it is not a GPU, where one was looked for.
    pub note: Option<String>,
}

impl Compute {
    /// Looks for what is asked for. Weights that nobody chose are FP16 on a GPU, whose tensor cores multiply them, and FP32
    /// elsewhere.
    ///
    /// # Errors
    /// Where a GPU is asked for and there is none, or weights that it does not have.
    pub fn new(device: Device, weights: Option<Weights>) -> Result<Self, BuildError> {
        let bf16 = weights == Some(Weights::Bf16);
        let with = |backend, default: Weights| Compute {
            backend,
            precision: weights.unwrap_or(default).into(),
            note: None,
        };
        match device {
            Device::Cpu => Ok(with(BackendKind::Cpu, Weights::F32)),
            Device::Reference => Ok(with(BackendKind::Reference, Weights::F32)),
            Device::Cuda if bf16 => Err(BuildError::Bf16OnCuda),
            Device::Auto if bf16 => Ok(Self::instead_of_gpu(weights, &BuildError::Bf16OnCuda)),
            Device::Cuda | Device::Auto => match gpu::available() {
                Ok(()) => Ok(with(BackendKind::Cuda, Weights::F16)),
                Err(error) if device == Device::Auto => Ok(Self::instead_of_gpu(weights, &error)),
                Err(error) => Err(BuildError::Device(error.to_string())),
            },
        }
    }

    /// The CPU, because a GPU cannot be used.
    pub fn instead_of_gpu(weights: Option<Weights>, because: &dyn std::error::Error) -> Self {
        Compute {
            backend: BackendKind::Cpu,
            precision: weights.unwrap_or_default().into(),
            note: Some(because.to_string()),
        }
    }

    /// Says on standard error why it is not a GPU, if one was looked for.
    pub fn tell(&self) {
        if let Some(note) = &self.note {
            eprintln!("device       the CPU computes: {note}");
        }
    }
}

/// What computes.
#[derive(Debug, Clone, Args)]
pub struct ComputeArgs {
    /// What computes
    #[arg(long, value_enum, default_value_t)]
    pub device: Device,
    /// Storage of the weights; f16 and bf16 are smaller and change the numbers slightly [default: f16 on a GPU, else f32]
    #[arg(long, value_enum)]
    pub weights: Option<Weights>,
    /// Threads of the CPU backend [default: 2, or 1 on a single core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl ComputeArgs {
    /// As options for building a network; says on standard error why it is not a GPU, if one was looked for.
    ///
    /// # Errors
    /// As [`Compute::new`].
    pub fn options(&self) -> Result<BuildOptions, BuildError> {
        let compute = Compute::new(self.device, self.weights)?;
        compute.tell();
        let defaults = BuildOptions::default();
        Ok(BuildOptions {
            backend: compute.backend,
            precision: compute.precision,
            threads: self.threads.unwrap_or(defaults.threads),
            ..defaults
        })
    }
}
