//! A checkpoint of random weights in the shape of a large model, to see what memory and time a verb takes on it.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Map, Value, json};

use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder to write
    directory: PathBuf,
    /// Blocks; a model of 7 billion weights has 32
    #[arg(long, default_value_t = 32)]
    blocks: usize,
    /// Width of the residual stream
    #[arg(long, default_value_t = 4096)]
    hidden: usize,
    /// Width inside the feed-forward networks
    #[arg(long, default_value_t = 11008)]
    intermediate: usize,
    /// Heads of attention
    #[arg(long, default_value_t = 32)]
    heads: usize,
    /// Tokens
    #[arg(long, default_value_t = 32000)]
    vocab: usize,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Args { directory, blocks, hidden, intermediate, heads, vocab } = args;
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float16",
        "num_hidden_layers": blocks, "hidden_size": hidden, "intermediate_size": intermediate,
        "num_attention_heads": heads, "num_key_value_heads": heads, "vocab_size": vocab,
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": false,
    });
    fs::write(directory.join("config.json"), config.to_string())?;
    let tokenizer = workspace::root().join("tests/fixtures/tokenizers/byte_level.json");
    fs::copy(tokenizer, directory.join("tokenizer.json"))?;
    let path = directory.join("model.safetensors");
    write(&path, &tensors(args)).with_context(|| format!("cannot write {}", path.display()))?;
    crate::print(format_args!("{}\n", directory.display()))
}

/// Names and shapes.
fn tensors(args: &Args) -> Vec<(String, Vec<usize>)> {
    let &Args { blocks, hidden, intermediate, vocab, .. } = args;
    let named = |name: &str, shape: &[usize]| (name.to_owned(), shape.to_vec());
    let mut tensors = vec![named("model.embed_tokens.weight", &[vocab, hidden])];
    for i in 0..blocks {
        let mut add = |name: &str, shape: &[usize]| {
            tensors.push(named(&format!("model.layers.{i}.{name}.weight"), shape));
        };
        add("input_layernorm", &[hidden]);
        for name in ["q", "k", "v", "o"] {
            add(&format!("self_attn.{name}_proj"), &[hidden, hidden]);
        }
        add("post_attention_layernorm", &[hidden]);
        add("mlp.gate_proj", &[intermediate, hidden]);
        add("mlp.up_proj", &[intermediate, hidden]);
        add("mlp.down_proj", &[hidden, intermediate]);
    }
    tensors.push(named("model.norm.weight", &[hidden]));
    tensors.push(named("lm_head.weight", &[vocab, hidden]));
    tensors
}

/// A safetensors file of half floats: 1 in norms, else random numbers as large as weights are.
fn write(path: &Path, tensors: &[(String, Vec<usize>)]) -> std::io::Result<()> {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.clone(), entry);
    }
    let mut header = Value::Object(header).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for (_, shape) in tensors {
        for _ in 0..shape.iter().product::<usize>() {
            // Xorshift (Marsaglia 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Any sign and fraction, with an exponent for 1/128 to 1/32.
            let random = (state >> 48) as u16 & 0x87ff | 8 << 10;
            let bits = if shape.len() == 1 { 0x3c00 } else { random };
            file.write_all(&bits.to_le_bytes())?;
        }
    }
    file.into_inner()?.sync_all()
}
