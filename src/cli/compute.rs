//! Flags that say what computes, shared by the subcommands.

use clap::{Args, ValueEnum};
use kernels::Precision;
use serde::Deserialize;

use crate::model::{BackendKind, BuildOptions};

/// Storage of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ValueEnum)]
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

/// What computes.
#[derive(Debug, Clone, Args)]
pub struct ComputeArgs {
    /// What computes: the fast CPU implementation, or the plain loops that define every operation
    #[arg(long, value_enum, default_value_t)]
    pub backend: BackendKind,
    /// Storage of the weights; f16 and bf16 are smaller and change the numbers slightly
    #[arg(long, value_enum, default_value_t)]
    pub weights: Weights,
    /// Threads of the CPU backend [default: 2, or 1 on a single core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl ComputeArgs {
    /// As options for building a network.
    pub fn options(&self) -> BuildOptions {
        let defaults = BuildOptions::default();
        BuildOptions {
            backend: self.backend,
            precision: self.weights.into(),
            threads: self.threads.unwrap_or(defaults.threads),
            ..defaults
        }
    }
}
