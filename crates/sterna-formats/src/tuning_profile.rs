//! What was found to be fastest on a device: a small JSON file for each, in a directory for caches. `docs/tuning.md` shows one.
//!
//! A file says which device it is of and holds for no other. Nothing in it can change a result, only the speed.

use std::io;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sterna_tensor::{CODE_BITS, Fetch, Isa, KernelChoice, KernelFamily, NEVER, Tuning};

use crate::error::{FormatError, Result};

/// Version of the format. Files of another version are refused: a profile is made again in a minute.
const VERSION: u32 = 2;
/// More than a profile ever has.
const MOST_BYTES: u64 = 64 << 10;
/// More threads than any machine has.
const MOST_THREADS: usize = 1024;

/// What tells devices apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// The processor's name for itself.
    pub cpu: String,
    /// Names of the instruction sets that kernels can use here.
    pub isas: Vec<String>,
    /// Physical cores.
    pub cores: usize,
}

impl Device {
    /// A device with the processor `cpu` of `cores` physical cores, and the instruction sets of this machine.
    pub fn new(cpu: String, cores: usize) -> Device {
        Device { cpu, isas: Isa::available().into_iter().map(|isa| isa.name().to_owned()).collect(), cores }
    }

    /// Name of the file that is of this device.
    pub fn file_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let mut name: String = self.cpu.chars().map(plain).take(80).collect();
        name.push_str(&format!("-{}-{}.json", self.isas.last().map_or("", |isa| isa), self.cores));
        name
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    device: Device,
    threads: Threads,
    /// As [`Fetch`] names it.
    fetch: Option<String>,
    kernels: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Threads {
    decode: Option<usize>,
    prefill: Option<usize>,
}

/// The choice for one width of codes; what is not said stays as it is without a profile.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    bits: usize,
    few: Option<String>,
    /// As [`KernelFamily`] names it.
    family: Option<String>,
    many: Option<String>,
    many_from: Option<usize>,
}

/// The profile of `device` in the file at `path`; `None` where there is no such file.
///
/// # Errors
/// A file that cannot be read, and those of [`parse`].
pub fn read(path: &Path, device: &Device) -> Result<Option<Tuning>> {
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FormatError::io(path)(error)),
    };
    let file = path.display().to_string();
    if size > MOST_BYTES {
        let expected = format!("at most {MOST_BYTES} bytes");
        return Err(FormatError::invalid(file, "size", expected, size.to_string()));
    }
    parse(&file, &std::fs::read(path).map_err(FormatError::io(path))?, device).map(Some)
}

/// The profile of `device` in `bytes`, of which errors say that they are of `file`.
///
/// # Errors
/// What is no profile, of another version or of another device, or names what this machine has not.
pub fn parse(file: &str, bytes: &[u8], device: &Device) -> Result<Tuning> {
    let invalid =
        |field: String, expected: String, found: String| FormatError::invalid(file, field, expected, found);
    let contents: Contents = match serde_json::from_slice(bytes) {
        Ok(contents) => contents,
        Err(error) => return Err(invalid("JSON".into(), "a tuning profile".into(), error.to_string())),
    };
    let Contents { version, device: found, threads, fetch, kernels } = contents;
    if version != VERSION {
        return Err(invalid("version".into(), VERSION.to_string(), version.to_string()));
    }
    if found != *device {
        return Err(invalid("device".into(), format!("{device:?}"), format!("{found:?}")));
    }
    let within = |field: &str, value: Option<usize>, most: usize| match value {
        Some(n) if n == 0 || n > most => Err(invalid(field.into(), format!("1 to {most}"), n.to_string())),
        value => Ok(value),
    };
    let decode_threads = within("threads.decode", threads.decode, MOST_THREADS)?;
    let prefill_threads = within("threads.prefill", threads.prefill, MOST_THREADS)?;
    let fetch = named(file, "fetch", fetch, &Fetch::ALL.map(Fetch::name))?;
    let mut tuning = Tuning::default();
    (tuning.decode_threads, tuning.prefill_threads, tuning.fetch) = (decode_threads, prefill_threads, fetch);
    for (i, row) in kernels.into_iter().enumerate() {
        let field = |name: &str| format!("kernels[{i}].{name}");
        if !CODE_BITS.contains(&row.bits) {
            return Err(invalid(field("bits"), format!("one of {CODE_BITS:?}"), row.bits.to_string()));
        }
        let isa = |name: &str, value: Option<String>| match value {
            None => Ok(None),
            Some(value) => match Isa::available().into_iter().find(|isa| isa.name() == value) {
                Some(isa) => Ok(Some(isa)),
                None => Err(invalid(field(name), format!("one of {}", device.isas.join(", ")), value)),
            },
        };
        let choice = KernelChoice {
            few: isa("few", row.few)?,
            family: named(file, &field("family"), row.family, &KernelFamily::ALL.map(KernelFamily::name))?,
            many: isa("many", row.many)?,
            many_from: within(&field("many_from"), row.many_from, NEVER)?,
        };
        tuning.set(row.bits, choice);
    }
    Ok(tuning)
}

/// What is called `name`, if anything is; `names` are those that there are.
fn named<T: FromStr>(file: &str, field: &str, name: Option<String>, names: &[&str]) -> Result<Option<T>> {
    let Some(name) = name else { return Ok(None) };
    let found = name.parse().ok();
    let unknown = || FormatError::invalid(file, field, names.join(" or "), name.clone());
    Ok(Some(found.ok_or_else(unknown)?))
}

/// `tuning` as the profile of `device`.
///
/// # Errors
/// None that is known.
pub fn to_json(tuning: &Tuning, device: &Device) -> serde_json::Result<String> {
    let name = |isa: Option<Isa>| isa.map(|isa| isa.name().to_owned());
    let row = |bits| {
        let KernelChoice { few, family, many, many_from } = tuning.choice(bits);
        let family = family.map(|family| family.name().to_owned());
        Row { bits, few: name(few), family, many: name(many), many_from }
    };
    let contents = Contents {
        version: VERSION,
        device: device.clone(),
        threads: Threads { decode: tuning.decode_threads, prefill: tuning.prefill_threads },
        fetch: tuning.fetch.map(|fetch| fetch.name().to_owned()),
        kernels: CODE_BITS.into_iter().map(row).collect(),
    };
    Ok(serde_json::to_string_pretty(&contents)? + "\n")
}
