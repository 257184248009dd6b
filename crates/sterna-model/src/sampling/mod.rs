//! From logits to the next token.
//!
//! The order is that of llama.cpp's default chain, and every step has the definition that llama.cpp and Hugging Face
//! share:
//!
//! 1. **repeat penalty** (Keskar et al., 2019, CTRL): the logit of each token among the last `repeat_last_n` is divided
//!    by the penalty if positive and multiplied by it if negative, once however often the token occurred;
//! 2. **top-k**: the `k` most likely tokens stay;
//! 3. **top-p**: the fewest most likely tokens stay whose probabilities, among those left, add up to `p` or more;
//! 4. **min-p**: tokens stay that are at least `min_p` times as likely as the most likely one;
//! 5. **temperature**: the logits of those left are divided by it, and one token is drawn from their softmax.
//!
//! The filters look at the model's own probabilities, since temperature comes last: raising it makes the draw among the
//! plausible tokens bolder and lets no implausible one in. (Hugging Face divides by the temperature before step 2.)
//! Temperature 0 is greedy: the most likely token after the penalty.
//!
//! The draw is a race: each token left gets an exponential waiting time at the rate of its probability, and the first one
//! wins (the Gumbel-max trick in other words), which it does with just that probability. The times are made of random numbers
//! that are a function of the seed, the number of the draw, and the token. So the same logits and seed give the same token
//! at any number of threads; and another sampler with the same seed and nearly the same logits nearly always draws the
//! same token, which is what a draft model is for ([`generate::speculate`](crate::generate::speculate)).

mod candidates;
mod rng;

pub use candidates::Candidate;
use rng::Rng;

/// How tokens are chosen. The `Default` is what Sterna uses when neither the user nor the model's files say otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingOptions {
    /// Flattens (> 1) or sharpens (< 1) the distribution; 0 is greedy.
    pub temperature: f32,
    /// How many of the most likely tokens stay; 0 is all.
    pub top_k: usize,
    /// Probability that the nucleus must reach; 1 is all.
    pub top_p: f32,
    /// Least probability relative to the most likely token; 0 is all.
    pub min_p: f32,
    /// Divides (or multiplies) the logits of recent tokens; 1 is off.
    pub repeat_penalty: f32,
    /// How many recent tokens the penalty looks at.
    pub repeat_last_n: usize,
    /// Seed of the random draws.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> SamplingOptions {
        SamplingOptions {
            temperature: 0.7,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Always the most likely token.
    pub fn greedy() -> SamplingOptions {
        SamplingOptions { temperature: 0.0, ..SamplingOptions::default() }
    }

    /// Checks each number against its range.
    ///
    /// # Errors
    /// Names the first option out of range, the range, and the value.
    pub fn validate(&self) -> Result<(), SamplingError> {
        let checks = [
            ("temperature", self.temperature, "0 or more", self.temperature >= 0.0),
            ("top_p", self.top_p, "above 0 and at most 1", self.top_p > 0.0 && self.top_p <= 1.0),
            ("min_p", self.min_p, "from 0 to 1", (0.0..=1.0).contains(&self.min_p)),
            ("repeat_penalty", self.repeat_penalty, "above 0", self.repeat_penalty > 0.0),
        ];
        for (option, found, expected, ok) in checks {
            if !ok || !found.is_finite() {
                return Err(SamplingError { option, expected, found });
            }
        }
        Ok(())
    }
}

/// A sampling option out of its range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{option} must be {expected}, found {found}")]
pub struct SamplingError {
    /// Name of the option.
    pub option: &'static str,
    /// The values it can take, in words.
    pub expected: &'static str,
    /// The value given.
    pub found: f32,
}

/// Chooses tokens. Keeps its scratch between draws, so that a draw allocates nothing.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    rng: Rng,
    /// Logits after the penalty, [vocab_size].
    penalised: Vec<f32>,
    list: Vec<Candidate>,
}

impl Sampler {
    /// # Errors
    /// [`SamplingOptions::validate`].
    pub fn new(options: SamplingOptions) -> Result<Sampler, SamplingError> {
        options.validate()?;
        let rng = Rng::new(options.seed);
        Ok(Sampler { options, rng, penalised: Vec::new(), list: Vec::new() })
    }

    /// The options in use.
    pub fn options(&self) -> &SamplingOptions {
        &self.options
    }

    /// The next token, given `logits` (`[vocab_size]`) and the tokens so far. NaN is an impossible token and +inf a certain one.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> u32 {
        if self.is_greedy() {
            self.penalise(logits, history);
            return candidates::greedy(&self.penalised);
        }
        self.distribution(logits, history);
        let draw = self.rng.draw();
        let time = |candidate: &Candidate| -draw.uniform(candidate.token).ln() / candidate.probability;
        let times = self.list.iter().map(|candidate| (time(candidate), candidate.token));
        // Only tokens without a chance wait forever, and the most likely one, which is first, has one.
        times.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(0, |(_, token)| token)
    }

    /// Becomes a sampler that draws as `other` is about to.
    pub fn follow(&mut self, other: &Sampler) {
        self.options.clone_from(&other.options);
        self.rng.clone_from(&other.rng);
    }

    /// Whether each draw has one outcome, the most likely token.
    fn is_greedy(&self) -> bool {
        self.options.temperature == 0.0
    }

    /// What [`sample`](Self::sample) draws from: the tokens left by the filters, most likely first, with probabilities that
    /// add up to 1. At temperature 0 the most likely token has all of it.
    pub fn distribution(&mut self, logits: &[f32], history: &[u32]) -> &[Candidate] {
        self.penalise(logits, history);
        let SamplingOptions { temperature, top_k, top_p, min_p, .. } = self.options;
        candidates::collect(&mut self.list, &self.penalised);
        candidates::top_k(&mut self.list, if temperature == 0.0 { 1 } else { top_k });
        candidates::top_p(&mut self.list, top_p);
        candidates::min_p(&mut self.list, min_p);
        candidates::softmax(&mut self.list, if temperature == 0.0 { 1.0 } else { temperature });
        &self.list
    }

    /// Copies the logits and lowers those of recent tokens.
    fn penalise(&mut self, logits: &[f32], history: &[u32]) {
        self.penalised.clear();
        self.penalised.extend_from_slice(logits);
        let penalty = self.options.repeat_penalty;
        if penalty == 1.0 {
            return;
        }
        let recent = &history[history.len().saturating_sub(self.options.repeat_last_n)..];
        for (i, &token) in recent.iter().enumerate() {
            if recent[..i].contains(&token) {
                continue;
            }
            if let Some(logit) = self.penalised.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }
}
