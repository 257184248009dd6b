//! Checkpoints of hybrids that are quantized.

/// Recurrences of every kind, alone and beside attention, and experts with a shared one.
pub(crate) const HYBRIDS: [&str; 11] = [
    "bamba",
    "falcon_h1_norm",
    "granitemoehybrid_moe",
    "jamba",
    "lfm2",
    "lfm2_moe",
    "mamba",
    "nemotron_h_latent",
    "nemotron_h_moe",
    "qwen3_next",
    "zamba2_adapter",
];
