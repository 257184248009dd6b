//! `sterna run`: one prompt in, text out.

use std::io::{IsTerminal, Read, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::CommandFactory;
use clap::error::ErrorKind;
use serde::Serialize;
use sterna::{Completion, Engine, FinishReason, Message, Request, Sampler, SamplingOptions, Special};

use super::memory::peak_rss;
use super::saved::{self, Said};
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
    /// Go on from the text and the answer in this file, without reading them again; if there is no such file, write it
    /// after the answer
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    #[command(flatten)]
    generate: GenerateArgs,
}

pub(super) fn run(args: Args, global: &Global) -> anyhow::Result<ExitCode> {
    ensure!(
        args.state.as_ref().is_none_or(|file| file.extension().is_none_or(|extension| extension != "json")),
        "--state writes what was computed, which is no JSON: choose another name"
    );
    let text = args.prompt_text()?;
    let path = model_arg::resolve(&args.model)?;
    handle_interrupts()?;
    args.generate.check_memory(&path)?;
    let engine = Engine::load(&path, &args.generate.engine_options()?)?;
    let base = SamplingOptions { seed: random_seed(), ..engine.recommended_sampling().clone() };
    let sampling = args.generate.sampling.over(base)?;
    if global.verbose {
        note(describe(&sampling));
    }
    let mut session = engine.session();
    let said = match args.state.as_deref().filter(|file| file.exists()) {
        Some(file) => Some(saved::read(file, &engine)?.resume(&mut session)?),
        None => None,
    };
    let new_file = args.state.as_deref().filter(|_| said.is_none());
    if let Some(file) = new_file {
        saved::check_writable(file, &engine)?;
    }
    let (mut said, prompt) = args.prompt(&engine, said, text)?;

    let interruptible = Interruptible::start();
    let cancel = interruptible.cancel();
    let request = Request {
        prompt: &prompt,
        max_tokens: args.generate.sampling.max_tokens,
        stop: &args.generate.sampling.stop,
        cancel,
    };
    let mut sampler = Sampler::new(sampling.clone())?;
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
    if let Some(file) = new_file.filter(|_| completion.finish_reason != FinishReason::Cancelled) {
        match &mut said {
            Said::Messages(messages) => messages.push(Message::new("assistant", &completion.text)),
            Said::Text(tokens) => tokens.extend(&completion.tokens),
        }
        saved::write(file, &engine, &session, &said)?;
        note(format_args!("{} tokens saved to {}", session.tokens().len(), file.display()));
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

    /// All that is said with `text` after `before`, and its tokens.
    fn prompt(
        &self,
        engine: &Engine,
        before: Option<Said>,
        text: String,
    ) -> anyhow::Result<(Said, Vec<u32>)> {
        ensure!(!text.is_empty(), "the prompt is empty");
        let mut messages = match before {
            Some(Said::Text(mut tokens)) => {
                tokens.extend(engine.tokenizer().encode(&text, Special::Parse)?);
                return Ok((Said::Text(tokens.clone()), tokens));
            }
            Some(Said::Messages(messages)) => {
                ensure!(!self.raw, "the state is of a conversation, which --raw does not go on with");
                ensure!(
                    self.system.is_none(),
                    "--system comes before all that is said, but the state goes on"
                );
                messages
            }
            None => {
                let is_raw = self.raw || (!engine.has_chat_template() && self.system.is_none());
                if is_raw && !self.raw {
                    note("the model has no chat template: continuing the text as with --raw");
                }
                if is_raw {
                    let tokens = engine.text_prompt(&text)?;
                    return Ok((Said::Text(tokens.clone()), tokens));
                }
                self.system.iter().map(|text| Message::new("system", text)).collect()
            }
        };
        messages.push(Message::new("user", text));
        let tokens = engine.chat_prompt(&messages)?;
        Ok((Said::Messages(messages), tokens))
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Output<'a> {
    model: &'a str,
    text: &'a str,
    finish_reason: &'static str,
    prompt_tokens: usize,
    cached_tokens: usize,
    generated_tokens: usize,
    sampling: SamplingOutput,
    speculation: SpeculationOutput,
    threads: usize,
    load_seconds: f64,
    peak_rss_bytes: Option<u64>,
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
            cached_tokens: completion.cached_tokens,
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
            peak_rss_bytes: peak_rss(),
            time_to_first_token_seconds: timings.time_to_first_token.as_secs_f64(),
            decode_seconds: timings.decode.as_secs_f64(),
            prompt_tokens_per_second: completion.prompt_tokens_per_second(),
            decode_tokens_per_second: completion.decode_tokens_per_second(),
        }
    }
}
