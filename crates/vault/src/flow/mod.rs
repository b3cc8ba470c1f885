//! The flows: one operation a file, from start to end, told as numbered steps in its header.

pub mod accounts;
pub mod complete;
pub mod connect;
mod exchange;
pub(crate) mod refresh;
mod worker;
