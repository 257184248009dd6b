//! HTTP: small documents, and large files that go on where they stopped.
//!
//! Redirects are followed by hand, so that each hop's target and the hub's announced checksum are seen before any
//! byte of the body is taken.

use std::io::Read;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::{Agent, Body};

use crate::StoreError;
use crate::part_file::PartFile;
use crate::plan::Wanted;

/// A host that does not answer must not hold up the next source.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest silence in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_REDIRECTS: usize = 8;
/// Requests in a row that may bring nothing new, once one of them brought something.
const MAX_FRUITLESS: usize = 3;
const BUFFER: usize = 1 << 18;

pub(crate) struct Client {
    agent: Agent,
    /// Pause before a request that repeats one that failed.
    pause: Duration,
}

/// How one request for a file ended.
enum Outcome {
    Complete,
    /// The bytes so far do not fit what the server has; they were dropped.
    Restarted,
}

impl Client {
    pub(crate) fn new() -> Self {
        let config = Agent::config_builder()
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(READ_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .timeout_per_write(Some(READ_TIMEOUT))
            .max_redirects(0)
            .http_status_as_error(false)
            // A range of a compressed body would be a range of something else.
            .accept_encoding("identity")
            .user_agent(concat!("sterna/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), pause: Duration::from_millis(500) }
    }

    /// A document of at most `limit` bytes.
    pub(crate) fn document(&self, url: &str, limit: u64) -> Result<Vec<u8>, StoreError> {
        let (url, response) = self.get(url, None, &Wanted::default())?;
        if response.status() != StatusCode::OK {
            return Err(StoreError::Status { url, status: response.status().as_u16() });
        }
        response.into_body().into_with_config().limit(limit).read_to_vec().map_err(|e| transport(&url, e))
    }

    /// Completes `part` with the file at `url`: at most `limit` bytes, exactly `wanted.size` where that is known.
    ///
    /// `on_bytes` hears of bytes here and in total. After an error the part keeps what came.
    pub(crate) fn download(
        &self,
        url: &str,
        part: &mut PartFile<'_>,
        wanted: &Wanted,
        limit: u64,
        on_bytes: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<(), StoreError> {
        // A host that never answers is given up at once, one that breaks off in the middle is asked again.
        let (mut patience, mut restarted) = (0, false);
        loop {
            let before = part.len();
            match self.request_rest(url, part, wanted, limit, on_bytes) {
                Ok(Outcome::Complete) => return part.checkpoint(),
                Ok(Outcome::Restarted) if !restarted => restarted = true,
                Ok(Outcome::Restarted) => return Err(transport(url, "the file changes while it is sent")),
                Err(error @ StoreError::Transport { .. }) => {
                    part.checkpoint()?;
                    patience = if part.len() > before { MAX_FRUITLESS } else { patience };
                    patience = patience.checked_sub(1).ok_or(error)?;
                    std::thread::sleep(self.pause);
                }
                Err(error @ (StoreError::Size { .. } | StoreError::TooLarge { .. })) => {
                    part.restart(None)?;
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn request_rest(
        &self,
        url: &str,
        part: &mut PartFile<'_>,
        wanted: &Wanted,
        limit: u64,
        on_bytes: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<Outcome, StoreError> {
        // Without a checksum or a validator nothing tells whether the rest belongs to the beginning.
        if part.len() > 0 && wanted.sha256.is_none() && part.etag().is_none() {
            part.restart(None)?;
        }
        if wanted.size.is_some_and(|size| part.len() == size) {
            return Ok(Outcome::Complete);
        }
        let offset = part.len();
        let range = (offset > 0).then(|| (offset, part.etag().map(str::to_owned)));
        let (url, response) = self.get(url, range, wanted)?;
        let headers = response.headers();
        let total = match response.status() {
            StatusCode::OK => {
                part.restart(strong_etag(headers))?;
                number(headers, header::CONTENT_LENGTH)
            }
            StatusCode::PARTIAL_CONTENT => match content_range(headers) {
                Some((start, total)) if start == offset => total,
                _ => return Err(transport(&url, "the server sent another range than asked for")),
            },
            StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                part.restart(None)?;
                return Ok(Outcome::Restarted);
            }
            status => return Err(StoreError::Status { url, status: status.as_u16() }),
        };
        check_total(&url, wanted, total, limit)?;
        let total = wanted.size.or(total);
        let limit = total.unwrap_or(limit);
        let mut reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            on_bytes(part.len(), total);
            let n = reader.read(&mut buffer).map_err(|e| transport(&url, e))?;
            if n == 0 {
                break;
            }
            if part.len() + n as u64 > limit {
                return Err(match total {
                    Some(expected) => StoreError::Size { what: url, expected, found: part.len() + n as u64 },
                    None => StoreError::TooLarge { what: url, limit },
                });
            }
            part.append(&buffer[..n])?;
            part.checkpoint_now_and_then()?;
        }
        match total {
            Some(total) if part.len() < total => {
                Err(transport(&url, format!("the connection ended at {} of {total} bytes", part.len())))
            }
            _ => Ok(Outcome::Complete),
        }
    }

    /// Sends a request and follows redirects; gives the final address too.
    fn get(
        &self,
        url: &str,
        range: Option<(u64, Option<String>)>,
        wanted: &Wanted,
    ) -> Result<(String, Response<Body>), StoreError> {
        let mut url = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&url);
            if let Some((offset, etag)) = &range {
                request = request.header(header::RANGE, format!("bytes={offset}-"));
                if let Some(etag) = etag {
                    request = request.header(header::IF_RANGE, etag);
                }
            }
            let response = request.call().map_err(|e| transport(&url, e))?;
            check_announcement(&url, response.headers(), wanted)?;
            if !response.status().is_redirection() {
                return Ok((url, response));
            }
            let to =
                response.headers().get(header::LOCATION).and_then(|to| to.to_str().ok()).unwrap_or_default();
            url = redirect_target(&url, to).map_err(|why| StoreError::Redirect {
                url: url.clone(),
                to: to.chars().take(200).collect(),
                why,
            })?;
        }
        Err(transport(&url, format!("more than {MAX_REDIRECTS} redirects")))
    }
}

/// The hub tells size and SHA-256 of a large file before it sends it; a wrong file is not worth its download.
fn check_announcement(url: &str, headers: &HeaderMap, wanted: &Wanted) -> Result<(), StoreError> {
    let announced = headers.get("x-linked-etag").and_then(|value| value.to_str().ok());
    let announced =
        announced.map(|value| value.trim_matches('"')).filter(|value| crate::digest::is_sha256(value));
    match (announced, &wanted.sha256) {
        (Some(found), Some(expected)) if found != expected => Err(StoreError::Checksum {
            what: url.to_owned(),
            expected: expected.clone(),
            found: found.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn check_total(url: &str, wanted: &Wanted, total: Option<u64>, limit: u64) -> Result<(), StoreError> {
    match (wanted.size, total) {
        (Some(expected), Some(found)) if expected != found => {
            Err(StoreError::Size { what: url.to_owned(), expected, found })
        }
        (None, Some(found)) if found > limit => Err(StoreError::TooLarge { what: url.to_owned(), limit }),
        _ => Ok(()),
    }
}

/// Where a redirect leads: `http` or `https` only, and never from `https` back to `http`.
fn redirect_target(from: &str, to: &str) -> Result<String, &'static str> {
    let (scheme, rest) = from.split_once("://").ok_or("the first address has no scheme")?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    if to.is_empty() {
        return Err("it says no address");
    }
    if let Some(path) = to.strip_prefix("//") {
        return Ok(format!("{scheme}://{path}"));
    }
    if to.starts_with('/') {
        return Ok(format!("{scheme}://{host}{to}"));
    }
    match to.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
        Some("https") => Ok(to.to_owned()),
        Some("http") if scheme.eq_ignore_ascii_case("http") => Ok(to.to_owned()),
        Some("http") => Err("it leaves https"),
        _ => Err("neither http nor https"),
    }
}

fn strong_etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(header::ETAG)?.to_str().ok()?;
    (etag.starts_with('"') && etag.len() <= 256).then(|| etag.to_owned())
}

fn number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

/// `bytes START-END/TOTAL`, as START and TOTAL.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

fn transport(url: &str, message: impl ToString) -> StoreError {
    StoreError::Transport { url: url.to_owned(), message: message.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        let from = "https://hub.example/a/b?c";
        assert_eq!(redirect_target(from, "/x?y").unwrap(), "https://hub.example/x?y");
        assert_eq!(redirect_target(from, "//cdn.example/x").unwrap(), "https://cdn.example/x");
        assert_eq!(redirect_target(from, "https://cdn.example/x").unwrap(), "https://cdn.example/x");
        assert_eq!(redirect_target("http://a:1/", "http://b/").unwrap(), "http://b/");
        for to in ["http://cdn.example/x", "file:///etc/passwd", "ftp://a/b", "javascript:x", "", "b"] {
            assert!(redirect_target(from, to).is_err(), "{to}");
        }
    }

    #[test]
    fn ranges() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, text.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(parse("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(parse("bytes 5-9/*"), Some((5, None)));
        for text in ["", "bytes", "bytes */10", "bytes a-b/c", "items 0-1/2", "bytes -1-2/3"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
