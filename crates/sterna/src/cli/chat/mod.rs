//! `sterna chat`: talk to a model in the terminal.

mod command;
mod conversation;
mod input;

use std::process::ExitCode;

use anyhow::ensure;
use sterna::{Completion, Engine, FinishReason, Sampler, SamplingOptions};

use super::settings::{GenerateArgs, SamplingArgs, describe, random_seed};
use super::stream::{Printer, print_stats};
use super::terminal::{Interruptible, bold, handle_interrupts, note, red};
use super::{Global, model_arg};
use command::{Command, Line};
use conversation::Conversation;
use input::{Entry, Input};

/// Chat with a model
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name from the catalogue or the store, a GGUF file, or a Hugging Face directory [default: a small model,
    /// downloaded the first time]
    model: Option<String>,
    /// Instructions to the model, ahead of the conversation
    #[arg(long)]
    system: Option<String>,
    /// Show tokens per second after each answer
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    generate: GenerateArgs,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    handle_interrupts()?;
    let path = model_arg::resolve_or_pull(args.model.as_deref(), global)?;
    args.generate.check_memory(&path)?;
    let engine = Engine::load(&path, &args.generate.engine_options()?)?;
    ensure!(
        engine.has_chat_template(),
        "{} has no chat template: it continues text and does not converse; `sterna run` does that",
        path.display()
    );
    let mut chat = Chat::new(&engine, args)?;
    if global.verbose {
        note(describe(&chat.sampling));
    }
    let mut input = Input::new(model_arg::history_file())?;
    if input.is_terminal() {
        let n_params = super::units::count(engine.network().size.n_params);
        let threads = engine.network().compute.pool.n_threads();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        eprintln!("{}", bold(format_args!("{stem}")));
        note(format_args!("{n_params} parameters, {threads} threads. /help lists commands, Ctrl-D leaves."));
    }
    while let Some(entry) = input.read()? {
        let done = match entry {
            Entry::Message(text) => chat.answer(text).map(|()| true),
            Entry::Line(line) => match command::parse(&line) {
                Ok(Line::Message(text)) if text.is_empty() => Ok(true),
                Ok(Line::Message(text)) => chat.answer(text).map(|()| true),
                Ok(Line::Command(command)) => chat.execute(command),
                Err(mistake) => Err(anyhow::anyhow!(mistake)),
            },
        };
        match done {
            Ok(true) => {}
            Ok(false) => break,
            // A person reads the error and goes on; a script must not go on as if nothing had happened.
            Err(error) if input.is_terminal() && !super::is_broken_pipe(&error) => {
                eprintln!("{} {}", red("error:"), super::in_one_line(&error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A conversation, how it is sampled, and what is shown.
struct Chat<'a> {
    engine: &'a Engine,
    conversation: Conversation<'a>,
    /// Flags, and what `/set` changed since.
    settings: SamplingArgs,
    sampling: SamplingOptions,
    sampler: Sampler,
    stats: bool,
}

impl<'a> Chat<'a> {
    fn new(engine: &'a Engine, args: Args) -> anyhow::Result<Chat<'a>> {
        let base = SamplingOptions { seed: random_seed(), ..engine.recommended_sampling().clone() };
        let sampling = args.generate.sampling.over(base)?;
        Ok(Chat {
            engine,
            conversation: Conversation::new(engine, args.system),
            settings: args.generate.sampling,
            sampler: Sampler::new(sampling.clone())?,
            sampling,
            stats: args.stats,
        })
    }

    fn answer(&mut self, text: String) -> anyhow::Result<()> {
        self.generate(|conversation, turn| conversation.say(text, turn))
    }

    /// False to leave.
    fn execute(&mut self, command: Command) -> anyhow::Result<bool> {
        match command {
            Command::Bye => return Ok(false),
            Command::Help => eprintln!("{}", command::HELP),
            Command::System(None) => match self.conversation.system() {
                Some(system) => eprintln!("{system}"),
                None => note("no system prompt"),
            },
            Command::System(Some(text)) => {
                self.conversation = Conversation::new(self.engine, Some(text));
                note("system prompt set; the conversation starts anew");
            }
            Command::Set(None) => eprintln!("{}", self.describe_settings()),
            Command::Set(Some(change)) => self.set(change)?,
            Command::Regenerate => self.generate(|conversation, turn| conversation.say_again(turn))?,
            Command::Clear => {
                self.conversation.clear();
                note("cleared");
            }
            Command::Save(file) => {
                let _finishes = Interruptible::start();
                self.conversation.save(&file)?;
                note(format_args!("saved to {}", file.display()));
            }
            Command::Load(file) => {
                let _finishes = Interruptible::start();
                let n_messages = self.conversation.load(&file)?;
                note(format_args!("{n_messages} messages loaded"));
            }
            Command::Stats => {
                self.stats = !self.stats;
                note(if self.stats { "stats on" } else { "stats off" });
            }
        }
        Ok(true)
    }

    fn set(&mut self, change: SamplingArgs) -> anyhow::Result<()> {
        self.sampling = change.over(self.sampling.clone())?;
        self.settings.max_tokens = change.max_tokens.or(self.settings.max_tokens);
        self.sampler = Sampler::new(self.sampling.clone())?;
        Ok(())
    }

    fn describe_settings(&self) -> String {
        let n = self.settings.max_tokens.map_or("no limit".to_owned(), |n| n.to_string());
        format!("{}  n {n}", describe(&self.sampling))
    }

    /// Lets the conversation go on by `step`, printing the answer as it comes.
    fn generate(
        &mut self,
        step: impl FnOnce(&mut Conversation<'a>, conversation::Turn<'_>) -> anyhow::Result<Completion>,
    ) -> anyhow::Result<()> {
        let interruptible = Interruptible::start();
        let cancel = interruptible.cancel();
        let mut printer = Printer::new(cancel);
        let turn = conversation::Turn {
            sampler: &mut self.sampler,
            max_tokens: self.settings.max_tokens,
            stop: &self.settings.stop,
            cancel,
            on_event: &mut |event| printer.show(event),
        };
        let completion = step(&mut self.conversation, turn)?;
        printer.finish()?;
        let context = self.engine.network().context;
        match completion.finish_reason {
            FinishReason::Context => {
                note(format_args!("the context of {context} tokens is full; /clear starts anew"))
            }
            FinishReason::Cancelled => note("stopped"),
            FinishReason::Length => note(format_args!("stopped after {} tokens", completion.tokens.len())),
            FinishReason::Stop => {}
        }
        if self.stats {
            print_stats(&completion);
        }
        Ok(())
    }
}
