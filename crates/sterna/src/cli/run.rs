//! `sterna run`: one prompt in, text out.

use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::CommandFactory;
use clap::error::ErrorKind;
use serde::Serialize;
use sterna::{Completion, Engine, FinishReason, Message, Request, Sampler, SamplingOptions};

use super::settings::{GenerateArgs, describe, random_seed};
use super::stream::{Printer, print_stats};
use super::terminal::{EXIT_INTERRUPTED, Interruptible, handle_interrupts, note};
use super::{Cli, Global, model_arg};

/// Answer one prompt, from an argument, a file or stdin
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A name from the catalogue or the store, a GGUF file, or a Hugging Face directory
    model: String,
    /// The prompt [default: read from stdin, less one newline at its end]
    prompt: Option<String>,
    /// Read the prompt from this file, less one newline at its end; `-` is stdin
    #[arg(short, long, conflicts_with = "prompt")]
    file: Option<PathBuf>,
    /// Continue the text as it is, without the model's chat template
    #[arg(long)]
    raw: bool,
    /// Instructions before the prompt
    #[arg(long, conflicts_with = "raw")]
    system: Option<String>,
    /// Print one JSON object with the text, token counts, timings and the reason it ended
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    generate: GenerateArgs,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    let text = args.prompt_text()?;
    let path = model_arg::resolve(&args.model)?;
    handle_interrupts()?;
    let engine = Engine::load(&path, &args.generate.engine_options()?)?;
    let base = SamplingOptions { seed: random_seed(), ..engine.recommended_sampling().clone() };
    let sampling = args.generate.sampling.over(base)?;
    if global.verbose {
        note(describe(&sampling));
    }
    let prompt = args.prompt_tokens(&engine, &text)?;

    let interruptible = Interruptible::start();
    let cancel = interruptible.cancel();
    let request = Request {
        prompt: &prompt,
        max_tokens: args.generate.sampling.max_tokens,
        stop: &args.generate.sampling.stop,
        cancel,
    };
    let mut sampler = Sampler::new(sampling.clone())?;
    let mut session = engine.session();
    let completion = if args.json {
        let completion = session.generate(engine.tokenizer(), &mut sampler, request, |_| {})?;
        let output = Output::new(&args.model, &engine, &sampling, &completion);
        writeln!(stdout(), "{}", serde_json::to_string_pretty(&output)?)?;
        completion
    } else {
        let mut printer = Printer::new(cancel);
        let completion =
            session.generate(engine.tokenizer(), &mut sampler, request, |event| printer.show(event))?;
        printer.finish()?;
        completion
    };
    if global.verbose {
        print_stats(&completion);
    }
    match completion.finish_reason {
        FinishReason::Context => {
            note(format_args!("the context of {} tokens is full", engine.network().context))
        }
        FinishReason::Cancelled => return Ok(ExitCode::from(EXIT_INTERRUPTED)),
        FinishReason::Stop | FinishReason::Length => {}
    }
    Ok(ExitCode::SUCCESS)
}

impl Args {
    fn prompt_text(&self) -> anyhow::Result<String> {
        let mut text = match (&self.prompt, &self.file) {
            (Some(prompt), _) => return Ok(prompt.clone()),
            (None, Some(file)) if file != Path::new("-") => {
                std::fs::read_to_string(file).with_context(|| format!("prompt file {}", file.display()))?
            }
            (None, file) => {
                if file.is_none() && stdin().is_terminal() {
                    let missing = "no prompt: give one as an argument, with -f FILE, or on stdin";
                    Cli::command().error(ErrorKind::MissingRequiredArgument, missing).exit();
                }
                let mut text = String::new();
                stdin().read_to_string(&mut text).context("prompt on stdin")?;
                text
            }
        };
        // The newline that `echo` and editors put at the end is not part of what was meant.
        if text.ends_with('\n') {
            text.truncate(text.len() - if text.ends_with("\r\n") { 2 } else { 1 });
        }
        Ok(text)
    }

    fn prompt_tokens(&self, engine: &Engine, text: &str) -> anyhow::Result<Vec<u32>> {
        ensure!(!text.is_empty(), "the prompt is empty");
        if self.raw {
            return Ok(engine.text_prompt(text)?);
        }
        if !engine.has_chat_template() && self.system.is_none() {
            note("the model has no chat template: continuing the text as with --raw");
            return Ok(engine.text_prompt(text)?);
        }
        let system = self.system.iter().map(|text| Message::new("system", text));
        let messages: Vec<Message> = system.chain([Message::new("user", text)]).collect();
        Ok(engine.chat_prompt(&messages)?)
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    model: &'a str,
    text: &'a str,
    finish_reason: &'static str,
    prompt_tokens: usize,
    generated_tokens: usize,
    sampling: SamplingOutput,
    speculation: SpeculationOutput,
    threads: usize,
    load_seconds: f64,
    time_to_first_token_seconds: f64,
    decode_seconds: f64,
    prompt_tokens_per_second: Option<f64>,
    decode_tokens_per_second: Option<f64>,
}

/// Tokens that were guessed, and how many of them rightly.
#[derive(Serialize)]
struct SpeculationOutput {
    passes: usize,
    guessed_tokens: usize,
    accepted_tokens: usize,
}

/// With the seed, all that it takes to get the same text again.
#[derive(Serialize)]
struct SamplingOutput {
    temperature: f32,
    top_k: usize,
    top_p: f32,
    min_p: f32,
    repeat_penalty: f32,
    seed: u64,
}

impl<'a> Output<'a> {
    fn new(model: &'a str, engine: &Engine, sampling: &SamplingOptions, completion: &'a Completion) -> Self {
        let timings = completion.timings;
        Output {
            model,
            text: &completion.text,
            finish_reason: completion.finish_reason.name(),
            prompt_tokens: completion.prompt_tokens,
            generated_tokens: completion.tokens.len(),
            sampling: SamplingOutput {
                temperature: sampling.temperature,
                top_k: sampling.top_k,
                top_p: sampling.top_p,
                min_p: sampling.min_p,
                repeat_penalty: sampling.repeat_penalty,
                seed: sampling.seed,
            },
            speculation: SpeculationOutput {
                passes: completion.speculation.passes,
                guessed_tokens: completion.speculation.guessed,
                accepted_tokens: completion.speculation.accepted,
            },
            threads: engine.network().compute.pool.n_threads(),
            load_seconds: engine.network().load_time.as_secs_f64(),
            time_to_first_token_seconds: timings.time_to_first_token.as_secs_f64(),
            decode_seconds: timings.decode.as_secs_f64(),
            prompt_tokens_per_second: completion.prompt_tokens_per_second(),
            decode_tokens_per_second: completion.decode_tokens_per_second(),
        }
    }
}
