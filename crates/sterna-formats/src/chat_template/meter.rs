//! A budget of bytes for one rendering: what a template builds, reads and writes is charged here before or as it
//! happens, so that neither memory nor time depends on what a hostile template asks for.
//!
//! Containers share what they hold, so a list that was doubled forty times takes little memory but is endless to
//! compare or to print. Hence two measures: what is built costs its own size ([`Meter::charge_built`]), and what is
//! gone through costs the size of everything inside ([`Meter::charge_read`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

/// What a value costs besides its text.
const PER_VALUE: u64 = 16;

/// The bytes that are left.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    budget: u64,
    left: Arc<AtomicU64>,
}

impl Meter {
    /// A meter that lets `budget` bytes pass.
    pub(super) fn new(budget: u64) -> Meter {
        Meter { budget, left: Arc::new(AtomicU64::new(budget)) }
    }

    /// Takes `n_bytes` off what is left.
    pub(super) fn charge(&self, n_bytes: u64) -> Result<(), Error> {
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(n_bytes));
        taken.map(drop).map_err(|_| {
            let message = format!("the template works through more than {} bytes", self.budget);
            Error::new(ErrorKind::OutOfFuel, message)
        })
    }

    /// Charges the size of `value` without what its items hold.
    pub(super) fn charge_built(&self, value: &Value) -> Result<(), Error> {
        self.charge(own_size(value))
    }

    /// Charges the size of `value` with everything inside, and returns it. Goes no deeper than the budget.
    pub(super) fn charge_read(&self, value: &Value) -> Result<u64, Error> {
        let size = own_size(value);
        self.charge(size)?;
        if !is_container(value) {
            return Ok(size);
        }
        let mut total = size;
        let mut open = vec![value.clone()];
        while let Some(container) = open.pop() {
            for item in container.try_iter()? {
                let mapped =
                    (container.kind() == ValueKind::Map).then(|| container.get_item(&item)).transpose()?;
                for part in [Some(item), mapped].into_iter().flatten() {
                    let size = own_size(&part);
                    self.charge(size)?;
                    total = total.saturating_add(size);
                    if is_container(&part) {
                        open.push(part);
                    }
                }
            }
        }
        Ok(total)
    }
}

fn is_container(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable)
}

fn own_size(value: &Value) -> u64 {
    let text = value.as_str().map(str::len).or_else(|| value.as_bytes().map(<[u8]>::len));
    let items = if is_container(value) { value.len().unwrap_or(0) } else { 0 };
    PER_VALUE + text.unwrap_or(0) as u64 + PER_VALUE.saturating_mul(items as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_what_is_inside_as_often_as_it_is_there() {
        let inner = Value::from(vec!["abcd"; 2]);
        let outer = Value::from(vec![inner.clone(), inner]);
        let meter = Meter::new(1000);
        assert_eq!(meter.charge_read(&outer).unwrap(), 3 * (16 + 32) + 4 * 20);
        meter.charge_built(&outer).unwrap();
        assert_eq!(meter.left.load(Ordering::Relaxed), 1000 - 3 * 48 - 80 - 48);
        assert!(meter.charge(1000).is_err());
        meter.charge(1000 - 3 * 48 - 80 - 48).unwrap();
        assert!(meter.charge(1).is_err());
    }

    #[test]
    fn endless_sharing_ends_the_budget() {
        let mut list = Value::from(vec![1]);
        for _ in 0..60 {
            list = Value::from(vec![list.clone(), list]);
        }
        assert!(Meter::new(1 << 20).charge_read(&list).is_err());
    }
}
