//! A tiny HTTP/1.1 server on the loopback interface that answers as a test tells it to.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    /// First byte of the range asked for.
    pub(crate) range_from: Option<usize>,
    pub(crate) if_range: Option<String>,
}

/// A status, or a body served as a proper server does it, unless told otherwise.
#[derive(Default)]
pub(crate) struct Answer {
    status: Option<u16>,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    etag: Option<&'static str>,
    ignores_ranges: bool,
    cut_after: Option<usize>,
}

impl Answer {
    pub(crate) fn file(body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    pub(crate) fn redirect(to: &str) -> Self {
        Self::status(302).header("Location", to)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn etag(mut self, etag: &'static str) -> Self {
        self.etag = Some(etag);
        self
    }

    pub(crate) fn ignoring_ranges(mut self) -> Self {
        self.ignores_ranges = true;
        self
    }

    /// Announces everything and hangs up after so many bytes.
    pub(crate) fn cut_after(mut self, n: usize) -> Self {
        self.cut_after = Some(n);
        self
    }

    fn send(mut self, request: &Seen, stream: &mut TcpStream) -> std::io::Result<()> {
        let total = self.body.len();
        let same = request.if_range.as_deref().is_none_or(|asked| Some(asked) == self.etag);
        let from = request.range_from.filter(|_| same && !self.ignores_ranges && self.status.is_none());
        let status = match from {
            Some(from) if from >= total => {
                self.body.clear();
                416
            }
            Some(from) => {
                let last = total - 1;
                self.headers.push(("Content-Range", format!("bytes {from}-{last}/{total}")));
                self.body.drain(..from);
                206
            }
            None => self.status.unwrap_or(200),
        };
        self.headers.extend(self.etag.map(|etag| ("ETag", etag.to_owned())));
        let headers: String =
            self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = self.body.len();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        stream.write_all(&self.body[..self.cut_after.unwrap_or(length).min(length)])?;
        stream.flush()
    }
}

pub(crate) struct Server {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// `answer` gets each request and how many there were before it.
    pub(crate) fn start(answer: impl Fn(&Seen, usize) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let request = read_request(&stream);
                let before = log.lock().unwrap().len();
                log.lock().unwrap().push(request.clone());
                // The client may hang up early; that is its right.
                let _ = answer(&request, before).send(&request, &mut stream);
            }
        });
        Self { address, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// First byte asked for, per request.
    pub(crate) fn ranges(&self) -> Vec<Option<usize>> {
        self.seen().iter().map(|seen| seen.range_from).collect()
    }
}

fn read_request(stream: &TcpStream) -> Seen {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next().unwrap_or_default();
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut seen = Seen { path, range_from: None, if_range: None };
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                seen.range_from =
                    value.strip_prefix("bytes=").and_then(|range| range.strip_suffix('-')?.parse().ok());
            }
            "if-range" => seen.if_range = Some(value.to_owned()),
            _ => {}
        }
    }
    seen
}
