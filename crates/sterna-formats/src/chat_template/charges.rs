//! What the parts of a template cost, and the functions through which a metered program pays for them.

use minijinja::value::{Rest, Value, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};

use super::meter::Meter;

/// Names of the functions that [`install`] adds; no template can say them.
pub(super) const BUILT: &str = "\0built";
pub(super) const READ: &str = "\0read";
pub(super) const MAP: &str = "\0map";
pub(super) const FILTER: &str = "\0filter";
pub(super) const TEST: &str = "\0test";
pub(super) const METHOD: &str = "\0method";

/// Filters whose work and result are within the size of their arguments, up to a factor.
const LINEAR_FILTERS: &[&str] = &[
    "abs",
    "attr",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "int",
    "items",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "max",
    "min",
    "reverse",
    "round",
    "safe",
    "sort",
    "split",
    "string",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
];
/// Filters that go through their arguments for each item of the value.
const FILTERS_BY_ITEM: &[&str] = &["join", "map", "reject", "rejectattr", "select", "selectattr"];
/// Filters that `map` may apply to every item.
const FILTERS_OF_ITEMS: &[&str] =
    &["capitalize", "float", "int", "length", "lower", "string", "title", "trim", "upper"];
/// The most columns that `indent` indents by.
const MAX_INDENT: u64 = 100;

/// Gives `environment` the functions that a [`Program`](super::program::Program) calls, all charging `meter`.
pub(super) fn install(environment: &mut Environment<'_>, meter: &Meter) {
    let on = meter.clone();
    environment.add_filter(BUILT, move |value: Value| on.charge_built(&value).map(|()| value));
    let on = meter.clone();
    environment.add_filter(READ, move |value: Value| on.charge_read(&value).map(|_| value));
    let on = meter.clone();
    environment.add_function(MAP, move |Rest(parts): Rest<Value>| {
        let (pairs, _) = parts.as_chunks::<2>();
        on.charge(32 * pairs.len() as u64)?;
        pairs.iter().try_for_each(|[key, _]| on.charge_read(key).map(drop))?;
        Ok::<_, Error>(Value::from_pairs(pairs.iter().cloned().map(|[key, value]| (key, value))))
    });
    let on = meter.clone();
    environment.add_filter(FILTER, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
        let mut args = args.into_values();
        let name = pop_name(&mut args);
        charge_filter(&on, &name, &args)?;
        let result = state.apply_filter(&name, &args)?;
        on.charge_built(&result)?;
        Ok::<_, Error>(result)
    });
    let on = meter.clone();
    environment.add_test(TEST, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
        let mut args = args.into_values();
        let name = pop_name(&mut args);
        if args.len() > 1 {
            args.iter().try_for_each(|arg| on.charge_read(arg).map(drop))?;
        }
        state.perform_test(&name, &args)
    });
    // The engine's own divides by zero.
    environment.add_test("divisibleby", |value: i64, by: i64| value.checked_rem(by) == Some(0));
    let on = meter.clone();
    environment.add_function(METHOD, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
        let mut args = args.into_values();
        let name = pop_name(&mut args);
        charge_method(&on, &name, &args)?;
        let result = args[0].call_method(state, &name, &args[1..])?;
        on.charge_built(&result)?;
        Ok::<_, Error>(result)
    });
    let on = meter.clone();
    environment.set_formatter(move |out, state, value| {
        on.charge_read(value)?;
        minijinja::escape_formatter(out, state, value)
    });
}

/// The name that a metered program puts after the arguments.
fn pop_name(args: &mut Vec<Value>) -> String {
    args.pop().map(|name| name.to_string()).unwrap_or_default()
}

/// Charges for a filter on `args`, the value first.
fn charge_filter(meter: &Meter, name: &str, args: &[Value]) -> Result<(), Error> {
    let (value, args) =
        args.split_first().ok_or_else(|| Error::new(ErrorKind::MissingArgument, name.to_owned()))?;
    let size = meter.charge_read(value)?;
    let args_size = charge_all(meter, args)?;
    match name {
        "replace" => charge_replace(meter, value, args),
        "format" => charge_format(meter, value, args_size),
        "indent" => meter.charge(size.saturating_mul(MAX_INDENT)).and_then(|()| check_indent(args)),
        "map"
            if args.first().is_some_and(|filter| {
                !FILTERS_OF_ITEMS.contains(&filter.as_str().unwrap_or("")) && !filter.is_kwargs()
            }) =>
        {
            Err(Error::new(
                ErrorKind::InvalidOperation,
                format!("map takes an attribute or one of {}", FILTERS_OF_ITEMS.join(", ")),
            ))
        }
        by_item if FILTERS_BY_ITEM.contains(&by_item) => {
            meter.charge((value.len().unwrap_or(0) as u64).saturating_mul(args_size.max(16)))
        }
        linear if LINEAR_FILTERS.contains(&linear) => Ok(()),
        other => Err(Error::new(ErrorKind::UnknownFilter, format!("chat templates have no filter {other}"))),
    }
}

/// Charges for a method of the first of `args`.
fn charge_method(meter: &Meter, name: &str, args: &[Value]) -> Result<(), Error> {
    let (value, args) =
        args.split_first().ok_or_else(|| Error::new(ErrorKind::MissingArgument, name.to_owned()))?;
    let args_size = charge_all(meter, args)?;
    if value.as_object().is_some() && value.as_str().is_none() {
        // Macros, loops and namespaces charge for what they do; lists and maps hand out what they hold.
        return meter.charge_built(value);
    }
    meter.charge_read(value)?;
    match name {
        "replace" => charge_replace(meter, value, args),
        "format" => charge_format(meter, value, args_size),
        "join" => {
            let items = args.first().and_then(Value::len).unwrap_or(0) as u64;
            meter.charge(items.saturating_mul(value.as_str().map_or(0, str::len) as u64))
        }
        _ => Ok(()),
    }
}

fn charge_all(meter: &Meter, args: &[Value]) -> Result<u64, Error> {
    args.iter().try_fold(0u64, |sum, arg| Ok(sum.saturating_add(meter.charge_read(arg)?)))
}

/// Every place of `from` in `text`, at most one more than there are bytes, may become `to`.
fn charge_replace(meter: &Meter, text: &Value, args: &[Value]) -> Result<(), Error> {
    let [Some(text), Some(from), Some(to)] =
        [Some(text), args.first(), args.get(1)].map(|value| value.and_then(Value::as_str))
    else {
        return Ok(());
    };
    meter.charge((text.matches(from).count() as u64).saturating_mul(to.len() as u64))
}

/// A format string may repeat its arguments, and pad them to a width.
fn charge_format(meter: &Meter, text: &Value, args_size: u64) -> Result<(), Error> {
    let text = text.as_str().unwrap_or_default();
    let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
    let braces = text.replace("{{", "").replace("}}", "");
    let nests = braces.split('{').skip(1).any(|field| !field.contains('}')) && braces.contains('{');
    if digits > 2 || text.contains('*') || nests {
        return Err(Error::new(
            ErrorKind::InvalidOperation,
            "a format with a width over 99 or one from an argument",
        ));
    }
    let fields = text.matches(['{', '%']).count() as u64;
    meter.charge(fields.saturating_mul(args_size.saturating_add(100)))
}

fn check_indent(args: &[Value]) -> Result<(), Error> {
    match args.iter().filter_map(Value::as_usize).any(|width| width as u64 > MAX_INDENT) {
        true => Err(Error::new(ErrorKind::InvalidOperation, format!("an indent over {MAX_INDENT}"))),
        false => Ok(()),
    }
}
