//! `config.json` and its siblings: any bytes give fields of the asked types, or an error.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sterna_formats::hf::{ConfigFile, GenerationConfig};

fuzz_target!(|data: &[u8]| {
    let Ok(config) = ConfigFile::parse(Path::new("config.json"), data) else { return };
    let view = config.view();
    let _ = GenerationConfig::from_hf(&view);
    for key in ["hidden_size", "rope_scaling", "rope_parameters", "layer_types", "rope_theta", "a", "b"] {
        let _ = (view.opt_usize(key), view.opt_f32(key), view.opt_str(key), view.opt_bool(key));
        let _ = (view.opt_ids(key), view.opt_strs(key), view.opt_f32s(key), view.opt_bools(key));
        if let Ok(Some(sub)) = view.opt_sub(key) {
            let _ = (sub.f32("factor"), sub.f32s("long_factor"), sub.str("rope_type"));
        }
    }
});
