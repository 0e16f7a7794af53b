//! The device that `--device auto` would compute on.

use kernels::cuda::gpu::available;

use super::finding::Finding;

/// Whether there is a GPU for it.
pub fn gpu() -> Finding {
    const NAME: &str = "GPU";
    match available() {
        Ok(()) => Finding::good(NAME, "one that `--device auto` computes on"),
        Err(error) => Finding::note(NAME, format!("the CPU computes: {error}"))
            .by("an NVIDIA GPU of compute capability 8.0 or newer, and its driver")
            .worth("`neurohorizon bench CHECKPOINT --device cpu` and `--device cuda` time a prediction on both"),
    }
}
