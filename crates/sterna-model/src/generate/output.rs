//! The text of an answer on its way from tokens to whoever reads it.

use sterna_formats::{TokenStream, Tokenizer};

use super::{Event, StopStrings};

/// The text of the generated tokens on its way out.
pub(super) struct Output<'a> {
    stream: TokenStream<'a>,
    sink: Sink<'a>,
}

/// Text on its way past the stop strings.
struct Sink<'a> {
    stop: StopStrings,
    stopped: bool,
    text: String,
    on_event: &'a mut dyn FnMut(Event<'_>),
}

impl<'a> Output<'a> {
    pub(super) fn new(
        tokenizer: &'a Tokenizer,
        stop: &[String],
        on_event: &'a mut dyn FnMut(Event<'_>),
    ) -> Output<'a> {
        let sink = Sink { stop: StopStrings::new(stop), stopped: false, text: String::new(), on_event };
        Output { stream: tokenizer.stream().skip_special(), sink }
    }

    /// Takes a token; true if it completed a stop string.
    pub(super) fn push(&mut self, token: u32) -> bool {
        if let Some(piece) = self.stream.push(token) {
            self.sink.push(&piece);
        }
        self.sink.stopped
    }

    /// Lets out the bytes of an unfinished character and what might have become a stop string.
    pub(super) fn finish(mut self) -> String {
        if !self.sink.stopped
            && let Some(rest) = self.stream.finish()
        {
            self.sink.push(&rest);
        }
        let held = self.sink.stop.finish();
        self.sink.emit(&held);
        self.sink.text
    }
}

impl Sink<'_> {
    fn push(&mut self, piece: &str) {
        let released = self.stop.push(piece);
        self.stopped = released.stopped;
        self.emit(&released.text);
    }

    fn emit(&mut self, text: &str) {
        if !text.is_empty() {
            self.text.push_str(text);
            (self.on_event)(Event::Text(text));
        }
    }
}
