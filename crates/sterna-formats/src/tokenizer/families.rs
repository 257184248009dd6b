//! How each family of byte-level tokenizers cuts text, by the name that GGUF files give in `tokenizer.ggml.pre`.
//!
//! The names are llama.cpp's; the patterns are those of the families' own `tokenizer.json` files, which a GGUF
//! file does not carry. Where llama.cpp cuts differently from Hugging Face (case folding in contractions,
//! letter case in tekken and gpt-4o, NFC) this follows Hugging Face, as that is what the models were trained
//! with.

use super::cut::{ByteLevel, Cut, Cutter, Normalize};

/// What a GGUF file leaves out about its byte-level tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family {
    /// Patterns whose matches are cut out, one after another.
    pub(super) cuts: &'static [&'static str],
    /// Whether text is brought to Unicode form C first.
    pub(super) nfc: bool,
    /// Whether a word that is a token is taken whole, past the merges.
    pub(super) whole_words: bool,
    /// Whether a BOS token is put first when the file does not say.
    pub(super) add_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const YOUTU: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const KIMI_K2: &str = r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const MINICPM5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const JAIS2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const CJK_AND_KANA: &str = "[一-龥぀-ゟ゠-ヿ]+";
const UP_TO_3_DIGITS: &str = r"\p{N}{1,3}";
const DIGIT: &str = r"\p{N}";
const TRIPLE: &str = "[0-9][0-9][0-9]";
/// Cased letters of the first DeepSeek tokenizer, as its `tokenizer.json` lists them.
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1F7D}ᾀ-ᾴᾶ-ᾼ\x{1FBE}ῂ-ῄῆ-ῌῐ-\x{1FD3}ῖ-\x{1FDB}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212A}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const DEEPSEEK_CJK: &str = "[一-龥ࠀ-一가-퟿]+";

/// The family named `name`, unless it is unknown.
pub(super) fn family(name: &str) -> Option<Family> {
    let cut = |cuts| Family { cuts, nfc: false, whole_words: false, add_bos: false };
    let nfc = |cuts| Family { nfc: true, ..cut(cuts) };
    let whole = |cuts| Family { whole_words: true, ..cut(cuts) };
    Some(match name {
        // Files from before the key existed: llama.cpp's guess.
        "default" => cut(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", TRIPLE]),
        "gpt-2" | "gpt2" | "phi-2" | "jais" | "trillion" | "granite-docling" | "jina-es" | "jina-de"
        | "jina-v1-en" | "jina-v2-es" | "jina-v2-de" | "jina-v2-code" | "roberta-bpe" | "gigachat"
        | "a.x-4.0" | "mellum" | "exaone4" => cut(&[GPT2]),
        "mpt" | "olmo" | "modern-bert" => nfc(&[GPT2]),
        "smollm" | "starcoder" | "refact" | "codeshell" | "exaone" | "minerva-7b" | "mellum2" => {
            cut(&[DIGIT, GPT2])
        }
        "command-r" => nfc(&[DIGIT, GPT2]),
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => Family { add_bos: true, ..whole(&[LLAMA3]) },
        "dbrx" | "smaug-bpe" | "glm4" | "chatglm-bpe" => cut(&[LLAMA3]),
        "jais-2" => cut(&[JAIS2]),
        "qwen2" | "deepseek-r1-qwen" | "megrez" | "kormo" | "f2llmv2" => nfc(&[QWEN2]),
        "qwen35" => nfc(&[QWEN35]),
        "stablelm2" | "hunyuan" | "solar-open" | "grok-2" => cut(&[QWEN2]),
        "laguna" => cut(&[r"[^\n]+|[\n]+", QWEN2]),
        "deepseek-llm" => cut(&[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
            r"\s+$",
            DEEPSEEK_CJK,
            r"\p{N}+",
        ]),
        "deepseek-coder" => cut(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_CJK, DIGIT]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" | "hy_v4" => {
            cut(&[UP_TO_3_DIGITS, CJK_AND_KANA, DEEPSEEK3])
        }
        "youtu" => whole(&["[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", YOUTU]),
        "falcon" => cut(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, TRIPLE]),
        "tekken" => Family { add_bos: true, ..whole(&[TEKKEN]) },
        "gpt-4o" | "llama4" | "kanana2" | "talkie" | "minimax-m2" => cut(&[GPT4O]),
        "tiny_aya" | "cohere2moe" => cut(&[r"\d{1,3}(?=(?:\d{3})*\b)", GPT4O]),
        "kimi-k2" => cut(&[KIMI_K2]),
        "superbpe" => cut(&[r"\p{N}+", r"(?=(\d{3})+(?!\d))"]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => cut(&[BAILING]),
        "seed-coder" => cut(&[SEED_CODER]),
        "exaone-moe" => cut(&[EXAONE_MOE]),
        "minicpm5" => whole(&[UP_TO_3_DIGITS, MINICPM5]),
        "bloom" | "poro-chat" | "gpt3-finnish" => cut(&[BLOOM]),
        "viking" => cut(&[BLOOM, DIGIT]),
        _ => return None,
    })
}

