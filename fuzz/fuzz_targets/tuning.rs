//! Profiles of devices: any bytes give a tuning that can be written again, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sterna_formats::tuning_profile::{Device, parse, to_json};

fuzz_target!(|data: &[u8]| {
    let device = Device { cpu: "a".to_owned(), isas: vec!["scalar".to_owned()], cores: 1 };
    let Ok(tuning) = parse("x.json", data, &device) else { return };
    let json = to_json(&tuning, &device).expect("numbers and names");
    assert_eq!(parse("x.json", json.as_bytes(), &device).expect("what was just written"), tuning);
});
