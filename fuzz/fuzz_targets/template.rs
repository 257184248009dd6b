//! Chat templates: any text is refused, or renders within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sterna_formats::{ChatTemplate, Message, RenderOptions};

fuzz_target!(|data: &[u8]| {
    let source = String::from_utf8_lossy(data);
    let Ok(template) = ChatTemplate::new("template", source, "<s>", "</s>") else { return };
    let messages = [Message::new("system", "Be brief."), Message::new("user", "Hi")];
    let _ = template.render(&messages, &RenderOptions::reply());
});
