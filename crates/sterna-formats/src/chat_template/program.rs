//! A template compiled with a charge at every instruction whose cost depends on the size of a value.
//!
//! The engine counts instructions, but one of them can double a string, and one can compare lists that share
//! themselves a billion times over. So between compiling and running, instructions that build get a charge for what
//! they built after them, and those that go through values get one for their operands before them; filters, tests and
//! methods are called through functions that charge first, which are in [`super::charges`].

use std::collections::BTreeMap;

use minijinja::machinery::{self, CodeGenerator, Instruction, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind};

use super::charges::{BUILT, FILTER, MAP, METHOD, READ, TEST};

/// A filter or test that is looked up by name each time.
const NOT_CACHED: u8 = u8::MAX;

/// A compiled template.
pub(super) struct Program<'source> {
    instructions: Instructions<'source>,
    blocks: BTreeMap<&'source str, Instructions<'source>>,
}

impl<'source> Program<'source> {
    /// Compiles `source`.
    ///
    /// # Errors
    /// When it is no template, or says something that cannot be charged for.
    pub(super) fn compile(source: &'source str, syntax: SyntaxConfig) -> Result<Self, Error> {
        const NAME: &str = "chat_template";
        let tree = machinery::parse(source, NAME, syntax)?;
        let mut generator = CodeGenerator::new(NAME, source);
        generator.compile_stmt(&tree);
        let (instructions, blocks) = generator.finish();
        let blocks = blocks.iter().map(|(name, block)| Ok((*name, metered(block)?)));
        Ok(Program { instructions: metered(&instructions)?, blocks: blocks.collect::<Result<_, Error>>()? })
    }

    /// Runs the program in `environment`, to which [`super::charges::install`] was done.
    ///
    /// # Errors
    /// What the template itself raises or does wrong, and passing a limit.
    pub(super) fn render(&self, environment: &Environment<'source>, context: Value) -> Result<String, Error> {
        let mut text = String::new();
        let mut output = machinery::make_string_output(&mut text);
        machinery::eval(
            environment,
            &self.instructions,
            context,
            &self.blocks,
            &mut output,
            AutoEscape::None,
        )?;
        Ok(text)
    }
}

/// `instructions` with charges between them.
fn metered<'source>(instructions: &Instructions<'source>) -> Result<Instructions<'source>, Error> {
    let mut out = Vec::new();
    // Where each instruction, with what was put before it, now begins.
    let mut places = Vec::new();
    for (at, instruction) in (0..).map_while(|at| Some((at, instructions.get(at)?))) {
        places.push(out.len() as u32);
        let line = instructions.get_line(at);
        out.extend(with_charges(instruction)?.into_iter().map(|instruction| (instruction, line)));
    }
    places.push(out.len() as u32);
    let mut result = Instructions::new(instructions.name(), instructions.source());
    for (mut instruction, line) in out {
        use Instruction::*;
        if let Iterate(to)
        | Jump(to)
        | JumpIfFalse(to)
        | JumpIfFalseOrPop(to)
        | JumpIfTrueOrPop(to)
        | BuildMacro(_, to, _) = &mut instruction
        {
            *to = places[*to as usize];
        }
        match line.and_then(|line| u16::try_from(line).ok()) {
            Some(line) => result.add_with_line(instruction, line),
            None => result.add(instruction),
        };
    }
    Ok(result)
}

/// One instruction with what is to be done before and after it.
fn with_charges<'source>(instruction: &Instruction<'source>) -> Result<Vec<Instruction<'source>>, Error> {
    use Instruction::*;
    let charge = |name| ApplyFilter(name, Some(1), NOT_CACHED);
    let by_name = |name: &str| LoadConst(Value::from(name));
    let one_more = |n: &Option<u16>| {
        let n = n.and_then(|n| n.checked_add(1)).ok_or_else(|| {
            Error::new(ErrorKind::InvalidOperation, "filters, tests and methods take no * or ** arguments")
        });
        n.map(Some)
    };
    Ok(match instruction {
        Add | Mul | Slice | BuildList(_) | BuildTuple(_) => vec![instruction.clone(), charge(BUILT)],
        Eq | Ne | Gt | Gte | Lt | Lte | In | StringConcat | Rem | CompareAndPreserve(_) => {
            vec![Swap, charge(READ), Swap, charge(READ), instruction.clone()]
        }
        GetItem => vec![charge(READ), GetItem],
        EmitRaw(text) => vec![LoadConst(Value::from(*text)), Emit],
        BuildMap(n) => match u16::try_from(2 * n) {
            Ok(n) => vec![CallFunction(MAP, Some(n))],
            Err(_) => return Err(Error::new(ErrorKind::InvalidOperation, "a map of too many entries")),
        },
        ApplyFilter(name, n, _) => vec![by_name(name), ApplyFilter(FILTER, one_more(n)?, NOT_CACHED)],
        PerformTest(name, n, _) => vec![by_name(name), PerformTest(TEST, one_more(n)?, NOT_CACHED)],
        CallMethod(name, n) => vec![by_name(name), CallFunction(METHOD, one_more(n)?)],
        other => vec![other.clone()],
    })
}
