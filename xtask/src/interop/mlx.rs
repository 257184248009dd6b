//! MLX on a CPU, by way of mlx-lm.

use sterna_tensor::Precision;

use super::peer::Peer;
use super::python;

const PACKAGES: [&str; 2] = ["mlx[cpu]==0.32.4", "mlx-lm==0.32.2"];

pub(super) const PEER: Peer = Peer {
    name: "mlx-lm",
    target: "mlx",
    extension: "",
    formats: &["a4g128", "s4g32", "s8g32"],
    precision: Precision::Float,
    script: include_str!("mlx.py"),
    python: || python::with(&PACKAGES, "mlx_lm"),
    check: None,
};
