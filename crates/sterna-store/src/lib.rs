//! Distribution: the catalogue of known models, bringing models to this machine, finding and removing them.
//!
//! A [`Store`] is a directory with one readable sub-directory per model, each with its files and a `manifest.json`.
//! A model is published by one rename of a finished directory, so whatever happens, a name in the store is whole or
//! absent. The network is touched by [`Store::pull`] only.
#![forbid(unsafe_code)]

mod catalogue;
mod digest;
mod disk;
mod error;
#[cfg(test)]
mod faults;
mod http;
mod hub;
mod lock;
mod manifest;
mod name;
mod part_file;
mod pip;
mod plan;
mod progress;
mod pull;
mod request;
mod shards;
mod store;

pub use catalogue::{CATALOGUE, Entry, Part, Source};
pub use error::StoreError;
pub use manifest::{FileRecord, Manifest};
pub use name::ModelName;
pub use progress::{Progress, Stage};
pub use pull::{PullOptions, Pulled};
pub use request::{HubRequest, Request};
pub use store::{Installed, Store};
