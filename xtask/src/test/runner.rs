//! Runs named steps, counts the tests in them, and sums up.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Passed and failed checks: each test of a test program counts, and each step without tests counts as one.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Count {
    passed: usize,
    failed: usize,
}

enum Outcome {
    Ran(Count),
    Skipped(String),
    /// Not begun, because an earlier step failed.
    NotRun,
}

struct Step {
    name: String,
    outcome: Outcome,
    time: Duration,
}

pub(super) struct Runner {
    keep_going: bool,
    begun: Instant,
    steps: Vec<Step>,
}

impl Runner {
    pub(super) fn new(keep_going: bool) -> Self {
        Self { keep_going, begun: Instant::now(), steps: Vec::new() }
    }

    /// Runs a command, showing what it prints.
    pub(super) fn step(&mut self, name: &str, command: Command) {
        self.timed(name, || match run(command) {
            Ok(count) => (count, None),
            Err(error) => (Count { passed: 0, failed: 1 }, Some(error.to_string())),
        });
    }

    /// Runs `task`; gives its result unless it failed or is not to be run.
    pub(super) fn task<T>(&mut self, name: &str, task: impl FnOnce() -> anyhow::Result<T>) -> Option<T> {
        let mut result = None;
        self.timed(name, || match task() {
            Ok(value) => {
                result = Some(value);
                (Count { passed: 1, failed: 0 }, None)
            }
            Err(error) => (Count { passed: 0, failed: 1 }, Some(format!("{error:#}"))),
        });
        result
    }

    /// A step that fails because something is missing.
    pub(super) fn fail(&mut self, name: &str, why: &str) {
        self.timed(name, || (Count { passed: 0, failed: 1 }, Some(why.to_owned())));
    }

    /// A step that cannot be run here.
    pub(super) fn skip(&mut self, name: &str, why: &str) {
        println!("\n━━ {name}: SKIPPED, {why}");
        self.push(name, Outcome::Skipped(why.to_owned()), Duration::ZERO);
    }

    fn timed(&mut self, name: &str, run: impl FnOnce() -> (Count, Option<String>)) {
        if !self.keep_going && self.failed() {
            return self.push(name, Outcome::NotRun, Duration::ZERO);
        }
        println!("\n━━ {name}");
        let begun = Instant::now();
        let (count, error) = run();
        let time = begun.elapsed();
        if let Some(error) = error {
            println!("{error}");
        }
        println!("━━ {name}: {} in {:.1} s", verdict(count), time.as_secs_f64());
        self.push(name, Outcome::Ran(count), time);
    }

    fn push(&mut self, name: &str, outcome: Outcome, time: Duration) {
        self.steps.push(Step { name: name.to_owned(), outcome, time });
    }

    fn failed(&self) -> bool {
        self.total().failed > 0
    }

    fn total(&self) -> Count {
        self.steps.iter().fold(Count::default(), |sum, step| match step.outcome {
            Outcome::Ran(count) => sum.and(count),
            _ => sum,
        })
    }

    /// Prints the summary; ends the program with status 1 if anything failed.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        println!("\n━━ summary, {:.0} s", self.begun.elapsed().as_secs_f64());
        for Step { name, outcome, time } in &self.steps {
            let verdict = match outcome {
                Outcome::Ran(count) => format!("{:6.1} s  {}", time.as_secs_f64(), verdict(*count)),
                Outcome::Skipped(why) => format!("{:>8}  SKIPPED: {why}", "-"),
                Outcome::NotRun => format!("{:>8}  not run", "-"),
            };
            println!("{name:32} {verdict}");
        }
        let Count { passed, failed } = self.total();
        println!("{passed} passed, {failed} failed");
        std::io::stdout().flush()?;
        if failed > 0 {
            std::process::exit(1);
        }
        Ok(())
    }
}

impl Count {
    fn and(self, other: Count) -> Count {
        Count { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }

    /// Reads a line such as `test result: ok. 28 passed; 0 failed; 0 ignored; …`.
    fn of_line(line: &str) -> Option<Count> {
        let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
        let number = |word: &str| {
            let before = counts.split(';').find_map(|part| part.trim().strip_suffix(word));
            before.and_then(|digits| digits.trim().parse().ok())
        };
        Some(Count { passed: number("passed")?, failed: number("failed")? })
    }
}

fn verdict(count: Count) -> String {
    match count {
        Count { passed: 1, failed: 0 } => "passed".to_owned(),
        Count { passed, failed: 0 } => format!("{passed} passed"),
        Count { passed: 0, failed: 1 } => "FAILED".to_owned(),
        Count { passed, failed } => format!("{passed} passed, {failed} FAILED"),
    }
}

/// Shows the command's output as it comes, without the line of each test that passed, and counts its tests.
fn run(mut command: Command) -> std::io::Result<Count> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut count = Count::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            count = count.and(Count::of_line(&line).unwrap_or_default());
            if !is_noise(&line) {
                println!("{line}");
            }
        }
    }
    let success = child.wait()?.success();
    Ok(match (success, count) {
        (true, Count { passed: 0, failed: 0 }) => Count { passed: 1, failed: 0 },
        (false, Count { passed, failed: 0 }) => Count { passed, failed: 1 },
        _ => count,
    })
}

fn is_noise(line: &str) -> bool {
    line.is_empty() || line.starts_with("test ") && line.ends_with(" ... ok") || line.starts_with("running ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_tests_of_a_test_program() {
        let line = "test result: FAILED. 28 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.11s";
        assert_eq!(Count::of_line(line), Some(Count { passed: 28, failed: 2 }));
        for line in ["", "test result: ", "test a ... ok", "test result: ok. many passed; 0 failed"] {
            assert_eq!(Count::of_line(line), None, "{line}");
        }
    }

    #[test]
    fn a_failed_step_keeps_later_ones_from_running_unless_told() {
        for (keep_going, expected) in [(false, 1), (true, 2)] {
            let mut runner = Runner::new(keep_going);
            runner.fail("first", "on purpose");
            let second = runner.task("second", || Ok(7));
            assert_eq!(second.is_some(), keep_going);
            assert_eq!(runner.total().failed + runner.total().passed, expected);
        }
    }
}
