//! Administration from the command line: of a running vault over HTTP, or of the one on this machine in this process.
//!
//! Both ways end in the same requests to the Management API, so that the command line can do nothing that the API cannot,
//! and says the same where something is refused.

pub(crate) mod configuration;
pub(crate) mod connect;
pub(crate) mod doctor;
pub(crate) mod exchange;
mod fields;
pub(crate) mod logs;
pub(crate) mod output;
pub(crate) mod profile;
pub(crate) mod resource;
pub(crate) mod secret_input;
pub(crate) mod target;
pub(crate) mod transport;
