//! How much energy the machine takes, where it tells.
//!
//! Processors of Intel and AMD count microjoules of each package (RAPL), which Linux shows under `/sys/class/powercap`: to root alone, since
//! such counters tell others what is being computed (CVE-2020-8694). A laptop that runs on its battery tells the power that it draws, all
//! of the machine's, screen included.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where energy is read from, or why it is not.
pub(super) struct Meter(Result<Source, String>);

enum Source {
    Packages(Vec<Package>),
    /// Files with the power of each battery that is being emptied, microwatts.
    Batteries(Vec<PathBuf>),
}

/// A counter of microjoules that starts again after `range`.
struct Package {
    energy: PathBuf,
    range: u64,
}

/// What the source said at one time: energies or powers.
pub(super) struct Reading(Option<Vec<u64>>);

impl Meter {
    /// The meter of this machine.
    pub(super) fn find() -> Meter {
        Meter::under(Path::new("/sys/class"))
    }

    fn under(class: &Path) -> Meter {
        let packages = packages(&class.join("powercap"));
        Meter(match (packages, batteries(&class.join("power_supply"))) {
            (Ok(packages), _) => Ok(Source::Packages(packages)),
            (Err(_), batteries) if !batteries.is_empty() => Ok(Source::Batteries(batteries)),
            (Err(why), _) => Err(why),
        })
    }

    /// What is read, in words.
    pub(super) fn source(&self) -> Option<&'static str> {
        match &self.0 {
            Ok(Source::Packages(_)) => Some("RAPL counters of the processor packages"),
            Ok(Source::Batteries(_)) => Some("power drawn from the battery"),
            Err(_) => None,
        }
    }

    /// Why nothing is read.
    pub(super) fn why_not(&self) -> Option<&str> {
        self.0.as_ref().err().map(String::as_str)
    }

    /// What the source says now.
    pub(super) fn read(&self) -> Reading {
        let numbers = match &self.0 {
            Ok(Source::Packages(packages)) => {
                packages.iter().map(|package| number(&package.energy)).collect()
            }
            Ok(Source::Batteries(batteries)) => batteries.iter().map(|power| number(power)).collect(),
            Err(_) => None,
        };
        Reading(numbers)
    }

    /// Joules from `start` to `end`, which lie `time` apart.
    pub(super) fn joules(&self, start: &Reading, end: &Reading, time: Duration) -> Option<f64> {
        let pairs = || Some(start.0.as_ref()?.iter().zip(end.0.as_ref()?));
        match self.0.as_ref().ok()? {
            Source::Packages(packages) => {
                let spent = |(package, (&start, &end)): (&Package, (&u64, &u64))| match end >= start {
                    true => end - start,
                    false => package.range.saturating_sub(start) + end,
                };
                Some(packages.iter().zip(pairs()?).map(spent).sum::<u64>() as f64 * 1e-6)
            }
            Source::Batteries(_) => {
                let watts: f64 = pairs()?.map(|(&start, &end)| (start as f64 + end as f64) * 0.5e-6).sum();
                Some(watts * time.as_secs_f64())
            }
        }
    }
}

/// The counters of all packages under `powercap`, or why they cannot be read.
fn packages(powercap: &Path) -> Result<Vec<Package>, String> {
    let none = || "this system has no energy counters (RAPL) and no battery in use".to_owned();
    let mut packages = Vec::new();
    for entry in fs::read_dir(powercap).map_err(|_| none())?.filter_map(Result::ok) {
        // `intel-rapl:0` is a package, `intel-rapl:0:0` a part of it; AMD's are called the same.
        let name = entry.file_name();
        let is_package = name.to_str().and_then(|name| name.strip_prefix("intel-rapl:"));
        if is_package.is_none_or(|index| index.contains(':')) {
            continue;
        }
        let energy = entry.path().join("energy_uj");
        if let Err(error) = fs::read_to_string(&energy) {
            let who = match error.kind() {
                ErrorKind::PermissionDenied => "only root may, since these counters tell what others compute",
                _ => "the system does not let them be read",
            };
            return Err(format!("cannot read {}: {error}; {who}", energy.display()));
        }
        let range = number(&entry.path().join("max_energy_range_uj")).unwrap_or(0);
        packages.push(Package { energy, range });
    }
    if packages.is_empty() { Err(none()) } else { Ok(packages) }
}

/// The files with the power of each battery that is being emptied.
fn batteries(power_supply: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(power_supply).into_iter().flatten().filter_map(Result::ok);
    let discharging = |supply: &Path| {
        fs::read_to_string(supply.join("status")).is_ok_and(|status| status.trim() == "Discharging")
    };
    let power = |supply: PathBuf| {
        let power = supply.join("power_now");
        (discharging(&supply) && number(&power).is_some()).then_some(power)
    };
    entries.filter_map(|entry| power(entry.path())).collect()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(class: &Path, file: &str, text: &str) {
        let path = class.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn packages_are_added_and_counters_start_again() {
        let class = tempfile::tempdir().unwrap();
        let class = class.path();
        for (package, energy) in [("intel-rapl:0", "900"), ("intel-rapl:1", "5"), ("intel-rapl:0:0", "7")] {
            write(class, &format!("powercap/{package}/energy_uj"), energy);
            write(class, &format!("powercap/{package}/max_energy_range_uj"), "1000\n");
        }
        let meter = Meter::under(class);
        let start = meter.read();
        write(class, "powercap/intel-rapl:0/energy_uj", "400\n");
        write(class, "powercap/intel-rapl:1/energy_uj", "105\n");
        let joules = meter.joules(&start, &meter.read(), Duration::from_secs(1)).unwrap();
        assert!((joules - 600e-6).abs() < 1e-12, "{joules}");
        assert!(meter.source().is_some_and(|source| source.contains("RAPL")) && meter.why_not().is_none());
    }

    #[test]
    fn a_battery_in_use_tells_its_power() {
        let class = tempfile::tempdir().unwrap();
        let class = class.path();
        write(class, "power_supply/BAT0/status", "Discharging\n");
        write(class, "power_supply/BAT0/power_now", "8000000\n");
        write(class, "power_supply/BAT1/status", "Charging\n");
        write(class, "power_supply/BAT1/power_now", "1000000\n");
        let meter = Meter::under(class);
        let start = meter.read();
        write(class, "power_supply/BAT0/power_now", "12000000\n");
        assert_eq!(meter.joules(&start, &meter.read(), Duration::from_millis(500)), Some(5.0));
    }

    #[test]
    fn without_a_source_there_is_a_reason() {
        let class = tempfile::tempdir().unwrap();
        let meter = Meter::under(class.path());
        assert!(meter.source().is_none());
        assert!(meter.why_not().is_some_and(|why| why.contains("no energy counters")));
        assert_eq!(meter.joules(&meter.read(), &meter.read(), Duration::from_secs(1)), None);
        // Something in the place of a counter that is none.
        fs::create_dir_all(class.path().join("powercap/intel-rapl:0/energy_uj")).unwrap();
        assert!(Meter::under(class.path()).why_not().is_some_and(|why| why.contains("energy_uj")));
    }
}