/// A name for each way to cut; of several names one that most runtimes know.
const NAMES: [&str; 26] = [
    "gpt-2",
    "olmo",
    "smollm",
    "command-r",
    "llama-bpe",
    "dbrx",
    "jais-2",
    "qwen2",
    "qwen35",
    "stablelm2",
    "laguna",
    "deepseek-llm",
    "deepseek-coder",
    "deepseek-v3",
    "youtu",
    "falcon",
    "tekken",
    "gpt-4o",
    "tiny_aya",
    "kimi-k2",
    "superbpe",
    "seed-coder",
    "exaone-moe",
    "minicpm5",
    "bloom",
    "viking",
];

/// A text that every family cuts in a way of its own.
pub(super) const PROBE: &str = "I'LL say: don't,  \u{e9}e\u{301} World's\r\n\n  x += 12345678; // 漢字かなKana 안녕 Привет \t\
    \u{301}a's `code` fooBarBAZ #tag/path 3.14 (a) [b]!\n\n\n end\u{3000}of\u{a0}text\n/ ৪৫       six  78 ";

/// The name of the family that cuts text as `cutter` does.
pub(super) fn name_of(cutter: &Cutter, whole_words: bool) -> Option<&'static str> {
    let words = |cutter: &Cutter| {
        let mut words = Vec::new();
        let cut = cutter.words(&cutter.normalize(PROBE, true), |word| words.push(word.to_owned()));
        cut.ok().map(|()| words)
    };
    let byte_level = cutter.byte_level.as_ref()?;
    let wanted = words(cutter)?;
    NAMES.into_iter().find(|name| {
        let Some(family) = family(name).filter(|family| family.whole_words == whole_words) else {
            return false;
        };
        let cutter = family.cutter(byte_level.add_prefix_space);
        cutter.ok().and_then(|cutter| words(&cutter)).as_ref() == Some(&wanted)
    })
}

impl Family {
    /// The steps from text to words.
    ///
    /// # Errors
    /// When a pattern does not compile.
    pub(super) fn cutter(&self, add_prefix_space: bool) -> Result<Cutter, fancy_regex::Error> {
        Ok(Cutter {
            normalize: if self.nfc { vec![Normalize::Nfc] } else { Vec::new() },
            cuts: self.cuts.iter().map(|cut| Cut::isolate(cut)).collect::<Result<_, _>>()?,
            byte_level: Some(ByteLevel { add_prefix_space, cut: None }),
        })
    }
}

/// Name of the family whose patterns are GPT-2's, cut by `ByteLevel` itself in `tokenizer.json`.
pub(super) const GPT2_PATTERN: &str = GPT2;

#[cfg(test)]
mod tests {
    use super::*;

    fn words(name: &str, text: &str) -> Vec<String> {
        let family = family(name).unwrap();
        let cuts = family.cuts.iter().map(|cut| Cut::isolate(cut).unwrap()).collect();
        let mut words = Vec::new();
        Cutter { cuts, ..Cutter::default() }.words(text, |word| words.push(word.to_owned())).unwrap();
        words
    }

    #[test]
    fn every_pattern_compiles_and_keeps_all_text() {
        let text = "I'LL say: hello,  world!\r\n\n  x += 12345; // é 漢字かな 안녕 ГД \t\u{301}a's  ";
        for name in NAMES {
            assert_eq!(words(name, text).concat(), text, "{name}");
        }
        assert_eq!(family("no-such"), None);
    }

    #[test]
    fn the_probe_tells_all_families_apart() {
        for name in NAMES {
            let family = family(name).unwrap();
            for add_prefix_space in [false, true] {
                let cutter = family.cutter(add_prefix_space).unwrap();
                assert_eq!(name_of(&cutter, family.whole_words), Some(name));
            }
        }
        let by_letter = Cutter {
            cuts: vec![Cut::isolate(".").unwrap()],
            ..family("gpt-2").unwrap().cutter(false).unwrap()
        };
        assert_eq!(name_of(&by_letter, false), None);
    }

    #[test]
    fn families_cut_as_their_tokenizers_do() {
        assert_eq!(words("gpt-2", "I'll pay 1234  now"), ["I", "'ll", " pay", " 1234", " ", " now"]);
        assert_eq!(words("smollm", "a 1234"), ["a", " ", "1", "2", "3", "4"]);
        assert_eq!(
            words("qwen2", "I'LL (pay) 12\n\n x"),
            ["I", "'LL", " (", "pay", ")", " ", "1", "2", "\n\n", " x"]
        );
        assert_eq!(words("llama-bpe", "x=1234567"), ["x", "=", "123", "456", "7"]);
        assert_eq!(words("tekken", "fooBarBAZ"), ["foo", "Bar", "BAZ"]);
        assert_eq!(words("gpt-4o", "don't DON'T 1234"), ["don't", " DON'T", " ", "123", "4"]);
        assert_eq!(words("falcon", "a==12345"), ["a", "==", "123", "45"]);
        assert_eq!(words("deepseek-v3", "12345漢字x(y"), ["123", "45", "漢字", "x", "(y"]);
        assert_eq!(words("deepseek-coder", "a 12\n"), ["a", " ", "1", "2", "\n"]);
        assert_eq!(words("superbpe", "a b 1234567"), ["a b ", "1", "234", "567"]);
        assert_eq!(words("kimi-k2", "漢字Hello"), ["漢字", "Hello"]);
    }
}
