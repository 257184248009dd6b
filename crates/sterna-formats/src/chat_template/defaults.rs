//! Templates for files that bring none, chosen by the special tokens of their vocabulary.
//!
//! Conversions lose the template easily, and these tokens are in a vocabulary only because the model was trained
//! with the format that they belong to.

use crate::tokenizer::Tokenizer;

const CHATML: &str = "\
{% for message in messages %}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Gemma knows no system role: what it would say goes before the first message.
const GEMMA: &str = "\
{{ bos_token }}
{%- set system = messages[0].content + '\\n\\n' if messages[0].role == 'system' else '' %}
{%- for message in (messages[1:] if system else messages) %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
{{- (system if loop.first else '') + message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";

const LLAMA3: &str = "\
{{ bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";

const PHI3: &str = "\
{% for message in messages %}
{{ '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}";

/// The special tokens that tell a format, and its template.
const FORMATS: [(&[&str], &str); 4] = [
    (&["<start_of_turn>", "<end_of_turn>"], GEMMA),
    (&["<|start_header_id|>", "<|eot_id|>"], LLAMA3),
    (&["<|im_start|>", "<|im_end|>"], CHATML),
    (&["<|assistant|>", "<|end|>"], PHI3),
];

/// The template that goes with the vocabulary, if its tokens tell.
pub(super) fn for_vocabulary(tokenizer: &Tokenizer) -> Option<&'static str> {
    let special = tokenizer.special_tokens();
    let has = |text: &&str| special.iter().any(|token| token.content == *text);
    FORMATS.iter().find(|(tokens, _)| tokens.iter().all(has)).map(|(_, template)| *template)
}

#[cfg(test)]
mod tests {
    use super::super::{ChatTemplate, Message, RenderOptions};
    use super::*;

    #[test]
    fn conversations_are_written_as_the_families_write_them() {
        let messages = [
            Message::new("system", "Be brief."),
            Message::new("user", " Hi "),
            Message::new("assistant", "Hello"),
            Message::new("user", "Bye"),
        ];
        let render = |source: &str, messages: &[Message]| {
            let template = ChatTemplate::new("test", source, "<bos>", "<eos>").unwrap();
            template.render(messages, &RenderOptions::reply()).unwrap()
        };
        assert_eq!(
            render(CHATML, &messages),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n<|im_start|>assistant\nHello\
             <|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
        );
        assert_eq!(
            render(GEMMA, &messages),
            "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n\
             <start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"
        );
        assert_eq!(
            render(GEMMA, &messages[1..2]),
            "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"
        );
        assert_eq!(
            render(LLAMA3, &messages[..2]),
            "<bos><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user\
             <|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        );
        assert_eq!(
            render(PHI3, &messages[1..3]),
            "<|user|>\n Hi <|end|>\n<|assistant|>\nHello<|end|>\n<|assistant|>\n"
        );
    }
}
