//! The store from outside: local files, a server on the loopback interface, a stand-in for `pip`.
#![forbid(unsafe_code)]

mod http;
mod local;
mod server;
#[cfg(unix)]
mod sources;
